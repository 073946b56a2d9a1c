"""Addresses, domains, patterns and mailbox names: their one normal form, and what matches what.

Everything that compares addresses goes through here: the command line, the importers and the daemon.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

import idna

from policyd.errors import AddressError
from policyd.model import GROUP_PREFIX, RESERVED_WORDS, Party, PartyKind, new_tuple

NULL_SENDER = "<>"

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What is in normal form, and to Postfix no other domain and no number.
_PLAIN_DOMAIN = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*(?<![0-9])")
_LEADING_ZEROS = re.compile(r"\b0+(?=[0-9])")
_OCTAL = re.compile(r"\b0[0-7]+\b")
_SCANNED = re.compile(r'\\(.?)|["\t-\r ]', re.DOTALL)  # what is gone once a domain has been parsed as RFC 822 has it
_LABEL_LIMIT = 63
_SCHEME = re.compile(r"(?:smtp|mailto):", re.IGNORECASE)
_SEPARATED = re.compile(r"[\s,;]")
_BETWEEN_WORDS = re.compile(r"[,;]")
_WITHOUT_ANGLES = "type it without < and >"
_LISTED = re.compile(r"""[\s",;]""")  # blanks separate words; people take the others for separators, too
_WILDCARD = re.compile(r"[*?]")
_UNSCANNED = r"\1"
_ATOM = r"[^\x00-\x20\x7f\"(),.:;<>@\[\]\\]++"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*+")
# Without blanks of any script, which separate what people type, the two that people mean as wildcards, and the unseen.
_UNSEEN = "\u00ad\u180e\u200b\u2060\u2061\u2062\u2063\u2064\ufeff"  # what people paste and do not see
_LOST = "\ufffd"  # stands for what was no text
_TYPED_ATOM = rf"[^\s\x00-\x1f\x7f\"(),.:;<>@\[\]\\*?{_UNSEEN}{_LOST}]++"
_TYPED_PLAIN = re.compile(rf"{_TYPED_ATOM}(?:\.{_TYPED_ATOM})*+")
_DOMAIN_LIMIT = 253  # bytes; RFC 1035 §2.3.4 less the root label
_KEPT_LENGTH = 2 * _DOMAIN_LIMIT  # characters; a longer domain, which may be hostile, is looked at each time
_LOCAL_LIMIT = 1024  # characters; RFC 5321 §4.5.3.1.1 says 64, VERP and IMCEA take more
_LINE_LIMIT = 2048  # characters; Postfix takes no longer line: postconf(5), line_length_limit
_NAME_LIMIT = 256
_UNSPLIT = frozenset({"postmaster", "mailer-daemon", "double-bounce"})
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NO_DOMAIN = '\\" \t'  # of which alone Postfix makes no domain
_BATV = re.compile(r"prvs=[^=]+=(?=.)", re.IGNORECASE | re.DOTALL)
_IMCEA = re.compile(r"imcea([a-z0-9]{1,8})-(.*)", re.DOTALL)
_IMCEA_PIECE = re.compile(r"(?:[a-z0-9=-]|\+[0-9a-f]{2})*")
_IMCEA_BYTE = re.compile(rb"\+([0-9a-f]{2})")


class EmailAddress(NamedTuple):
    """An address in normal form.

    `local` is its whole local part, `base` the one without the extension, "" where there is no extension. Either is ""
    if no mailbox can have it (empty, not UTF-8, or too long). A `domain` of "" is an address without a domain.
    """

    local: str
    domain: str
    base: str = ""

    def __str__(self) -> str:
        local = self.local or self.base
        return f"{local}@{self.domain}" if self.domain or "@" in local else local

    @property
    def locals(self) -> tuple[str, ...]:
        """The local parts under which it is looked up, in this order: with its extension, and without."""
        if not self.base:
            return (self.local,) if self.local else ()
        return (self.local, self.base) if self.local else (self.base,)


@dataclass(frozen=True, slots=True)
class Encapsulated:
    """What an IMCEA address holds: its type in lower case, and the text between the slashes.

    The pieces are as they were encoded; lone surrogates stand for bytes that are not UTF-8. No `pieces` at all means
    that the encoding is broken.
    """

    kind: str
    pieces: tuple[str, ...]

    @property
    def common_name(self) -> str:
        """The last CN of an Exchange distinguished name, folded; "" where there is none."""
        if self.kind != "ex" or self.pieces[:1] != ("",) or not all(map(_is_utf8, self.pieces)):
            return ""
        names = [value for key, _, value in (fold(piece).partition("=") for piece in self.pieces) if key == "cn"]
        return names[-1] if names else ""

    @property
    def smtp_address(self) -> str:
        """The address inside an IMCEASMTP address, "" for other types."""
        return "/".join(self.pieces) if self.kind == "smtp" else ""


def fold(text: str) -> str:
    """*text* as local parts and names are compared: case-folded, Unicode NFC.

    Whatever Postfix takes for one, which folds and does not normalise, is one here: so the text is folded as it came,
    and once more when it is decomposed, so that folding twice changes nothing.
    Source: The Unicode Standard §3.13, D145.
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text.casefold()).casefold())


def normal_text(text: str, what: str) -> str:
    """*text* in NFC, if it fits on one line of a log, a reply and a terminal.

    Raises AddressError, naming it as *what*, for control characters, bidirectional controls, line
    separators and bytes that are not UTF-8.
    """
    if text.isascii() and text.isprintable():
        return text
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI_CONTROLS:
            shown = ascii(text if len(text) < 80 else text[:80] + "…")
            raise AddressError(f"{what} {shown} holds a control character; type it without")
    return unicodedata.normalize("NFC", text)


@lru_cache(maxsize=4096)  # a million addresses are in few domains
def normal_domain(text: str) -> str:
    """A domain in lower case, as A-labels, without a trailing dot; an address literal as `ipaddress` writes it.

    Raises AddressError for what can't be a domain in an address.
    Source: RFC 5321 §4.1.2 and §4.1.3; RFC 5891; UTS 46, without transitional processing.
    """
    shown = ascii(text[:100])
    if len(text) > 2 * _DOMAIN_LIMIT:
        raise AddressError(f"{shown}… is too long for a domain; a domain has at most {_DOMAIN_LIMIT} characters")
    if text.startswith("["):
        return _normal_literal(text)
    try:
        mapped = text.lower() if text.isascii() else idna.uts46_remap(text, std3_rules=False)
        labels = mapped.removesuffix(".").split(".")
        domain = ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    except (idna.IDNAError, UnicodeError) as error:
        raise AddressError(f"{shown} is not a domain: {error}") from error
    if not _is_domain(domain):
        raise AddressError(f"{shown} is not a domain; a domain looks like example.com")
    return domain


def domain_for_postfix(text: str) -> str:
    """The domain, in normal form, for which Postfix takes *text*, the domain of an address as it sends it; "" for none.

    Postfix parses the domain of a parsed address once more, compares domains by their full case folding, reads a number
    with a leading zero as octal, and can be told to take an address without brackets for a literal.
    Source: resolve_addr() in trivial-rewrite, resolve_local(), casefold(); postconf(5), resolve_numeric_domain.
    """
    if len(text) <= _KEPT_LENGTH:
        return _domain_for_postfix(text)
    return _domain_for_postfix.__wrapped__(text) if len(text) <= _LINE_LIMIT else ""


def normal_realm(text: str) -> str:
    """The realm of a login as realms are compared: without case, a domain in its normal form. Never raises."""
    try:
        return normal_domain(text)
    except AddressError:
        return fold(text)


def unicode_domain(domain: str) -> str:
    """A domain in normal form as people write it, with U-labels."""
    labels = domain.split(".")
    try:
        return ".".join(idna.ulabel(label) if label.startswith("xn--") else label for label in labels)
    except idna.IDNAError:
        return domain


def split_address(text: str, origin: str = "", delimiters: str = "") -> EmailAddress:
    """An address as Postfix sends it (internal form, unquoted) in normal form. Never raises.

    *origin* is added where there is no domain; *delimiters* split an extension off. A domain that has no normal form
    is kept as it came: it is no managed domain.
    """
    return address_forms(text, origin, delimiters)[0]


def address_forms(text: str, origin: str = "", delimiters: str = "") -> tuple[EmailAddress, ...]:
    """The address of `split_address`, and after it the one for which Postfix takes *text*, if that is another."""
    local, at, domain = text.rpartition("@")
    if not at:
        local, domain = domain, origin
    normal, other = _domain_forms(domain) if len(domain) <= _KEPT_LENGTH else _domain_forms.__wrapped__(domain)
    if not normal and origin:
        normal, other = _domain_forms(origin)
    # The extension is split off before anything else is done: it may be no text at all, and folding may make one
    # character of the delimiter and what follows.
    base, extension = split_extension(local, delimiters)
    base = "" if extension is None else _normal_local(base)
    address = new_tuple(EmailAddress, (_normal_local(local), normal, base))
    return (address, address._replace(domain=other)) if other else (address,)


def is_dot_string(text: str) -> bool:
    """Whether a local part needs no quotes. Source: RFC 5321 §4.1.2."""
    return _DOT_STRING.fullmatch(text) is not None


def has_domain(text: str) -> bool:
    """Whether an address as Postfix sends it, or a login, says in which domain it is."""
    _, at, domain = text.rpartition("@")
    return bool(at and domain.strip(_NO_DOMAIN))


def without_batv(text: str) -> str:
    """The address that *text*, as Postfix sends it, is without its BATV tag; "" where it has none.

    Source: draft-levine-smtp-batv-01 §4.2, where it is `prvs=TAG=user@domain`.
    """
    if "=" not in text:
        return ""
    local, at, domain = text.rpartition("@")
    tagged = _BATV.match(local if at else domain)
    return text[tagged.end() :] if tagged else ""


def parse_address(text: str) -> EmailAddress:
    """An address as a person types it, quoted (RFC 5321 §4.1.2) or not, in normal form.

    Raises AddressError, saying how an address looks.
    """
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain:
        raise AddressError(f"{text[:100]!a} is not an address; an address looks like alice@example.com")
    return EmailAddress(_parse_local(local, domain), _parse_domain(domain))


def internal_address(text: str) -> str:
    """An address as a person types it, as Postfix would send it: unquoted, and the domain as it is written.

    Raises AddressError as `parse_address` does.
    """
    return f"{parse_address(text).local}@{text.rpartition('@')[2]}"


def normal_client(text: str) -> str:
    """An IP address, `unknown`, which Postfix says of a client on a unix socket, or "". Raises AddressError."""
    try:
        return text if text in ("", "unknown") else str(ip_address(text))
    except ValueError as error:
        raise AddressError(
            f"{text!a} is not an IP address; an IP address looks like 192.0.2.7 or 2001:db8::1"
        ) from error


def is_pattern(text: str) -> bool:
    """Whether *text* is meant as a pattern (or address), rather than a mailbox's name."""
    return "@" in text or text == NULL_SENDER


def normal_pattern(text: str) -> str:
    """A pattern in normal form: `user@domain`, `@domain`, `@.domain`, `user@` or `<>`.

    Raises AddressError for anything else, and for a pattern that nothing can match.
    """
    if text == NULL_SENDER:
        return text
    local, at, domain = text.rpartition("@")
    if not at or not (local or domain):
        raise AddressError(
            f"{text[:100]!a} is not a pattern; a pattern is user@example.com, @example.com, @.example.com, user@ or <>"
        )
    if not domain:
        return f"{_parse_local(local, '')}@"
    if local:
        return str(parse_address(text))
    if domain.startswith("."):
        name = _parse_domain(domain[1:])
        if name.startswith("["):
            raise AddressError(f"{text}: an address literal has no subdomains; for the literal itself: @{name}")
        return f"@.{name}"
    return f"@{_parse_domain(domain)}"


def pattern_domain(pattern: str) -> str:
    """The one domain that a pattern's matches are all in, "" where they can be in several."""
    domain = pattern.rpartition("@")[2]
    return "" if pattern == NULL_SENDER or domain.startswith(".") else domain


def pattern_rank(pattern: str) -> tuple[int, int]:
    """How specific a pattern is; the smaller, the more: address, `user@`, `@domain`, `@.domain` (longest first)."""
    local, _, domain = pattern.rpartition("@")
    if pattern == NULL_SENDER or (local and domain):
        return (0, 0)
    if local:
        return (1, 0)
    return (3, -len(domain)) if domain.startswith(".") else (2, 0)


def pattern_covers(wide: str, narrow: str) -> bool:
    """Whether the pattern *wide* matches every address that the pattern *narrow* matches."""
    if wide == narrow:
        return True
    if NULL_SENDER in (wide, narrow):
        return False
    wide_local, _, wide_domain = wide.rpartition("@")
    local, _, domain = narrow.rpartition("@")
    if wide_local:
        return wide_local == local and not wide_domain
    return domain == wide_domain or (wide_domain.startswith(".") and domain.endswith(wide_domain))


def patterns_overlap(one: str, other: str) -> bool:
    """Whether an address can match both patterns; the extension of one may be in the other."""
    if NULL_SENDER in (one, other):
        return one == other
    local, _, domain = one.rpartition("@")
    other_local, _, other_domain = other.rpartition("@")
    is_local_shared = local.startswith(other_local) or other_local.startswith(local)
    is_below = other_domain.startswith(".") and domain.endswith(other_domain)
    is_above = domain.startswith(".") and other_domain.endswith(domain)
    return is_local_shared and (not domain or not other_domain or domain == other_domain or is_below or is_above)


def split_extension(local_part: str, delimiters: str) -> tuple[str, str | None]:
    """Split a local part, as Postfix sends it, at its first recipient delimiter.

    Returns the part before it and the extension, or None where there is none.
    Names that Postfix itself owns stay whole, and where `-` delimits, those of mailing-list software; Postfix knows
    them in any case, but not by full case folding.
    Source: postconf(5), recipient_delimiter and owner_request_special; split_addr().
    """
    for delimiter in delimiters:
        if delimiter in local_part:
            break
    else:
        return local_part, None
    at = min(at for at in map(local_part.find, delimiters) if at >= 0)
    if at == 0:
        return local_part, None
    name = local_part.lower()
    if name in _UNSPLIT:
        return local_part, None
    if "-" in delimiters and (name.startswith("owner-") or (name.endswith("-request") and name != "-request")):
        return local_part, None
    return local_part[:at], local_part[at + 1 :]


def matching_patterns(address: EmailAddress) -> tuple[str, ...]:
    """Every pattern that matches *address*, in normal form; none for an address without a domain.

    Source: docs/rules.rst, *Patterns*; the forms are those of access(5).
    """
    if not address.domain:
        return ()
    local, domain, base = address
    of_domain = patterns_of_domain(domain) if len(domain) <= _DOMAIN_LIMIT else ()
    if local and not base:
        return (f"{local}@{domain}", f"{local}@", *of_domain)
    forms = address.locals
    return (*[f"{local}@{domain}" for local in forms], *[f"{local}@" for local in forms], *of_domain)


@lru_cache(maxsize=1024)
def patterns_of_domain(domain: str) -> tuple[str, ...]:
    """Every pattern that matches each address in *domain*, in normal form."""
    labels = [] if domain.startswith("[") else domain.split(".")
    return (f"@{domain}", *["@." + ".".join(labels[first:]) for first in range(1, len(labels))])


def decode_imcea(local_part: str) -> Encapsulated | None:
    """What a local part in normal form encapsulates, or None if it isn't of the form `imcea<type>-…`.

    Source: MS-OXCMAIL §2.1.3.1.10; Q271575. An encoded `_` or `/` stays inside its piece.
    """
    match = _IMCEA.fullmatch(local_part) if local_part.startswith("imcea") else None
    if not match:
        return None
    pieces = match[2].split("_")
    try:
        return Encapsulated(match[1], tuple(_decode_piece(piece) for piece in pieces))
    except ValueError:
        return Encapsulated(match[1], ())


def normal_name(text: str) -> str:
    """A mailbox's name, as it is kept and shown: NFC, in the case it was typed in.

    Raises AddressError for what can't name a mailbox.
    """
    name = _normal_name(text, "mailbox")
    if fold(name) in RESERVED_WORDS:
        raise AddressError(f"{name} can't name a mailbox; --to {fold(name)} has a meaning of its own")
    return name


def normal_group(text: str) -> str:
    """A group's name, as it is kept and shown, from what is typed with or without `group:` in front.

    Raises AddressError for what can't name a group.
    """
    return _normal_name(text[len(GROUP_PREFIX) :] if is_group(text) else text, "group")


def slip_in_name(text: str) -> str:
    """What may be wrong with the name of a mailbox that is not there, as the end of a sentence; "" for nothing."""
    if scheme := _SCHEME.match(text):
        return f"; an address is typed without {scheme[0]} in front, and with its domain"
    if _WILDCARD.search(text):
        return "; no * or ? stands for other characters: for everybody write anyone, for a domain @example.com"
    return "; several are typed as a word each" if _BETWEEN_WORDS.search(text) else ""


def slip_around_address(text: str) -> str:
    """How *text*, one address, is typed without what stands around it where people copy it from; "" for nothing."""
    if scheme := _SCHEME.match(text):
        return f"type it without {scheme[0]} in front"
    name, angle, inside = text.rpartition("<")
    if angle and inside.endswith(">"):
        return f"type it without the name in front, and without < and >: {inside[:-1]}" if name else _WITHOUT_ANGLES
    return f"type it without the {text[-1]} at its end" if _BETWEEN_WORDS.match(text[-1:]) else ""


def is_group(text: str) -> bool:
    """Whether *text* is meant as a group, rather than a mailbox's name or a pattern."""
    return text[: len(GROUP_PREFIX)].lower() == GROUP_PREFIX


def parse_party(text: str, *words: PartyKind) -> Party:
    """Whom *text* means: `group:NAME`, a pattern, a mailbox's name, or one of the reserved *words* that may stand here.

    It is in normal form, and of no number. Raises AddressError.
    """
    if is_group(text):
        return Party(PartyKind.GROUP, normal_group(text))
    if is_pattern(text):
        return Party(PartyKind.PATTERN, normal_pattern(text))
    for word in words:
        if fold(text) == word:
            return Party(word, word.value)
    return Party(PartyKind.MAILBOX, normal_name(text))


def name_after(address: str, *, has_domain: bool = False) -> str:
    """The name for a mailbox that is only known by *address*, in normal form: its local part.

    With the domain behind it where that is no name, or if it *has_domain*.
    """
    local, _, domain = address.rpartition("@")
    try:
        if not has_domain:
            return normal_name(local)
    except AddressError:  # a word with a meaning of its own, or with an `@` in it, or one that is too long
        pass
    plain = local.replace("@", " ").strip()
    if is_group(plain):
        plain = plain.replace(":", "-", 1)
    return f"{plain[:200]} ({domain})"[:_NAME_LIMIT].strip()


def _normal_name(text: str, what: str) -> str:
    """The name of a *what*, in NFC. Raises AddressError for what can't be one."""
    name = normal_text(text, f"the {what} name")
    if is_pattern(name):
        raise AddressError(f"{name} is an address or a pattern, not a {what} name; a name has no @ and isn't <>")
    if is_group(name):
        raise AddressError(f"{name} can't name a {what}; what begins with {GROUP_PREFIX} is a group")
    if not name.strip() or name != name.strip() or len(name) > _NAME_LIMIT:
        raise AddressError(
            f"{name[:100]!a} can't name a {what}; a name has 1 to {_NAME_LIMIT} characters, no blank at an end"
        )
    if name != name.strip(_UNSEEN) or _LOST in name:
        raise AddressError(
            f"{name[:100]!a} can't name a {what}; it holds a character that nobody sees or that was lost: type it anew"
        )
    return name


def quote_local_part(text: str, *, not_first: str = "") -> str:
    """An address or pattern in normal form as people type it: its local part in quotes, if it needs them.

    It needs them also where it begins with a character of *not_first*, which would mean something else there.
    Source: RFC 5321 §4.1.2.
    """
    local, at, domain = text.rpartition("@")
    if not local or (_TYPED_PLAIN.fullmatch(local) and local[0] not in not_first):
        return text
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"{at}{domain}'


def as_word(text: str) -> str:
    """An address or a party, as people write it, as one word of a list; a name that may be several is in quotes."""
    if is_pattern(text):
        return quote_local_part(text)
    if not _LISTED.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _parse_local(text: str, domain: str) -> str:
    """The local part that a person typed in front of *domain*, quoted or not, in normal form; raises AddressError.

    What RFC 5321 §4.1.2 allows only in quotes must be in quotes: without them, it is a slip.
    """
    local = text
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        local = re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    elif not _TYPED_PLAIN.fullmatch(text):
        raise _typed_badly(normal_text(text, "the local part"), domain)
    local = fold(normal_text(local, "the local part"))
    if not local or len(local) > _LOCAL_LIMIT:
        raise AddressError(f"{text[:100]!a} is not the local part of an address; it has 1 to {_LOCAL_LIMIT} characters")
    return local


def _typed_badly(local: str, domain: str) -> AddressError:
    """What is wrong with *local*, which is typed without quotes in front of *domain*, and how to type it."""
    shown = f"{local[:100]}@{domain[:_DOMAIN_LIMIT]}"
    if scheme := _SCHEME.match(local):
        each = "each address as a word of its own" if _SEPARATED.search(local) else "it"
        return AddressError(f"{shown}: type {each} without {scheme[0]} in front")
    if "<" in local and domain.endswith(">"):
        return AddressError(f"{shown}: {slip_around_address(f'{local}@{domain}')}")
    quoted = quote_local_part(shown)
    if not frozenset(_UNSEEN + _LOST).isdisjoint(local):
        return AddressError(
            f"{shown!a} holds a character that nobody sees or that was lost; type it anew, or in quotes"
        )
    if _WILDCARD.search(local):
        instead = f"for every address in the domain write @{domain}" if domain else "for everybody write anyone"
        return AddressError(f"{shown}: no * or ? stands for other characters; {instead}; for this one {quoted}")
    if _SEPARATED.search(local):
        instead = f"type each as a word of its own, a single one in quotes: {quoted}"
        return AddressError(f"{shown} is several addresses in one word; {instead}")
    return AddressError(f"{shown} is not an address as it stands; its local part needs quotes: {quoted}")


@lru_cache(maxsize=4096)  # a million addresses are in few domains
def _parse_domain(text: str) -> str:
    """The domain that a person typed behind an `@`, in normal form; raises AddressError."""
    if _WILDCARD.search(text):
        rest = text.lstrip("*?.")
        instead = f"; for every subdomain write @.{rest}" if rest and not _WILDCARD.search(rest) else ""
        raise AddressError(f"{text[:100]!a}: no * or ? stands for other characters{instead}")
    if _BETWEEN_WORDS.search(text):
        raise AddressError(
            f"{text[:100]!a} is not a domain; type each address as a word of its own, with nothing between"
        )
    return normal_domain(text)


def _decode_piece(piece: str) -> str:
    if not _IMCEA_PIECE.fullmatch(piece):
        raise ValueError(piece)
    raw = _IMCEA_BYTE.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), piece.encode("ascii"))
    return raw.decode("utf-8", "surrogateescape")


def _normal_local(text: str) -> str:
    if text.isascii() and len(text) <= _LINE_LIMIT:
        return text.lower()
    return fold(text) if len(text) <= _LINE_LIMIT and _is_utf8(text) else ""


@lru_cache(maxsize=4096)
def _domain_forms(text: str) -> tuple[str, str]:
    """A domain in normal form, and the one for which Postfix takes it, "" where that is the same or none.

    Both are "" for what says no domain.
    """
    if not text.strip(_NO_DOMAIN):
        return "", ""
    if len(text) <= _DOMAIN_LIMIT and _PLAIN_DOMAIN.fullmatch(text):
        return text, ""
    try:
        normal = normal_domain(text)
    except AddressError:
        normal = text.encode("utf-8", "replace").decode("utf-8").lower()
    other = domain_for_postfix(text)
    return normal, other if other != normal else ""


@lru_cache(maxsize=4096)
def _domain_for_postfix(text: str) -> str:
    domain = fold(_SCANNED.sub(_UNSCANNED, text)).removesuffix(".")
    if len(domain) > 2 * _DOMAIN_LIMIT:
        return ""
    if domain.startswith("["):
        domain = domain if "]" in domain else f"{domain}]"  # a literal without an end ends with the text
        domain = _OCTAL.sub(lambda match: str(int(match[0], 8)), domain) if ":" not in domain else domain
    elif domain[-1:].isdecimal() or ":" in domain:
        domain = f"[{domain}]" if _is_literal(f"[{domain}]") else domain
    try:
        return normal_domain(domain)
    except AddressError:
        pass
    # IDNA forbids characters that Postfix looks up all the same: such a domain is managed by its A-label.
    domain = ".".join(map(_forced_a_label, domain.split(".")))
    return domain if _is_domain(domain) else ""


def _forced_a_label(label: str) -> str:
    if label.isascii() or len(label) > _LABEL_LIMIT or not _is_utf8(label):
        return label
    return "xn--" + label.encode("punycode").decode("ascii")


def _is_domain(text: str) -> bool:
    """Whether this is a domain in normal form, and no literal."""
    return len(text) <= _DOMAIN_LIMIT and all(_LABEL.fullmatch(label) for label in text.split("."))


def _is_literal(text: str) -> bool:
    try:
        _normal_literal(text)
    except AddressError:
        return False
    return True


def _normal_literal(text: str) -> str:
    """An address literal, with or without the tag of RFC 5321, in normal form; raises AddressError."""
    inside = text.removesuffix(".")[1:-1].lower().removeprefix("ipv6:")
    head, colon, tail = inside.rpartition(":")
    try:
        if not text.removesuffix(".").endswith("]") or "%" in inside:
            raise ValueError
        address = ip_address(head + colon + (_LEADING_ZEROS.sub("", tail) if "." in tail else tail))
    except ValueError:
        raise AddressError(
            f"{text[:100]!a} is not an address literal; one looks like [192.0.2.1] or [IPv6:2001:db8::1]"
        ) from None
    if isinstance(address, IPv6Address):
        return f"[{address.ipv4_mapped}]" if address.ipv4_mapped else f"[ipv6:{address}]"
    return f"[{address}]"


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

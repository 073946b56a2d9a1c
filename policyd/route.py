"""The addresses inside of an address: where Postfix sends mail on to if the domain around them is its own.

Postfix takes `user%host`, `host!user` and a source route for `user@host`, also where they come in quotes. It works on
the tokens of RFC 822, again and again, so what is one address at first is another one after each step; so here.
Source: resolve_addr() and rewrite_tree() in trivial-rewrite, tok822_scan(), quote_822_local(); postconf(5),
allow_percent_hack, swap_bangpath, resolve_dequoted_address.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from policyd.address import is_dot_string

_ROUTING = frozenset("@!%")
_OPERATORS = '|%!()<>@,;:".[]'
# A word is an atom, a string, a literal or a comment, each of which may want its end; a backslash takes what follows.
_SCANNED = re.compile(
    r"""
    (?P<blank> [\t\n\r\ ]+ )
    | " (?P<string> (?: \\. | [^"\\] )*+ ) (?: " | \\?\Z )
    | \[ (?P<literal> (?: \\. | [^\]\\] )*+ ) (?: \] | \\?\Z )
    | (?P<comment> \( )
    | (?P<operator> [|%!)<>@,;:.\]] )
    | (?P<atom> (?: \\. | [^\t\n\r\ |%!()<>@,;:".\[\]\\] )*+ ) (?: \\\Z )?
    """,
    re.DOTALL | re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_COMMENT_PART = re.compile(r"\\.?|[()]", re.DOTALL)
_NEEDS_QUOTES = re.compile(r"[\x00-\x20\x7f|%!()<>@,;:\".\[\]]")  # in a string, and so never in an atom
_BLANK = re.compile(r"[\t\n\r]")
_GAP = re.compile(r"(?<=[a-z])(?=[a-z])|(?<=,)(?=.)|(?<=.)(?=<)")
_ATOM, _STRING, _LITERAL, _COMMENT = "aslc"


class Tokens(NamedTuple):
    """An address in tokens: of each its kind, a character (an operator is its own), and its text, unquoted.

    In internal form, a blank comes to stand between two words, unless they have come from behind a `!` without a host.
    """

    kinds: str
    texts: list[str]
    are_close: bool = False

    def __str__(self) -> str:
        if self.are_close:
            return "".join(self.texts)
        texts = self.texts.copy()
        for gap in _GAP.finditer(self.kinds):
            texts[gap.start()] = f" {texts[gap.start()]}"
        return "".join(texts)

    def before(self, at: int) -> "Tokens":
        """Those before the one at *at*."""
        return self._replace(kinds=self.kinds[:at], texts=self.texts[:at])

    def after(self, at: int) -> "Tokens":
        """Those after the one at *at*."""
        return self._replace(kinds=self.kinds[at + 1 :], texts=self.texts[at + 1 :])


def inner_addresses(text: str) -> Iterable[tuple[str, bool]]:
    """Each address inside of *text*, from the outermost to the innermost, and whether it is the innermost.

    *text* and what is yielded are in internal form, as Postfix sends it. Postfix goes on to the first if the domain of
    *text* is its own or missing, to the next if the domain of that one is, and so on. An address whose domain is
    missing ends in `@`.
    """
    local, at, domain = text.rpartition("@")
    return () if _ROUTING.isdisjoint(local if at else domain) else _unwrapped(text, domain if at else None)


def _unwrapped(text: str, domain: str | None) -> Iterator[tuple[str, bool]]:
    """The same for *text* that may have one inside, and its *domain*, None where it has none."""
    outer = _scan(_quoted(text))
    # The last `@` may have come to stand inside of a literal or a string, so that another one is the last.
    is_as_written = outer.kinds.endswith(f"@{_scan(domain).kinds}") if domain is not None else "@" not in outer.kinds
    inner = _inside(outer) if is_as_written else outer
    while inner is not None:
        address = str(inner) if "@" in inner.kinds else f"{inner}@"
        inner = _inside(inner)
        yield address, inner is None


def _inside(tokens: Tokens) -> Tokens | None:
    """What Postfix makes of an address whose domain is its own; None where it delivers to the local part."""
    # The domain goes, with a dot or an `@` too many.
    tokens = _without_last_dot(tokens) if "@" in tokens.kinds else tokens
    if tokens.kinds.endswith("@"):
        tokens = tokens.before(len(tokens.kinds) - 1)
    at = tokens.kinds.rfind("@")
    if at >= 0:
        tokens = tokens.before(at)

    # In what is left the next address is written out, or inside of a string, which is the whole local part.
    if not _ROUTING.isdisjoint(tokens.kinds):
        return _rewritten(tokens)
    if tokens.kinds != _STRING:
        return None
    local = tokens.texts[0]
    if "@" in local:
        return _rewritten(_scan(_quoted(local)))
    if "%" in local:
        user, _, host = local.rpartition("%")
        return _rewritten(_scan(_quoted(f"{user}@{host}")))
    return _rewritten(_scan(local)) if "!" in local else None


def _rewritten(tokens: Tokens) -> Tokens:
    """An address as `user@host`, however it was written; without an `@` where it has no host."""
    kinds = tokens.kinds
    if kinds.startswith("@") and 0 < kinds.find(":") < len(kinds) - 1:
        tokens = tokens.after(kinds.find(":"))
    if "@" not in tokens.kinds:
        bang, percent = tokens.kinds.find("!"), tokens.kinds.rfind("%")
        if bang >= 0:
            tokens = _address(tokens.after(bang), tokens.before(bang), are_close=tokens.are_close or bang == 0)
        elif percent >= 0:
            tokens = _address(tokens.before(percent), tokens.after(percent), are_close=tokens.are_close)
    return _without_last_dot(tokens)


def _address(user: Tokens, host: Tokens, *, are_close: bool) -> Tokens:
    return Tokens(f"{user.kinds}@{host.kinds}", [*user.texts, "@", *host.texts], are_close)


def _without_last_dot(tokens: Tokens) -> Tokens:
    has_one = tokens.kinds.endswith(".") and len(tokens.kinds) > 1 and tokens.kinds[-2] not in ".@"
    return tokens.before(len(tokens.kinds) - 1) if has_one else tokens


def _quoted(text: str) -> str:
    """*text*, which is in internal form, with its local part in quotes if that needs them."""
    colon = text.find(":") + 1 if text.startswith("@") else 0
    at = text.rfind("@", colon)
    end = len(text) if at < 0 else at
    local = text[colon:end]
    if is_dot_string(local):
        return text
    escaped = re.sub(r'(["\\\r])', r"\\\1", local)
    return f'{text[:colon]}"{escaped}"{text[end:]}'


def _scan(text: str) -> Tokens:
    """*text*, which is in external form, in tokens."""
    kinds: list[str] = []
    texts: list[str] = []
    at = 0
    while at < len(text):
        match = _SCANNED.match(text, at)
        assert match is not None, text
        at = match.end()
        if match.lastgroup == "blank":
            continue
        if match.lastgroup == "comment":
            at = _end_of_comment(text, at)
            kind, word = _COMMENT, text[match.start() : at]
        elif match.lastgroup == "operator":
            kind = word = match[0]
        else:
            kind, word = _word(match)
        kinds.append(kind)
        texts.append(word)
    return Tokens("".join(kinds), texts)


def _word(match: re.Match[str]) -> tuple[str, str]:
    """The kind of the word that was scanned, and its text, unquoted."""
    if match["string"] is not None:
        return _STRING, _BLANK.sub(" ", _ESCAPED.sub(r"\1", match["string"]))
    if match["literal"] is not None:
        return _LITERAL, "[" + _BLANK.sub(" ", _ESCAPED.sub(r"\1", match["literal"])) + "]"
    word = _BLANK.sub(" ", _ESCAPED.sub(r"\1", match["atom"]))
    return (_STRING if _NEEDS_QUOTES.search(word) else _ATOM), word


def _end_of_comment(text: str, start: int) -> int:
    """Where the comment ends whose text begins at *start*; comments nest."""
    depth = 1
    for part in _COMMENT_PART.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(part[0], 0)
        if depth == 0:
            return part.end()
    return len(text)

"""Reads addresses as people and programs put several into one text: Exchange's proxies, PowerShell's lists, cells.

A value is an address: bare, in angle brackets behind somebody's name, behind `mailto:`, or behind a type. `SMTP:`
marks the primary address and `smtp:` another one; any other type (X500, X400, EX, SIP) is no SMTP address. Values are
separated by semicolon, comma or blank, also where a value of another type has these inside.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from policyd.address import parse_address
from policyd.errors import AddressError
from policyd.records import Problem
from policyd.transfer.values import CellError, completed

EMPTY = "empty value"
OTHER = "other value"

_PLAIN = re.compile(r"[^\s,;:\"'<>{}\[\]\\]++(?:\s++[^\s,;:\"'<>{}\[\]\\]++)*+")
_TOKEN = re.compile(
    r"""(?P<gap>[\s,;]++)
    |<(?P<angle>[^<>]*+)>
    |(?P<word>(?:"(?:[^"\\]|\\.)*+"|\\.|[^\s,;"\\<])++)
    |(?P<stray>.)""",
    re.DOTALL | re.VERBOSE,
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_ESCAPED = re.compile(r'("(?:[^"\\]|\\.)*+")|\\(.)', re.DOTALL)
_TYPED = re.compile(r"=?([A-Za-z][A-Za-z0-9-]{0,15}):\s*+(.*)", re.DOTALL)
_ODDLY_TYPED = re.compile(r"[^@:\"]{0,64}:.*", re.DOTALL)
_TYPE_NAME = re.compile(r"(?:System|Microsoft|Deserialized)\.[^@\s]+(?:\s[^@]*)?")
_CUT = ("...", "…")  # how PowerShell shows that there are more
_SAY_ALL = (
    "in PowerShell, export all of them as text: "
    "Select-Object ..., @{n='EmailAddresses'; e={$_.EmailAddresses -join ';'}}"
)


class Addresses(NamedTuple):  # a file has millions: creating one takes a third of a dataclass's time
    """The addresses among some values, in normal form; `skipped` are the types of the others."""

    primary: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Each once, the primary one first."""
        return tuple(dict.fromkeys(self.primary + self.others))


def split_proxies(text: str) -> tuple[str, ...]:
    """The values in *text*, each `TYPE:value` or an address.

    Raises CellError for a text that holds no addresses but says that there are some, as PowerShell writes where it
    was not told how, and for one that has only the first of them.
    """
    # PowerShell shows the type of a list, or its beginning, where it was not told to join it.
    text = text.strip()
    need_whole(text)
    if _PLAIN.fullmatch(text):
        return tuple(text.split())

    # Lists of PowerShell stand in braces, those of JSON in brackets.
    if (text.startswith("{") and text.endswith("}")) or (text.startswith(('["', "['", "[]")) and text.endswith("]")):
        text = text[1:-1]
    return _Values().read(text)


def need_whole(text: str) -> None:
    """Raises CellError where PowerShell wrote *text* in place of a list, or for the first of its values."""
    if "@" not in text and _TYPE_NAME.fullmatch(text):
        raise CellError(f"{text[:100]!a} is the name of a type in place of its values; {_SAY_ALL}")
    if text.rstrip("}\"' ").endswith(_CUT):
        raise CellError(f"{text[-100:]!a} is cut short, so that some of the values are missing; {_SAY_ALL}")


def read_proxies(values: Iterable[tuple[str, str]], domain: str = "", *, is_directory: bool = False) -> Addresses:
    """The addresses in *values*, each with the column it is from, in their order; a primary one is marked.

    What has no domain is in *domain*, if that is given. Of a directory, also what no person would write is skipped.
    """
    primary: list[str] = []
    others: list[str] = []
    skipped, problems = [], []
    for column, value in values:
        # Only SMTP addresses count; in capitals, the type marks the primary one.
        kind, text = _take_apart(value.strip(), is_directory=is_directory)
        if kind not in ("", "SMTP", "smtp"):
            skipped.append(kind)
        elif not text:
            skipped.append(EMPTY)
        else:
            try:
                parsed = parse_address(completed(text, domain))
            except AddressError as error:
                problems.append(Problem(str(error), column))
                continue
            (primary if kind == "SMTP" else others).append(f"{parsed.local}@{parsed.domain}")
    return Addresses(tuple(primary), tuple(others), tuple(skipped), tuple(problems))


def address_of(text: str, domain: str = "") -> str:
    """The one address in *text*, in normal form. Raises AddressError, and CellError where there is none or are more."""
    found = addresses_of(split_proxies(text), domain)
    if len(found.all) != 1:
        raise CellError(f"{text[:100]!a} is not one address; an address looks like alice@example.com")
    return found.all[0]


def addresses_of(values: Iterable[str], domain: str = "") -> Addresses:
    """The addresses in *values*. Raises CellError for the first that is wrong."""
    found = read_proxies([("", value) for value in values], domain)
    if found.problems:
        raise CellError(found.problems[0].message)
    return found


def _take_apart(value: str, *, is_directory: bool) -> tuple[str, str]:
    """The type of a value and what is behind it: SMTP for the primary address, smtp for another, "" for a bare one."""
    if typed := _TYPED.fullmatch(value) if ":" in value else None:
        kind = typed[1]
        if kind.upper() == "SMTP":
            return ("SMTP" if kind == "SMTP" else "smtp"), typed[2]
        return ("", typed[2].partition("?")[0]) if kind.lower() == "mailto" else (kind.upper(), typed[2])
    if is_directory and (_ODDLY_TYPED.fullmatch(value) or ("@" not in value and not {"/", "="}.isdisjoint(value))):
        return OTHER, value
    return "", value


class _Values:
    """Puts the values in a text together, token by token.

    `_foreign` says that the last value is of another type, which goes on until the next value begins; `_open` that it
    is a type with nothing behind it yet; `_words` are those that may be somebody's name before an angle bracket.
    """

    def __init__(self) -> None:
        self._values: list[str] = []
        self._words: list[str] = []
        self._foreign = False
        self._open = False
        self._named = False  # the last value is an address, and nothing but a blank came after it

    def read(self, text: str) -> tuple[str, ...]:
        """The values in *text*. Raises CellError."""
        for token in _TOKEN.finditer(text):
            match token.lastgroup:
                case "gap":
                    if not token[0].isspace():
                        self._open = self._named = False
                case "angle":
                    self._take_angle(token["angle"].strip())
                case "word":
                    self._take_word(token[0])
                case _:
                    raise CellError(f"{text[:100]!a} has a {token[0]} that does not end")
        self._end_words()
        return tuple(self._values)

    def _take_angle(self, inside: str) -> None:
        if self._named and self._values[-1].casefold() != inside.casefold():
            raise CellError(f"{self._values[-1]} <{inside[:100]}> is two addresses; give one of them")
        if self._open:
            inside = self._values.pop() + inside
        self._words.clear()
        self._add(inside)

    def _take_word(self, word: str) -> None:
        # Quotes around a whole address are not its own.
        if _QUOTED.fullmatch(word):
            inside = word[1:-1].replace('\\"', '"').replace("\\\\", "\\")
            if "@" in inside and not inside.startswith("@"):
                for value in _Values().read(inside):
                    self._add(value)
                return
            if not self._foreign:
                self._words.append(inside)
            return
        if len(word) > 2 and word.startswith("'") and word.endswith("'"):
            word = word[1:-1]

        # A type begins a value; other words belong to one of another type, to a name, or are an address.
        word = _ESCAPED.sub(lambda match: match[1] or match[2], word)
        typed = _TYPED.fullmatch(word)
        is_address = "@" in word and not (self._foreign and ("=" in word or "/" in word))
        if typed is not None:
            self._end_words()
            is_smtp = typed[1].lower() in ("smtp", "mailto")
            self._add(word)
            self._foreign, self._open, self._named = not is_smtp, is_smtp and not typed[2], False
        elif is_address:
            self._end_words()
            self._add(self._values.pop() + word if self._open else word)
            self._named = True
        elif not self._foreign:
            self._words.append(word)

    def _add(self, value: str) -> None:
        self._values.append(value)
        self._foreign = self._open = self._named = False

    def _end_words(self) -> None:
        """Take the words for values: nobody's name came of them."""
        self._values += self._words
        self._words.clear()

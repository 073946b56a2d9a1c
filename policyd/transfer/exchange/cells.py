"""Reads the cells of an Exchange directory file: several values in one, `~DEL`, proxies, distinguished names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from policyd.address import parse_address
from policyd.transfer.values import CellError, completed, quote_in_file

_TYPE_LIMIT = 8  # characters of a proxy's type
_DELETE = "~del"


@dataclass(frozen=True, slots=True)
class Cell:
    """The values of a cell: plain ones, or what `~DEL` takes away of those there are: all, or some."""

    plain: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    is_cleared: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What one cell says of a list. `is_given`: there were plain values, even if they stand for nobody."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    is_cleared: bool = False
    is_given: bool = False


def is_delete(text: str) -> bool:
    """Whether *text* is a form of `~DEL`, in any case."""
    return text[:4].lower() == _DELETE


def unescape(text: str, separator: str) -> str:
    """The text of a cell with one value: a doubled backslash is one, a single one before anything else stays."""
    return text if "\\" not in text else _escaped(separator).sub(lambda match: match[1] or match[0], text)


def escape(text: str) -> str:
    """*text* as a cell with one value, as Exchange writes it: each backslash doubled."""
    return text.replace("\\", "\\\\")


def join_values(values: Iterable[str]) -> str:
    """*values* as one cell, as Exchange writes it."""
    return "%".join(escape(value).replace("%", "\\%") for value in values)


def split_values(text: str, separator: str) -> tuple[str, ...]:
    """The values in a cell, without the blanks around them; empty ones are none."""
    if "\\" in text:
        pieces = [[""]]
        for match in _escaped(separator).finditer(text):
            if match[0] == separator:
                pieces.append([])
            else:
                pieces[-1].append(match[1] or match[0])
        values = ["".join(piece) for piece in pieces]
    else:
        values = text.split(separator)
    return tuple(value.strip() for value in values if value.strip())


def read_cell(text: str, separator: str) -> Cell:
    """A cell of several values; raises CellError where plain values and `~DEL` are mixed, or `~DEL` is malformed."""
    values = split_values(text, separator)
    if "~" not in text:
        return Cell(plain=values)
    deletions = [value for value in values if is_delete(value)]
    if not deletions:
        return Cell(plain=values)
    if len(deletions) < len(values):
        raise CellError("mixes plain values with ~DEL; a cell holds either")
    named = [value[4:] for value in deletions if len(value) > 4]
    removed = tuple(value[1:-1].strip() for value in named if value.startswith("<") and value.endswith(">"))
    if len(removed) < len(named) or not all(removed):
        raise CellError("has a ~DEL that is neither alone nor followed by a value in <>")
    return Cell((), removed, is_cleared=len(named) < len(deletions))


def read_proxies(cell: Cell, domain: str) -> tuple[Part, tuple[str, ...]]:
    """The SMTP addresses among proxies, and the types of the others, in upper case.

    A type without a value is all of that type: so Exchange 5.0 blanked, so `~DEL<SMTP:>` removes. An address without
    a domain is in *domain*, if that is given. Raises AddressError and CellError.
    Source: Q170378.
    """
    add: list[str] = []
    remove: list[str] = []
    skipped: list[str] = []
    is_cleared = cell.is_cleared
    for proxies, addresses in ((cell.plain, add), (cell.removed, remove)):
        for kind, value in map(_split_proxy, proxies):
            if kind != "SMTP":
                skipped.append(kind)
            elif value:
                addresses.append(str(parse_address(completed(value, domain))))
            else:
                is_cleared = True
    return Part(tuple(add), tuple(remove), is_cleared, is_given=bool(add)), tuple(skipped)


def show_proxy(address: str) -> str:
    """An address as a proxy."""
    return f"SMTP:{quote_in_file(address)}"


def common_name(text: str) -> str:
    """The Directory Name in *text*: the last cn= of a distinguished name, or a plain name as it is."""
    names = [piece.strip()[3:].strip() for piece in text.split("/") if piece.strip()[:3].lower() == "cn="]
    return names[-1] if names else text.strip()


def _split_proxy(text: str) -> tuple[str, str]:
    kind, colon, value = text.partition(":")
    kind = kind.strip()
    if not colon or not kind or len(kind) > _TYPE_LIMIT:
        raise CellError(
            f"{text[:100]!a} is not of the form TYPE:address; the type has 1 to {_TYPE_LIMIT} characters, such as SMTP"
        )
    return kind.upper(), value.strip()


@lru_cache(maxsize=8)
def _escaped(separator: str) -> re.Pattern[str]:
    """A backslash that escapes (what it escapes is group 1), a separator, or text up to either."""
    mark = re.escape(separator)
    return re.compile(rf"\\(\\|{mark})|{mark}|\\|[^\\{mark}]+")

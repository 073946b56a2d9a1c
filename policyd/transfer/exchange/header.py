"""Reads the header of an Exchange directory file: which column holds what, under all the names that one can have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

from policyd.errors import TransferError
from policyd.transfer.columns import HOW_TO_LEAVE_OUT, is_left_out, nearest
from policyd.transfer.exchange.cells import unescape


def _key(name: str) -> str:
    return " ".join(name.lower().replace("-", " ").split())


class Column(IntEnum):  # hashes as fast as a number
    """What a column holds that policyd reads."""

    OBJ_CLASS = auto()
    MODE = auto()
    DIRECTORY_NAME = auto()
    COMMON_NAME = auto()
    OBJ_DIST_NAME = auto()
    ALIAS = auto()
    PROXIES = auto()
    SECONDARY_PROXIES = auto()
    ACCEPT = auto()
    ACCEPT_DL = auto()
    REJECT = auto()
    REJECT_DL = auto()
    MEMBERS = auto()


# Where the Directory Name is looked for. The alias comes last: it may differ from the name, the others don't.
NAMING = (Column.DIRECTORY_NAME, Column.COMMON_NAME, Column.OBJ_DIST_NAME, Column.ALIAS)

_SPELLED = {
    "Obj-Class": Column.OBJ_CLASS,
    "Directory Name": Column.DIRECTORY_NAME,
    "Common-Name": Column.COMMON_NAME,
    "Obj-Dist-Name": Column.OBJ_DIST_NAME,
    "Alias Name": Column.ALIAS,
    "Mail-Nickname": Column.ALIAS,
    "E-mail Addresses": Column.PROXIES,
    "Secondary-Proxy-Addresses": Column.SECONDARY_PROXIES,
    "Accept messages from": Column.ACCEPT,
    "Auth-Orig": Column.ACCEPT,
    "Accept messages from DL": Column.ACCEPT_DL,
    "DL-Mem-Submit-Perms": Column.ACCEPT_DL,
    "Reject messages from": Column.REJECT,
    "Unauth-Orig": Column.REJECT,
    "Reject messages from DL": Column.REJECT_DL,
    "DL-Mem-Reject-Perms": Column.REJECT_DL,
    "Members": Column.MEMBERS,
}
_COLUMNS = {_key(name): column for name, column in _SPELLED.items()}
# What every Exchange file has and policyd has no use for: ignored without a notice.
_UNUSED = frozenset(
    {
        "first name",
        "last name",
        "display name",
        "primary windows nt account",
        "home server",
        "e mail address",  # a remote object's target, not an address of ours
        "obj container",
        "hide from ab",
    }
)


@dataclass(frozen=True, slots=True)
class Header:
    """The names of the columns as the file has them, and where each column is that policyd reads."""

    names: tuple[str, ...]
    places: Mapping[Column, int]

    def name(self, column: Column) -> str:
        """The name of *column* in this file, or "" where it has none."""
        place = self.places.get(column)
        return "" if place is None else self.names[place]

    def read(self, cells: Sequence[str]) -> dict[Column, str]:
        """What stands in the columns, without blanks around it; empty cells and missing columns say nothing."""
        return {column: text for column, place in self.places.items() if (text := cells[place].strip())}


def read_header(cells: Sequence[str], separator: str) -> tuple[Header, tuple[str, ...]]:
    """The header that *cells* are, and notices about it: columns that are there twice or unknown.

    Raises TransferError where they are no header of such a file.
    """
    # Obj-Class comes first in every file that Exchange wrote.
    names = tuple(unescape(cell, separator).strip() for cell in cells)
    if _key(names[0]) != "obj class":
        raise TransferError(
            f"the first column is {names[0][:100]!a}, not Obj-Class: this is not an Exchange directory file, "
            "or its columns are separated by another character (--column-separator)"
        )

    # Find each column's place, by one of its names.
    places: dict[Column, int] = {}
    notices, unknown = [], []
    for place, name in enumerate(names):
        column = Column.MODE if place == 1 and _key(name) == "mode" else _COLUMNS.get(_key(name))
        if column is None and _key(name) == "mode":
            notices.append("the column Mode counts only as the second one: ignored")
        elif column is None and _key(name) not in _UNUSED:
            _refuse_slip(name)
            unknown.append(_shown(name))
        elif column in places:
            notices.append(f"the column {_shown(name)} says the same as {_shown(names[places[column]])}: ignored")
        elif column is not None:
            places[column] = place

    # What is unknown is said once; what names the objects must be there.
    if unknown:
        notices.append(f"columns that policyd does not know, ignored: {', '.join(dict.fromkeys(unknown))}")
    if not any(column in places for column in NAMING):
        raise TransferError("no column is called Directory Name, so no row says what it is about")
    return Header(names, places), tuple(notices)


def _refuse_slip(name: str) -> None:
    """Raises TransferError where *name* is nearly that of a column that is read: what stands there would be lost."""
    meant = "" if is_left_out(name) else nearest(name, (*_SPELLED, *_UNUSED))
    if meant in _SPELLED:
        raise TransferError(
            f"unknown column {_shown(name)} (did you mean {meant}?); nothing was imported; {HOW_TO_LEAVE_OUT}"
        )


def _shown(name: str) -> str:
    return name[:100] if name.isprintable() and name else ascii(name[:100])

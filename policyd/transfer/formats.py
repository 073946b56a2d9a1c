"""The bulk formats, and what each offers: how it is read, written and recognised.

A new format is a module or a folder here with a `FORMAT` in it, and a line in `FORMATS`.
"""

import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import BinaryIO, Protocol

from policyd.model import BlockedSender, Domain, Group, Mailbox, Party
from policyd.records import Notice, Record

# The formats by name, and where the `FORMAT` of each is: it is imported when it is needed.
FORMATS: Mapping[str, str] = {
    "exchange-csv": "policyd.transfer.exchange",
    "ldif": "policyd.transfer.ldif",
    "csv": "policyd.transfer.csv_table",
    "jsonl": "policyd.transfer.jsonl",
    "list": "policyd.transfer.address_list",
    "postfix": "policyd.transfer.postfix",
}


class Into(StrEnum):
    """What the lines of a list are, or whom an access map refuses."""

    MAILBOXES = "mailboxes"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a file, where the format leaves it open.

    `column_separator`, `quote` and `multi_separator` are single characters, of exchange-csv.
    `is_append` adds plain multi-values to those there are instead of replacing them. `into` is None where nobody said
    it. `domain`, if given, completes addresses that have none.
    """

    column_separator: str = ","
    quote: str = '"'
    multi_separator: str = "%"
    is_append: bool = False
    into: Into | None = None
    domain: str = ""


class ExportedTables(Protocol):
    """All there is, to be written out; each may be called more than once, and streams."""

    def domains(self) -> Iterator[Domain]:
        """Every managed domain."""

    def groups(self) -> Iterator[tuple[Group, tuple[Party, ...]]]:
        """Every group with its members."""

    def mailboxes(self) -> Iterator[tuple[Mailbox, tuple[str, ...]]]:
        """Every mailbox with its addresses, the primary one first."""

    def blocked_senders(self) -> Iterator[BlockedSender]:
        """Every blocked sender, oldest first."""


class Reader(Protocol):
    """Reads a file."""

    def __call__(self, stream: BinaryIO, options: ReadOptions) -> Iterator[Record | Notice]:
        """The records of *stream*, which is seekable and read from its start, with notices about the file between them.

        What is wrong with a record is in it. Raises TransferError for what is no file of this format.
        """


class Writer(Protocol):
    """Writes a file."""

    def __call__(self, tables: ExportedTables, lost: Counter[str]) -> Iterator[str]:
        """The file, in pieces of text; what the format can't say is counted in *lost*, by a word for each kind."""


class Evidence(IntEnum):
    """What shows that a file is in a format, the weakest first; the format with the strongest evidence is taken."""

    NONE = 0
    LINES = 1  # all lines look so
    HEADER = 2  # the first line names its columns
    COMMENT = 3  # a comment that our own export writes


@dataclass(frozen=True, slots=True)
class Sample:
    """The first lines of a file, without the empty ones: all of them, at least one, and those that are no comments."""

    lines: Sequence[str]
    content: Sequence[str]


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    `record_end` is what ends a record in a file; with `has_header` the first record is a header. An export of a
    directory has groups as they are there (`is_directory`), which may be in one another. What `has_all` carries
    everything, so that what a file does not name can be taken away with --replace. What `is_utf8` is so also where a
    byte is none.
    """

    read: Reader
    write: Writer
    recognize: Callable[[Sample], Evidence]
    record_end: str = "\n"
    has_header: bool = False
    is_directory: bool = False
    has_all: bool = False
    is_utf8: bool = False


def load_format(name: str) -> Format:
    """The format of that name, one of `FORMATS`."""
    found = importlib.import_module(FORMATS[name]).FORMAT
    assert isinstance(found, Format)
    return found

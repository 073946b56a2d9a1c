"""Which format a file is in, from its beginning."""

import re
from collections.abc import Sequence
from itertools import islice
from typing import BinaryIO

from policyd.errors import TransferError
from policyd.transfer.address_list import MARK as LIST_MARK
from policyd.transfer.csv_table import COLUMNS, NAMING, read_columns, separator_of
from policyd.transfer.postfix.write import MARK as MAP_MARK
from policyd.transfer.text import find_encoding, read_lines

# The formats, and the module of this folder that reads and writes each: import it when it is needed.
FORMATS = {
    "exchange-csv": "exchange",
    "ldif": "ldif",
    "csv": "csv_table",
    "jsonl": "jsonl",
    "list": "address_list",
    "postfix": "postfix",
}

_SAMPLE = 200  # lines
_NAMED = f"; name it with --format: {', '.join(FORMATS)}"
_LDIF = re.compile(r"version:\s*\d+\s*|dn::?\s.*", re.IGNORECASE)
_JSON = re.compile(r"\{\s*(?:[\"}]|$)")
_ENTRY = re.compile(r'(?:"(?:[^"\\]|\\.)*+"\S*+|[^\s"]\S*+)(?:\s+#.*)?')
_MAPPED = re.compile(r'("(?:[^"\\]|\\.)*+"\S*+|[^\s"]\S*+)\s+([^\s#]\S*).*')
_ACTION = re.compile(
    r"[45]\d\d|reject\S*|ok|dunno|permit\S*|defer\S*|discard|hold|filter|redirect|prepend|warn|info|bcc"
)


def guess_format(stream: BinaryIO) -> str:
    """The name of the format that *stream* is in, which is left at its start.

    Raises TransferError where it is empty, and, naming --format, where it can't be told.
    """
    lines = (line.text for line in read_lines(stream, find_encoding(stream)) if line.text.strip())
    sample = list(islice(lines, _SAMPLE))
    stream.seek(0)
    if not sample:
        raise TransferError("the file is empty")
    said = [line for line in sample if not line.lstrip().startswith("#")]
    found = _by_marks(sample) or _by_header(sample[0]) or (_by_lines(said) if said else "")
    if not found:
        raise TransferError(f"the format of the file can't be told from its content{_NAMED}")
    return found


def _by_marks(lines: Sequence[str]) -> str:
    """The format of the export whose comments are among *lines*, "" where there are none."""
    marks = {"list": LIST_MARK, "postfix": MAP_MARK}
    return next((name for name, mark in marks.items() for line in lines if line.startswith(mark)), "")


def _by_header(line: str) -> str:
    """The format whose header *line* is, "" where it is none's."""
    first = re.match(r"\s*\"?\s*obj-class\s*(?:\W|$)", line, re.IGNORECASE)
    if first:
        return "exchange-csv"
    cells = line.replace('"', "").split(separator_of(line))
    names = read_columns(cells)
    is_header = not NAMING.isdisjoint(names) and all("@" not in name for name in names)
    # A list of mailboxes' names could begin with the name `name`; nothing can tell the two apart.
    return "csv" if is_header and sum(name in COLUMNS or name == "address" for name in names) * 2 >= len(names) else ""


def _by_lines(lines: Sequence[str]) -> str:
    """The format that all of *lines*, which are no comments, are in; "" where they are in none."""
    first = lines[0].strip()
    if first.startswith("["):
        raise TransferError("the file is a JSON array; put each element on a line of its own: jq -c '.[]'")
    if _JSON.match(first):
        return "jsonl"
    # ldapsearch folds long comments too
    if _LDIF.fullmatch(next((line for line in lines if not line[0].isspace()), first).strip()):
        return "ldif"
    if all(_ENTRY.fullmatch(line.strip()) for line in lines):
        return "list" if any("@" in line or line.startswith("<>") for line in lines) else ""
    logical = [line for line in lines if not line[0].isspace()]
    return "postfix" if logical and all(map(_is_mapped, logical)) else ""


def _is_mapped(line: str) -> bool:
    """Whether *line* is one of access(5) or virtual(5): an address or domain, and what becomes of it."""
    match = _MAPPED.fullmatch(line.strip())
    if not match:
        return False
    key, value = match[1], match[2].lower()
    is_address = "@" in key or key == "<>"
    return is_address or bool(_ACTION.fullmatch(value)) or "@" in value or "." in key.strip(".")

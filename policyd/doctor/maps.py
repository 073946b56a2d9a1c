"""Asks Postfix's lookup tables through postmap(1): what they list, and what they answer.

Source: postmap(1). Only an exact key is found; tables of files list what they have, others can only be asked.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import IO

from policyd.address import fold
from policyd.doctor.postconf import find_program, read_named
from policyd.doctor.words import is_table, split_words
from policyd.transfer.postfix.entries import Answer, answer_of

# What postalias(1) writes into each file of aliases(5) beside them, for NIS; as a key is folded.
NO_ALIASES = frozenset({"yp_last_modified", "yp_master_name"})
_LISTED = frozenset({"hash", "btree", "dbm", "cdb", "lmdb", "sdbm", "inline", "texthash"})
_SECONDS = 3  # for an answer: a table on a network may never give one
_LIST_SECONDS = 120  # for all rows of a file, of which there may be millions
_BLOCK_BYTES = 1 << 20  # of rows, decoded and folded at once: a row alone takes three times as long
_EXPRESSION = re.compile(r"(!?([^\w\s#])(?:\\.|(?!\2).)*\2\w*)\s+(.*)")
_PATTERNS = {"regexp": _EXPRESSION, "pcre": _EXPRESSION, "cidr": re.compile(r"(!?[0-9a-fA-F.:/\[\]]+)\s+(.*)")}


class TableError(Exception):
    """A table that could not be looked at; the message says why."""


def plain_name(table: str) -> str:
    """*table* without the proxy in front, which waits long where Postfix is not running."""
    return table.removeprefix("proxy:")


def tables_in(value: str) -> list[str]:
    """The tables that *value* names."""
    return [plain_name(word) for word in split_words(value) if is_table(word)]


def is_listed(table: str) -> bool:
    """Whether *table* can say what it has."""
    return table.partition(":")[0] in _LISTED


def list_rows(table: str, folder: str) -> Iterator[tuple[str, str]]:
    """The keys and values of *table*, both folded. Raises TableError."""
    for block in _list(table, folder):
        for line in fold(block).split("\n"):
            key, _, value = line.partition("\t")
            if key:
                yield key, value


def look_up(table: str, keys: Iterable[str], folder: str) -> dict[str, str]:
    """What *table* answers to *keys*, of those that it has. Raises TableError."""
    asked = "".join(f"{key}\n" for key in keys)
    if not asked:
        return {}
    with tempfile.TemporaryFile() as answers:
        _postmap(answers, folder, "-q", "-", table, stdin=asked)
        lines = answers.read().decode("utf-8", "surrogateescape").split("\n")
    return {key: value for key, tab, value in (line.partition("\t") for line in lines) if tab}


@lru_cache(maxsize=256)
def permitting_row(table: str, folder: str) -> str | None:
    """A row of an access table that lets mail pass; "" where one may, and None where none does."""
    table = plain_name(table)
    try:
        rows = _rows_as_written(table, folder) if is_listed(table) else _rows_of_patterns(table)
        return next((f"{key} {value}" for key, value in rows if may_pass(value)), None)
    except (TableError, OSError):
        return ""


def may_pass(value: str) -> bool:
    """Whether an answer of access(5) lets mail pass, or may, without any more of its list."""
    answer, word = answer_of(value, is_access=True)
    if answer is Answer.UNCERTAIN:
        return word == "restriction"
    return answer in (Answer.CODE, Answer.NONE) or (answer is Answer.PASSED and word != "dunno")


def _rows_of_patterns(table: str) -> Iterator[tuple[str, str]]:
    """The rows in the file of a table of patterns. Raises TableError and OSError."""
    kind, _, file = table.partition(":")
    pattern = _PATTERNS.get(kind)
    if pattern is None or not file.startswith("/"):
        raise TableError(f"{kind} does not list what it has")
    for line in read_named(file).splitlines():
        if match := pattern.match(line):
            yield match[1], match[match.lastindex or 1].strip()


def _rows_as_written(table: str, folder: str) -> Iterator[tuple[str, str]]:
    for block in _list(table, folder):
        for line in block.splitlines():
            key, _, value = line.partition("\t")
            yield key, value


def _list(table: str, folder: str) -> Iterator[str]:
    """What `postmap` lists, whole lines at a time: of a million rows only some are in memory. Raises TableError."""
    with tempfile.TemporaryFile() as listed:
        _postmap(listed, folder, "-s", table, seconds=_LIST_SECONDS)
        while block := listed.read(_BLOCK_BYTES):
            yield (block + listed.readline()).decode("utf-8", "surrogateescape")


def _postmap(stdout: IO[bytes], folder: str, *words: str, stdin: str = "", seconds: int = _SECONDS) -> None:
    """Have `postmap` write to *stdout*, which then is at its beginning.

    Raises TableError, also where it warns of a table that can't be read.
    """
    postmap = find_program("postmap")
    if postmap is None:
        raise TableError("there is no postmap on this host")
    try:
        done = subprocess.run(
            [postmap, *(["-c", folder] if folder else []), *words],
            input=stdin.encode("utf-8", "surrogateescape"),
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise TableError(f"it took longer than {seconds} seconds") from error
    except (OSError, ValueError) as error:
        raise TableError(str(error)) from error
    stdout.seek(0)
    said = [
        line
        for line in done.stderr.decode("utf-8", "replace").splitlines()
        if "fatal" in line or "error" in line or "warning" in line
    ]
    if done.returncode != 0 and said:
        raise TableError(said[-1].partition(": ")[2] or said[-1])

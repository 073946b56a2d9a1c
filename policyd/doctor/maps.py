"""Asks Postfix's lookup tables through postmap(1): what they list, and what they answer.

Source: postmap(1). Only an exact key is found; tables of files list what they have, others can only be asked.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from typing import IO

from policyd.address import fold
from policyd.doctor.postconf import find_program, read_named
from policyd.doctor.words import is_table, split_words, without_braces
from policyd.transfer.postfix.entries import Answer, answer_of

# What postalias(1) writes into each file of aliases(5) beside them, for NIS; as a key is folded.
NO_ALIASES = frozenset({"yp_last_modified", "yp_master_name"})
_LISTED = frozenset({"hash", "btree", "dbm", "cdb", "lmdb", "sdbm", "inline", "texthash"})
_SECONDS = 3  # for an answer over a network: there may never be one
_FILE_SECONDS = 120  # for what a file has, of which there may be millions of rows
_BLOCK_BYTES = 1 << 18  # of rows, decoded, folded and split at once: a row alone takes four times as long
_ROW = re.compile(r"^([^\t\n]+)\t?(.*)$", re.MULTILINE)
_SEVERITY = re.compile(r"^postmap: |(fatal|error|warning): ")
_MISSING = re.compile("No such file|unsupported dictionary type")
_EXPRESSION = re.compile(r"(!?([^\w\s#])(?:\\.|(?!\2).)*\2\w*)\s+(.*)")
_PATTERNS = {"regexp": _EXPRESSION, "pcre": _EXPRESSION, "cidr": re.compile(r"(!?[0-9a-fA-F.:/\[\]]+)\s+(.*)")}
_NO_LINE = re.compile(r"^[ \t]*(?:#.*)?(?:\n|\Z)", re.MULTILINE)  # also in the middle of a row
_REFUSING = re.compile(r"(?:reject_\w+[\s,]*)+", re.IGNORECASE)  # but an argument may be a list of hosts, as anything
_CONTINUED = re.compile(r"\n[ \t]+")


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


def _is_of_a_file(table: str) -> bool:
    return is_listed(table) or table.partition(":")[0] in _PATTERNS


class Listings:
    """The rows of the tables of the instance configured in *folder*.

    postmap takes seconds for a million rows: what it is told to list `beside` all else is there when it is asked for.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._begun: dict[str, _Listing] = {}

    @contextmanager
    def beside(self, tables: Iterable[str]) -> Iterator[None]:
        """Have *tables* listed while the body of the `with` runs."""
        try:
            for table in dict.fromkeys(filter(is_listed, tables)):
                with suppress(TableError):  # which is raised again for whoever asks for the rows
                    self._begun[table] = _Listing(table, self._folder)
            yield
        finally:
            while self._begun:
                self._begun.popitem()[1].end()

    def rows(self, table: str) -> Iterator[tuple[str, str]]:
        """The keys and values of *table*, both folded. Raises TableError."""
        listing = self._begun.pop(table, None) or _Listing(table, self._folder)
        return chain.from_iterable(_ROW.findall(fold(block)) for block in listing.blocks())


class _Listing:
    """What postmap lists of *table*, into a file: of a million rows only some are in memory. Raises TableError."""

    def __init__(self, table: str, folder: str) -> None:
        self._rows = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it was read, or nobody wants it
        try:
            self._process = _start(self._rows, folder, "-s", table)
        except TableError:
            self._rows.close()
            raise

    def blocks(self) -> Iterator[str]:
        """What is listed, whole lines at a time. Raises TableError."""
        with self._rows:
            _finish(self._process, _FILE_SECONDS)
            self._rows.seek(0)
            while block := self._rows.read(_BLOCK_BYTES):
                yield (block + self._rows.readline()).decode("utf-8", "surrogateescape")

    def end(self) -> None:
        """Nobody wants the rows any more."""
        self._process.kill()
        self._process.communicate()
        self._rows.close()


def look_up(table: str, keys: Iterable[str], folder: str) -> dict[str, str]:
    """What *table* answers to *keys*, of those that it has. Raises TableError."""
    asked = "".join(f"{key}\n" for key in keys)
    if not asked:
        return {}
    with tempfile.TemporaryFile() as keys_asked, tempfile.TemporaryFile() as answers:
        keys_asked.write(asked.encode("utf-8", "surrogateescape"))
        keys_asked.seek(0)
        seconds = _FILE_SECONDS if _is_of_a_file(table) else _SECONDS
        _finish(_start(answers, folder, "-q", "-", table, stdin=keys_asked), seconds)
        answers.seek(0)
        lines = answers.read().decode("utf-8", "surrogateescape").split("\n")
    return {key: value for key, tab, value in (line.partition("\t") for line in lines) if tab}


def why_not_there(table: str, folder: str) -> str:
    """Why nobody can look into *table*, where its file or what reads its kind is missing; "" where that is not so.

    Of files alone: what answers over a network may be slow, or away for a while.
    """
    table = plain_name(table)
    if not _is_of_a_file(table):
        return ""
    try:
        look_up(table, ["policyd-doctor"], folder)
    except TableError as error:
        return str(error) if _MISSING.search(str(error)) else ""
    return ""


@lru_cache(maxsize=256)
def permitting_row(table: str, folder: str) -> str | None:
    """A row of an access table that lets mail pass; "" where one may, and None where none does."""
    table = plain_name(table)
    try:
        rows = _rows_as_written(table, folder) if is_listed(table) else _rows_of_patterns(table)
        return next((f"{key} {value}".lstrip() for key, value in rows if may_pass(value)), None)
    except (TableError, OSError):
        return ""


def may_pass(value: str) -> bool:
    """Whether an answer of access(5) lets mail pass, or may, without any more of its list."""
    answer, word = answer_of(value, is_access=True)
    if answer is Answer.UNCERTAIN:
        return word == "restriction" and not _REFUSING.fullmatch(value)
    return answer in (Answer.CODE, Answer.NONE) or (answer is Answer.PASSED and word != "dunno")


def _rows_of_patterns(table: str) -> Iterator[tuple[str, str]]:
    """The rows in the file of a table of patterns. Raises TableError and OSError."""
    kind, _, file = table.partition(":")
    if kind == "static":
        yield "", without_braces(file) or file
        return
    pattern = _PATTERNS.get(kind)
    rows = without_braces(file)
    if pattern is None or (rows is None and not file.startswith("/")):
        raise TableError(f"{kind} does not list what it has")
    lines = _CONTINUED.sub(" ", _NO_LINE.sub("", read_named(file))).splitlines() if rows is None else _written(rows)
    for line in lines:
        if match := pattern.match(line):
            yield match[1], match[match.lastindex or 1].strip()


def _written(rows: str) -> Iterator[str]:
    """The rows that stand in the braces behind the type of a table."""
    return (row for word in split_words(rows) if (row := without_braces(word)) is not None)


def _rows_as_written(table: str, folder: str) -> Iterator[tuple[str, str]]:
    return chain.from_iterable(map(_ROW.findall, _Listing(table, folder).blocks()))


def _start(
    stdout: IO[bytes], folder: str, *words: str, stdin: IO[bytes] | int = subprocess.DEVNULL
) -> "subprocess.Popen[bytes]":
    """Have `postmap` write to *stdout*. Raises TableError."""
    postmap = find_program("postmap")
    if postmap is None:
        raise TableError("there is no postmap on this host")
    command = [postmap, *(["-c", folder] if folder else []), *words]
    try:
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    except (OSError, ValueError) as error:
        raise TableError(str(error)) from error


def _finish(postmap: "subprocess.Popen[bytes]", seconds: int) -> None:
    """Wait for *postmap* so long. Raises TableError, also where it warns of a table that can't be read."""
    try:
        _, complaints = postmap.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        postmap.kill()
        postmap.communicate()
        raise TableError(f"it took longer than {seconds} seconds") from error
    said = [
        line
        for line in complaints.decode("utf-8", "replace").splitlines()
        if "fatal" in line or "error" in line or "warning" in line
    ]
    if postmap.returncode != 0 and said:
        raise TableError(_SEVERITY.sub("", said[-1]))

"""The entries of a map's source file: logical lines, each a key and a value, and what a value of access(5) answers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import BinaryIO

from policyd.address import fold, normal_pattern, normal_text
from policyd.errors import AddressError
from policyd.records import KEEP, Keep
from policyd.transfer.postfix.write import DEFAULTS, MARK, PARTS
from policyd.transfer.text import LINE_LIMIT, Line, find_encoding, read_lines

ALONE_MARK = "# policyd: domains do not stand for their subdomains"  # written by us above rows to be corrected

CODE_ALONE = "a number alone means OK to Postfix; to refuse, write REJECT, or a text behind it"
REFUSED = re.compile(r"(?:REJECT|5\d\d)(?!\S)\s*(.*)", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"^(?:[45]\d\d(?:[ -]+|$))?(?:[245]\.\d{1,3}\.\d{1,3}(?:\s+|$))?")
_OUR_TEXTS = frozenset(_CODE.sub("", text) for text in DEFAULTS.values())  # an export's, where there is no reason
_ENTRY = re.compile(r'("(?:[^"\\]|\\.)*+"\S*+|\S++)(?:\s++(.*))?+', re.DOTALL)
_BREAK = re.compile(r"\s*[\n\t]\s*")
_CLIENT = re.compile(r"[0-9.]+(?:/\d+)?|[0-9a-f]*:[0-9a-f:.]*(?:/\d+)?|\[[0-9a-f:.]+\]/\d+", re.IGNORECASE)


class Answer(Enum):
    """What an entry of access(5) answers, as far as policyd can say it."""

    REFUSED = auto()
    CODE = auto()  # 5xx without a text: people mean a refusal, Postfix takes a number for OK
    PASSED = auto()  # by this map
    BESIDES = auto()  # passed, and something is done that policyd doesn't do
    UNCERTAIN = auto()  # put off, thrown away, or left to a restriction
    NONE = auto()  # this is no action


_ANSWERS: tuple[tuple[re.Pattern[str], Answer, str], ...] = (
    (re.compile(r"ok|dunno|permit|relay", re.IGNORECASE), Answer.PASSED, ""),
    (re.compile(r"4\d\d|defer|defer_if_\w+", re.IGNORECASE), Answer.UNCERTAIN, "defer"),
    (re.compile(r"\d+"), Answer.PASSED, "ok"),
    (re.compile(r"(?:permit|reject|check|defer)_\w+,?|(?:warn_if_reject|sleep),?"), Answer.UNCERTAIN, "restriction"),
    (re.compile(r"DISCARD|HANGUP"), Answer.UNCERTAIN, ""),
    (re.compile(r"HOLD|FILTER|REDIRECT|PREPEND|BCC|INFO|WARN|DELAY"), Answer.BESIDES, ""),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A logical line, its key and its value ("" where there is none), and the part of an export that it is in."""

    line: Line
    key: str
    value: str
    part: str


def read_entries(stream: BinaryIO) -> Iterator[Entry]:
    """The entries of *stream*, in its order."""
    part = ""
    for line in _logical_lines(read_lines(stream, find_encoding(stream))):
        if line.text.startswith(MARK):
            part = _part_of(line.text)
            continue
        match = _ENTRY.fullmatch(line.text.strip())
        key, value = (match[1], match[2] or "") if match else (line.text, "")
        yield Entry(line, key, _BREAK.sub(" ", value), part)


def has_alone_mark(stream: BinaryIO) -> bool:
    """Whether *stream* says that its domains do not stand for their subdomains."""
    return any(line.text.startswith(ALONE_MARK) for line in read_lines(stream, find_encoding(stream)))


def answer_of(value: str, *, is_access: bool = False) -> tuple[Answer, str]:
    """What *value* answers, and a word for it.

    Where the map may be another one than access(5), the rarer actions are known in capitals only: HOLD is nobody's
    name.
    """
    if REFUSED.fullmatch(value):
        return (Answer.CODE, value) if value.isdigit() else (Answer.REFUSED, "reject")
    word = value.split(maxsplit=1)[0] if value.strip() else ""
    for pattern, answer, name in _ANSWERS:
        if pattern.fullmatch(word) or (is_access and pattern.fullmatch(word.upper())):
            return answer, name or word.lower()
    return Answer.NONE, word


def is_expression(key: str) -> bool:
    """Whether *key* is of a regexp, pcre or cidr table, and no text to be compared."""
    return key.startswith(("/", "!")) or key in ("if", "endif")


def is_client(key: str) -> bool:
    """Whether *key* is a client's address or network."""
    return bool(_CLIENT.fullmatch(key))


def normal_key(key: str) -> str:
    """*key* as access(5) compares it: `local@domain`, `domain`, `.domain`, `local@`, `<>`; `@domain` keeps its `@`.

    A key that policyd can't read is in lower case, and a `*` in it stands for what its writer meant.
    """
    is_domain = "@" not in key and key != "<>"
    try:
        pattern = normal_pattern(f"@{key}" if is_domain else key)
    except AddressError:
        key = fold(key).removeprefix("*@")
        return f"@{key[1:]}" if key.startswith("*.") else key.lstrip("*")
    return pattern[1:] if is_domain else pattern


def reason_of(value: str) -> str | Keep:
    """The text of a refusal without its status codes; KEEP where there is none. Raises AddressError."""
    match = REFUSED.fullmatch(value)
    assert match is not None
    reason = normal_text(_CODE.sub("", match[1], count=1), "the text").strip()
    return KEEP if not reason or reason in _OUR_TEXTS else reason


def _part_of(text: str) -> str:
    """The part that a comment begins, "" where *text* is no such comment."""
    name = text.removeprefix(MARK).strip()
    return name if text.startswith(MARK) and name in PARTS else ""


def _logical_lines(lines: Iterator[Line]) -> Iterator[Line]:
    """Lines with those that continue them, and the comments that begin parts; other comments are left out.

    Source: postmap(1), access(5): a line that starts with white space continues a logical line.
    """
    taken: list[Line] = []
    size = 0
    for line in lines:
        text = line.text.strip()
        is_mark = bool(_part_of(line.text))
        if not text or (text.startswith("#") and not is_mark):
            continue

        # A line that continues one, as long as the whole is not too long.
        if taken and line.text[0].isspace():
            size += len(line.text)
            if size <= LINE_LIMIT and not line.is_too_long:
                taken.append(line)
                continue
            taken = [Line(taken[0].number, "", is_too_long=True)]
            continue

        # A line that begins one, so that the one before is whole.
        if taken:
            yield _joined(taken)
        taken, size = [line], len(line.text)
    if taken:
        yield _joined(taken)


def _joined(taken: list[Line]) -> Line:
    first = taken[0]
    return Line(first.number, "\n".join(line.text for line in taken), first.is_too_long)

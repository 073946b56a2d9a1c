"""Reads source files of access(5) and virtual(5) maps, as people have them, and as an export writes them.

What stands right of its key says what a line means:

- `REJECT text`, `5xx text`: the key is a blocked sender, to anyone, and the text without its code the reason; with
  `--into mailboxes` (a map of recipients) it is a mailbox that receives from nobody. A domain stands for its
  subdomains too, as by default in Postfix, unless keys with a leading dot show that this default was changed.
- `OK`, `DUNNO`, `PERMIT`, `RELAY`, a number: nothing to do, skipped; a problem where that is an exception to a key that
  the map refuses, such as `friend@example.com OK` beside `example.com REJECT`: policyd has none among senders.
- `DEFER…`, `4xx`, `DISCARD`, `HOLD`, `FILTER`, `REDIRECT`, `PREPEND`, `BCC`, `INFO`, `WARN` (those that are words of
  their own in capitals only), and Postfix's restrictions: policyd does nothing like it, skipped. So are keys that are
  client addresses or networks. Keep the map for them.
- anything else is virtual(5): `address target`, with one target, an address or a mailbox's name; `address` with itself
  as its target is a mailbox; `domain anything`, one word without `_`, is a managed domain. Several targets and
  catch-alls are problems, and so are regular expressions.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO, assert_never

from policyd.address import is_pattern, normal_domain, normal_pattern, normal_text
from policyd.errors import AddressError
from policyd.model import ANYONE, Party, PartyKind, Receive, Unlisted
from policyd.model import OUTSIDE as TO_OUTSIDE
from policyd.records import (
    KEEP,
    AddressRow,
    BlockRow,
    DomainRow,
    Keep,
    ListEdit,
    Notice,
    Problem,
    Record,
    Row,
)
from policyd.transfer import values
from policyd.transfer.fields import mailbox_of
from policyd.transfer.formats import Evidence, Into, ReadOptions, Sample
from policyd.transfer.postfix.write import (
    ALWAYS,
    DEFAULTS,
    INSIDERS,
    LOGINS,
    MARK,
    OUTSIDE,
    OUTSIDERS,
    PARTS,
    RECIPIENTS,
    REGEXPS,
    SENDERS,
    UNLISTED,
    UNOWNED,
    VIRTUAL,
    WRAPPED,
)
from policyd.transfer.text import LINE_LIMIT, Line, find_encoding, read_lines
from policyd.transfer.values import CellError

_MAPPED = re.compile(r'("(?:[^"\\]|\\.)*+"\S*+|[^\s"]\S*+)\s+([^\s#]\S*).*')
_ACTION = re.compile(
    r"[45]\d\d|reject\S*|ok|dunno|permit\S*|defer\S*|discard|hold|filter|redirect|prepend|warn|info|bcc"
)
_ENTRY = re.compile(r'("(?:[^"\\]|\\.)*+"\S*+|\S++)(?:\s++(.*))?+', re.DOTALL)
_CLIENT = re.compile(r"[0-9.]+(?:/\d+)?|[0-9a-f]*:[0-9a-f:.]*(?:/\d+)?|\[[0-9a-f:.]+\]/\d+", re.IGNORECASE)
_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+")|,', re.DOTALL)  # between targets, or else what is quoted
_REFUSED = re.compile(r"(?:REJECT|5\d\d)(?!\S)\s*(.*)", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"^(?:[45]\d\d(?:[ -]+|$))?(?:[245]\.\d{1,3}\.\d{1,3}(?:\s+|$))?")
_OUR_TEXTS = frozenset(_CODE.sub("", text) for text in DEFAULTS.values())  # an export's, where there is no reason
_SKIPPED: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"ok|dunno|permit|relay", re.IGNORECASE), ""),
    (re.compile(r"4\d\d|defer|defer_if_\w+", re.IGNORECASE), "defer"),
    (re.compile(r"\d+"), "ok"),
    (re.compile(r"DISCARD|HOLD|FILTER|REDIRECT|PREPEND|BCC|INFO|WARN"), ""),
    (re.compile(r"(?:permit|reject|check|defer)_\w+,?|(?:warn_if_reject|sleep),?"), "restriction"),
)


@dataclass(frozen=True, slots=True)
class _Map:
    """What is known of the map that a line is in.

    `part` is the file named by an export's comment, "" outside; with `has_parents` a domain stands for its subdomains
    too; `refused` are the domains and `user@` that it refuses, in lower case.
    """

    part: str
    into: Into  # whom it refuses
    domain: str
    has_parents: bool
    refused: frozenset[str] = frozenset()

    def exempted(self, key: str) -> str:
        """What the map refuses but for *key*, "" for nothing."""
        # What a key wider than this one would be, the narrowest first.
        local, at, domain = key.lower().rpartition("@")
        labels = domain.split(".")
        above = [".".join(labels[first:]) for first in range(1, len(labels))]
        wider = [domain] if at else []
        wider += above if self.has_parents else [f".{each}" for each in above]
        wider += [f"{local}@"] if local and domain else []

        # A map of recipients has mailboxes, which need no exceptions.
        match self.into:
            case Into.BLOCKED:
                return next((each for each in wider if each in self.refused), "")
            case Into.MAILBOXES:
                return ""
            case _:
                assert_never(self.into)


@dataclass(frozen=True, slots=True)
class _SkippedError(Exception):
    """A line that is left out on purpose, and the word for it."""

    word: str


def read(stream: BinaryIO, options: ReadOptions) -> Iterator[Record | Notice]:
    """The records of *stream*, one for each logical line that isn't a comment."""
    # What one line means may depend on others: all are read first.
    encoding = find_encoding(stream)
    into = options.into or Into.BLOCKED
    where = _Map("", into, options.domain, *_look_over(read_lines(stream, encoding)))

    # Then each logical line is read; the comments of an export say in which of its maps it is.
    for line in _logical_lines(read_lines(stream, encoding)):
        if line.text.startswith(MARK):
            where = _Map(_part_of(line.text), into, options.domain, has_parents=False)
        elif line.is_too_long:
            yield Record(line.number, "", problems=(Problem(f"this entry has more than {LINE_LIMIT} characters"),))
        else:
            yield _read_entry(line, where)


def recognize(sample: Sample) -> Evidence:
    """By the comments of an export, else where every line has a key and what becomes of it."""
    if any(line.startswith(MARK) for line in sample.lines):
        return Evidence.COMMENT
    logical = [line for line in sample.content if not line[0].isspace()]
    return Evidence.LINES if logical and all(map(_is_mapped, logical)) else Evidence.NONE


def _is_mapped(line: str) -> bool:
    """Whether *line* is one of access(5) or virtual(5): an address or domain, and what becomes of it."""
    match = _MAPPED.fullmatch(line.strip())
    if not match:
        return False
    key, value = match[1], match[2].lower()
    is_address = "@" in key or key == "<>"
    return is_address or bool(_ACTION.fullmatch(value)) or "@" in value or "." in key.strip(".")


def _look_over(lines: Iterator[Line]) -> tuple[bool, frozenset[str]]:
    """Whether domains stand for their subdomains, and the domains and `user@` that are refused, in lower case."""
    has_parents, refused = True, set()
    for line in lines:
        has_parents &= not line.text.startswith(".")
        key, value, *_ = (*line.text.split(maxsplit=1), "", "")
        if ("@" not in key or key.endswith("@")) and _REFUSED.fullmatch(value):
            refused.add(key.lower())
    return has_parents, frozenset(refused)


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


def _read_entry(line: Line, where: _Map) -> Record:
    match = _ENTRY.fullmatch(line.text.strip())
    key, value = (match[1], match[2] or "") if match else (line.text, "")
    value = re.sub(r"\s*[\n\t]\s*", " ", value)
    try:
        if not value:
            raise CellError("this is no entry of a map: nothing stands right of the key")
        rows = _READERS.get(where.part, _read_unknown)(key, value, where)
    except _SkippedError as skipped:
        return Record(line.number, line.text, skipped=(skipped.word,))
    except (AddressError, CellError) as error:
        return Record(line.number, line.text, problems=(Problem(str(error)),))
    return Record(line.number, line.text, rows)


def _read_unknown(key: str, value: str, where: _Map) -> tuple[Row, ...]:
    """The rows of an entry of a map that nothing is known of."""
    # Keys that are no address and no domain.
    if key.startswith("/") or key in ("if", "endif"):
        raise CellError(f"{key[:100]!a} is a regular expression, which can't be a pattern; write the patterns out")
    if _CLIENT.fullmatch(key):
        raise _SkippedError("client")

    # access(5): a refusal, or an action that policyd does not have.
    refused = _REFUSED.fullmatch(value)
    if refused:
        return _read_refusal(key, _reason(refused[1]), where)
    word = value.split(maxsplit=1)[0]
    for pattern, name in _SKIPPED:
        if pattern.fullmatch(word):
            if exempted := where.exempted(key):
                raise CellError(
                    f"{key[:100]!a} is an exception to {exempted[:100]!a}, and policyd has none among senders;"
                    " refuse less, or both"
                )
            raise _SkippedError(name or word.lower())

    # virtual(5): anything else.
    return _read_virtual(key, value, where)


def _read_refusal(key: str, reason: str | Keep, where: _Map) -> tuple[Row, ...]:
    patterns = _patterns(key, has_parents=where.has_parents)
    match where.into:
        case Into.BLOCKED:
            return tuple(BlockRow(Party(PartyKind.PATTERN, pattern), ANYONE, reason=reason) for pattern in patterns)
        case Into.MAILBOXES:
            pass
        case _:
            assert_never(where.into)
    address = patterns[0]
    if not values.is_whole_address(address):
        raise CellError(
            f"{key[:100]!a} is not one recipient; of a map for --into mailboxes, only addresses can be read"
        )
    return (mailbox_of(address, addresses=ListEdit(add=(address,)), receive=Receive.NOBODY, reason=reason),)


def _read_virtual(key: str, value: str, where: _Map) -> tuple[Row, ...]:
    # Refuse what has no counterpart here.
    targets = values.split_list(_COMMA.sub(lambda match: match[1] or " ", value))
    if key.startswith("@"):
        raise CellError(
            f"{key[:100]} is a catch-all, which is no mailbox's address; to accept every recipient:"
            f" policyd domain set {key[1:101]} --unlisted accept"
        )
    if len(targets) != 1:
        raise CellError(f"{key[:100]!a} leads to {len(targets)} targets; an address belongs to one mailbox")

    # A virtual domain, whose value is any word.
    if not is_pattern(key) and "." in key and "@" not in targets[0]:
        if "_" in targets[0]:
            raise CellError(
                f"{targets[0][:100]!a} is perhaps a restriction class; for a virtual domain write: anything"
            )
        return (DomainRow(normal_domain(key)),)

    # An address and where it leads.
    if targets[0][0] in "/|:" or targets[0].endswith("/"):
        raise CellError(f"{targets[0][:100]!a} is neither an address nor a mailbox")
    address, target = values.address(key, where.domain), values.sender(targets[0]).text
    if is_pattern(target) and not values.is_whole_address(target):
        raise CellError(f"{targets[0][:100]!a} is neither an address nor a mailbox")
    if address == target:
        return (mailbox_of(address, addresses=ListEdit(add=(address,))),)
    return (AddressRow(address, target),)


def _read_recipient(key: str, value: str, _where: _Map) -> tuple[Row, ...]:
    # A domain, and what happens to unlisted recipients in it.
    if value == UNOWNED:
        return ()
    if not is_pattern(key):
        domain = DomainRow(normal_domain(key), unlisted=Unlisted.ACCEPT)
        if refused := _REFUSED.fullmatch(value):
            return (replace(domain, receive=Receive.NOBODY, reason=_reason(refused[1])),)
        match value:
            case "DUNNO":
                return (domain,)
            case str(word) if word == UNLISTED:
                return (replace(domain, unlisted=Unlisted.REJECT),)
            case str(word) if word == INSIDERS:
                return (replace(domain, receive=Receive.INSIDERS),)
            case _:
                raise CellError(f"in the part {RECIPIENTS}, a domain is DUNNO, {UNLISTED}, {INSIDERS} or REJECT")

    # A mailbox, and who may send to it.
    address = values.address(key, "")
    added = ListEdit(add=(address,))
    if refused := _REFUSED.fullmatch(value):
        return (mailbox_of(address, addresses=added, receive=Receive.NOBODY, reason=_reason(refused[1])),)
    receive = {"DUNNO": Receive.INHERIT, INSIDERS: Receive.INSIDERS, ALWAYS: KEEP}.get(value)
    if receive is None:
        raise CellError(f"in the part {RECIPIENTS}, a recipient is DUNNO, {INSIDERS} or REJECT")
    return (mailbox_of(address, addresses=added, receive=receive),)


def _read_sender(key: str, value: str, where: _Map) -> tuple[Row, ...]:
    refused = _REFUSED.fullmatch(value)
    if not refused:
        raise CellError(f"in the part {SENDERS}, a sender is REJECT")
    return _read_refusal(key, _reason(refused[1]), _Map(where.part, Into.BLOCKED, "", has_parents=False))


def _read_outsider(key: str, value: str, _where: _Map) -> tuple[Row, ...]:
    if value != OUTSIDE:
        raise CellError(f"in the part {OUTSIDERS}, a sender is {OUTSIDE}")
    patterns = _patterns(key, has_parents=False)
    return tuple(BlockRow(Party(PartyKind.PATTERN, pattern), TO_OUTSIDE) for pattern in patterns)


def _read_nothing(_key: str, _value: str, _where: _Map) -> tuple[Row, ...]:
    """No rows: other parts of an export say the same."""
    return ()


_READERS: Mapping[str, Callable[[str, str, _Map], tuple[Row, ...]]] = {
    RECIPIENTS: _read_recipient,
    SENDERS: _read_sender,
    OUTSIDERS: _read_outsider,
    LOGINS: _read_nothing,
    REGEXPS: _read_nothing,
    WRAPPED: _read_nothing,
    VIRTUAL: _read_virtual,
}


def _patterns(key: str, *, has_parents: bool) -> tuple[str, ...]:
    """The patterns that match what *key* does in access(5)."""
    if is_pattern(key):
        return (normal_pattern(key),)
    if key.startswith((".", "[")) or not has_parents:
        return (normal_pattern(f"@{key}"),)
    return (normal_pattern(f"@{key}"), normal_pattern(f"@.{key}"))


def _reason(text: str) -> str | Keep:
    """The text of a refusal without its status codes; KEEP where there is none."""
    reason = normal_text(_CODE.sub("", text, count=1), "the text").strip()
    return KEEP if not reason or reason in _OUR_TEXTS else reason

"""Converts the texts and JSON values of a file to values in normal form, and back.

What is wrong is an AddressError or a CellError.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeVar

from policyd.address import (
    as_word,
    is_group,
    normal_domain,
    normal_group,
    normal_name,
    normal_text,
    parse_address,
    parse_party,
    quote_local_part,
)
from policyd.errors import PolicydError
from policyd.model import Party, PartyKind, Receive, Unlisted
from policyd.records import ListEdit, RowMode
from policyd.timestamps import read_stored

_Item = TypeVar("_Item")

_WORD = re.compile(r'(?:group:)?"(?:[^"\\]|\\.)*"[^\s,;]*|[^\s,;]+|[,;]', re.DOTALL | re.IGNORECASE)
_TOKEN = re.compile(r'(?:group:)?"(?:[^"\\]|\\.)*"\S*|\S+', re.DOTALL | re.IGNORECASE)
_OPEN = re.compile(r'(?:group:)?"', re.IGNORECASE)
_BEGUN = re.compile(r'(?:group:)?"(?:[^"\\]|\\.)*"', re.DOTALL | re.IGNORECASE)
_QUOTED = re.compile(r'(group:)?"((?:[^"\\]|\\.)*)"', re.DOTALL | re.IGNORECASE)
_SEPARATING = re.compile(r"""[\s",;]""")  # blanks do; people take the others for separators, too
_ADDRESS_IN_ANGLES = re.compile(r"[^<>@]*<([^<>]+@[^<>]*)>")
_SCHEME = re.compile(r"(?:smtp|mailto):\s*(?=\S)", re.IGNORECASE)
_MARKS = "#|/{-"  # at the start of a line or cell they mean something else: a comment, a command, a file


class CellError(PolicydError):
    """A value that can't be what its column or key wants."""


def split_words(text: str) -> tuple[str, ...]:
    """The words of *text*: separated by blanks, those with blanks of their own in double quotes.

    A quoted local part keeps its quotes (`"john doe"@example.com`), a word that is quoted as a whole, or but for
    `group:` in front, loses them.
    """
    if '"' not in text:
        return tuple(text.split())
    return tuple(_unquoted(word) for word in _closed(_TOKEN.findall(text)))


def split_list(text: str) -> tuple[str, ...]:
    """The words of a list in a cell, as `split_words`; they may be separated by semicolon or comma, too.

    Then a name between them may have blanks without being quoted, and so may who has an address (`Bob <bob@x.org>`).
    """
    if not _SEPARATING.search(text):
        return (text,) if text else ()
    items: list[list[str]] = [[]]
    for word in _closed(_WORD.findall(text)):
        if word in (",", ";"):
            items.append([])
        else:
            items[-1].append(word)
    words: list[str] = []
    for item in items:
        if _ADDRESS_IN_ANGLES.fullmatch(" ".join(item)):
            words.append(" ".join(item))
        elif len(items) == 1 or any("@" in word for word in item):
            words += map(_unquoted, item)
        elif item:
            words.append(" ".join(map(_unquoted, item)))
    return tuple(words)


def as_typed(text: str) -> str:
    """*text* as a person types it on the command line, if it is an address as files have it: in `<>`, behind a type."""
    if "@" not in text:
        return text
    if found := _ADDRESS_IN_ANGLES.fullmatch(text):
        text = found[1]
    scheme = _SCHEME.match(text)
    return text[scheme.end() :] if scheme else text


def list_word(party: Party) -> str:
    """*party* as a word of a list in a cell, which `split_list` gives back: a name in quotes if it may be several."""
    return written(party) if party.kind is PartyKind.PATTERN else as_word(str(party))


def quote_in_file(value: str) -> str:
    """An address or pattern in normal form as it is written in a file, its local part quoted where that is needed."""
    return quote_local_part(value, not_first=_MARKS)


def is_whole_address(pattern: str) -> bool:
    """Whether *pattern*, in normal form, is an address with a local part and a domain."""
    local, _, domain = pattern.rpartition("@")
    return bool(local and domain)


def completed(text: str, domain: str) -> str:
    """*text* with *domain*, if that is given and *text* has none, and is no group."""
    is_local = domain and text and "@" not in text and text != "<>" and not is_group(text)
    return f"{text}@{domain}" if is_local else text


def string(value: Any) -> str:
    """*value*, which must be a text."""
    if not isinstance(value, str):
        raise CellError(f"{_shown(value)} is not a text")
    return value


def strings(value: Any) -> tuple[str, ...]:
    """*value*, which must be a list of texts, or nothing."""
    if isinstance(value, tuple):
        return value  # of a cell
    if value is None:
        return ()
    if not isinstance(value, list):
        raise CellError(f"{_shown(value)} is not a list of texts")
    return tuple(string(each) for each in value)


def mode(value: Any) -> RowMode:
    """What a row wants, in any case."""
    return RowMode(_choice(value, RowMode))


def receive(value: Any) -> Receive:
    """Who may send to a mailbox, in any case."""
    return Receive(_choice(value, Receive))


def own_receive(value: Any) -> Receive:
    """Who may send to a domain or a group, which inherit nothing, in any case."""
    return Receive(_choice(value, [each for each in Receive if each is not Receive.INHERIT]))


def unlisted(value: Any) -> Unlisted:
    """What happens to unlisted recipients, in any case."""
    return Unlisted(_choice(value, Unlisted))


def remark(value: Any) -> str:
    """A reason, a comment, a user: one line of text."""
    return "" if value is None else normal_text(string(value), "the text").strip()


def address(text: str, domain: str) -> str:
    """An address in normal form; one without a domain is in *domain*."""
    parsed = parse_address(completed(as_typed(text), domain))
    return f"{parsed.local}@{parsed.domain}"


def sender(value: Any, domain: str = "") -> Party:
    """Who may not send, or is accepted: a pattern, a mailbox or a group.

    What has no domain is in *domain*, if that is given.
    """
    return parse_party(completed(as_typed(string(value)), domain))


def blocked(value: Any) -> Party:
    """Who may not send: also anyone."""
    return parse_party(as_typed(string(value)), PartyKind.ANYONE)


def recipients(value: Any) -> Party:
    """To whom a sender is blocked."""
    return parse_party(as_typed(string(value)), PartyKind.OUTSIDE, PartyKind.ANYONE)


def member(value: Any) -> Party:
    """Who is in a group: a mailbox, by its name or an address of it, or a group."""
    party = parse_party(as_typed(string(value)))
    if party.kind is PartyKind.PATTERN and not is_one_address(party):
        raise CellError(f"{party} is a pattern; the members of a group are mailboxes and groups")
    return party


def is_one_address(party: Party) -> bool:
    """Whether *party* is the pattern of a single address."""
    local, _, domain = party.text.rpartition("@")
    return party.kind is PartyKind.PATTERN and bool(local and domain) and not domain.startswith(".")


def written(party: Party) -> str:
    """A party as people type it; the local part of a pattern is quoted where that is needed."""
    return quote_in_file(party.text) if party.kind is PartyKind.PATTERN else str(party)


def domain_name(value: Any) -> str:
    """A domain in normal form."""
    return normal_domain(string(value))


def target(value: Any) -> str:
    """The domain that an alias domain stands for; "" for none."""
    return "" if value is None or value == "" else domain_name(value)


def group_name(value: Any) -> str:
    """A group's name, with or without `group:` in front."""
    return normal_group(string(value))


def mailbox_name(value: Any) -> str:
    """A mailbox's name."""
    return normal_name(string(value))


def whole_list(values: Iterable[_Item]) -> ListEdit[_Item]:
    """What makes a list hold *values* and nothing else."""
    return ListEdit(clear=True, add=tuple(dict.fromkeys(values)))


def end(value: Any) -> int | None:
    """When something ends, in Unix seconds; None for never. A date alone is the end of that day."""
    return None if value is None else _moment(value, is_end=True)


def moment(value: Any) -> int:
    """A time in Unix seconds. A date alone is the beginning of that day."""
    return _moment(value, is_end=False)


def _moment(value: Any, *, is_end: bool) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError("of another type")
        return read_stored(value, is_end=is_end)
    except ValueError as error:
        raise CellError(
            f"{_shown(value)} is not a time; write 2026-12-31, 2026-12-31T18:00+01:00 or Unix seconds"
        ) from error


def _choice(value: Any, choices: Iterable[str]) -> str:
    allowed = [str(each) for each in choices]
    text = value.lower() if isinstance(value, str) else ""
    if text not in allowed:
        raise CellError(f"{_shown(value)} is none of {', '.join(allowed)}")
    return text


def _closed(words: list[str]) -> list[str]:
    """*words*; raises CellError for one that begins with a quote without an end."""
    for word in words:
        if _OPEN.match(word) and not _BEGUN.match(word):
            raise CellError(f"{word[:100]!a} begins with a quote that does not end")
    return words


def _unquoted(word: str) -> str:
    """*word* of a list without the quotes around it."""
    quoted = _QUOTED.fullmatch(word)
    return (quoted[1] or "") + re.sub(r"\\(.)", r"\1", quoted[2], flags=re.DOTALL) if quoted else word


def _shown(value: Any) -> str:
    """*value* for a message: short, and harmless on a terminal."""
    if isinstance(value, str):
        return ascii(value[:100])
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else "this number"
    return "a list" if isinstance(value, (list, tuple)) else "an object" if isinstance(value, dict) else "a fraction"

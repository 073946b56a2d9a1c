"""jsonl: a JSON object a line, with the keys of `--json`, and `kind`: domain, group, mailbox, blocked or address.

Without a `kind`, the keys say what an object is about: an element of `policyd … list --json` on a line of its own can
be read as it is.
A key that is missing leaves its field as it is, null empties it. `mode` is create, modify, update or delete. An `id` is
not read: it belongs to the database it comes from. An export of the first edition is known by its domains, which say
nothing but `unlisted`: the mailboxes below them that receive from `anyone` are those that are not restricted.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from policyd.model import Party, PartyKind
from policyd.printable import to_json
from policyd.records import Notice, Problem, Record
from policyd.transfer.fields import KEYS, Kind, as_in_first_edition, objects, read_object
from policyd.transfer.formats import Evidence, ExportedTables, Format, ReadOptions, Sample
from policyd.transfer.text import LINE_LIMIT, find_encoding, read_lines
from policyd.transfer.values import CellError, quote_in_file

_BY_KEY = (("sender", Kind.BLOCKED), ("mailbox", Kind.ADDRESS), ("unlisted", Kind.DOMAIN), ("members", Kind.GROUP))
_FIRST_DOMAIN = {"kind", "name", "unlisted"}
_FIRST_MAILBOX = {"kind", "name", "addresses", "receive", "accept", "reason", "until", "comment"}
_OBJECT = re.compile(r"\{\s*(?:[\"}]|$)")
_HINT = "; of an array, put each element on a line of its own: jq -c '.[]'"


def read(stream: BinaryIO, options: ReadOptions) -> Iterator[Record | Notice]:
    """The records of *stream*; empty lines are none."""
    is_first_edition = False
    for line in read_lines(stream, find_encoding(stream)):
        if line.is_too_long:
            yield Record(line.number, "", problems=(Problem(f"this line has more than {LINE_LIMIT} characters"),))
        elif not line.text.isspace() and line.text:
            try:
                said = _load(line.text)
                is_first_edition |= said.keys() == _FIRST_DOMAIN
                is_first = is_first_edition and said.keys() == _FIRST_MAILBOX
                record = read_object(line, _kind_of(said), said, options.domain)
                yield as_in_first_edition(record) if is_first else record
            except CellError as error:
                yield Record(line.number, line.text, problems=(Problem(str(error)),))


def write(tables: ExportedTables, lost: Counter[str]) -> Iterator[str]:
    """The file, a line a piece; nothing is lost."""
    del lost
    for said in objects(tables):
        yield to_json({key: _value(value) for key, value in said.items()}) + "\n"


def recognize(sample: Sample) -> Evidence:
    """By the object that begins on the first line, whole or not."""
    return Evidence.LINES if sample.content and _OBJECT.match(sample.content[0].strip()) else Evidence.NONE


FORMAT = Format(read, write, recognize, has_all=True)


def _load(text: str) -> dict[str, Any]:
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        hint = _HINT if text.strip() in ("[", "]") else ""
        raise CellError(f"not a JSON object: {error.msg} at character {error.pos + 1}{hint}") from error
    except RecursionError as error:
        raise CellError("not an object of policyd's: nested too deeply") from error
    except ValueError as error:  # a number of more digits than Python converts
        raise CellError("not an object of policyd's: a number is too long") from error
    if not isinstance(value, dict):
        raise CellError(f"this is not a JSON object{_HINT if isinstance(value, list) else ''}")
    return value


def _distinct(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise CellError(f"the key {key[:100]!a} is there twice")
        found[key] = value
    return found


def _refuse(constant: str) -> None:
    raise CellError(f"{constant} is not JSON")


_decode = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_refuse).decode


def _kind_of(said: dict[str, Any]) -> Kind:
    """The kind of object that *said* is about; takes the key `kind` away."""
    if "kind" not in said:
        return next((kind for key, kind in _BY_KEY if key in said), Kind.MAILBOX)
    kind = said.pop("kind")
    if not isinstance(kind, str) or kind not in KEYS:
        raise CellError(f"kind is none of {', '.join(KEYS)}")
    return Kind(kind)


def _value(value: Any) -> Any:
    """A value as JSON: a party, and each of a list, as a text."""
    match value:
        case Party():  # a tuple itself
            return _shown(value.text) if value.kind is PartyKind.PATTERN else str(value)
        case tuple():
            return [_value(each) if isinstance(each, Party) else _shown(each) for each in value]
        case _:
            return value


def _shown(pattern: str) -> str:
    """An address or pattern as `--json` shows it; quoted only where it would be read as another."""
    return quote_in_file(pattern)

"""Says what a change of the tables was, in words and as an object: what commands and the history print of it."""

import json
from collections.abc import Mapping
from typing import Any

from policyd.address import as_word, quote_local_part
from policyd.errors import StoreError
from policyd.model import Change, party_text
from policyd.printable import count_of
from policyd.timestamps import show_local

_TIMES = frozenset({"until", "at", "created_at"})
_ADDRESSES = frozenset({"address", "sender", "to", "object"})  # or a name, which has no @
_NOUNS = {"sender": "blocked sender"}
_NOT_NEWS = frozenset({"id", "name", "address", "mailbox_id", "sender", "created_at", "created_by"})


def sides(change: Change) -> tuple[dict[str, Any], dict[str, Any]]:
    """What *change* found and what it left, as the journal has objects; an empty one for nothing.

    Raises StoreError where the journal has something else there, which somebody wrote past policyd.
    """
    return _side(change, change.before), _side(change, change.after)


def odd_change(change: Change) -> StoreError:
    """What to do about a row of the journal that policyd would never write."""
    return StoreError(
        f"the journal has a row that policyd did not write: change {change.id}; see: policyd database check"
    )


def as_object(change: Change) -> dict[str, Any]:
    """A change for `--json`: `before` and `after` are objects, or null."""
    before, after = sides(change)
    return {
        "id": change.id,
        "at": change.at,
        "actor": change.actor,
        "changeset": change.changeset,
        "operation": change.operation,
        "object": change.object,
        "before": before or None,
        "after": after or None,
        "digest": change.digest,
    }


def describe(change: Change) -> str:
    """A change in words: the object, and what is different now."""
    name = change.object.removeprefix(f"{change.operation.partition('.')[0]}:")
    to = whom_it_is_to(change)
    return f"{noun_changed(change)} {name}{' to ' if to else ''}{to}: {difference(change)}"


def noun_changed(change: Change) -> str:
    """What kind of object was changed: `mailbox`, `blocked sender`."""
    noun = change.operation.partition(".")[0]
    return _NOUNS.get(noun, noun)


def whom_it_is_to(change: Change) -> str:
    """To whom the blocked sender that was changed may not send; "" for any other object."""
    stored = _side(change, change.before or change.after)
    return party_text(stored["to"]) if "to" in stored else ""


def who_moved(change: Change) -> str:
    """Who joined or left a group; "" for any other change."""
    stored = _side(change, change.before or change.after)
    return party_text(stored["member"]) if "member" in stored else ""


def difference(change: Change) -> str:
    """What is different after *change*: `added`, `removed`, who joined or left, or each field's old and new value."""
    before, after = sides(change)
    if after.keys() == {"changes"}:
        return count_of(after["changes"], "change")  # an import or an undo, which the journal has row by row
    if "member" in (before or after):
        return f"{who_moved(change)} {'joined' if after else 'left'}"
    if not after:
        return "removed"
    if not before:
        # Of a domain, who may send is news only where somebody may not.
        usual = {"to"} | ({"receive"} if "unlisted" in after and after.get("receive") == "anyone" else set())
        facts = [
            f"{key} {_quoted(key, value)}" for key, value in after.items() if value and key not in _NOT_NEWS | usual
        ]
        return f"added{': ' if facts else ''}{', '.join(facts)}"
    changed = [key for key in after if after[key] != before.get(key)]
    return ", ".join(f"{key} {_quoted(key, before.get(key))} -> {_quoted(key, after[key])}" for key in changed)


def value_text(name: str, value: Any) -> str:
    """The value of the field *name* as text: times in local ISO form, nothing as "".

    Of a list, the words have blanks between, and can be typed and imported again: a name with a blank is in quotes.
    """
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in _TIMES:
        return show_local(value)
    if isinstance(value, Mapping):
        return party_text(value)
    if isinstance(value, (list, tuple)):
        return " ".join(as_word(party_text(each)) for each in value)
    return quote_local_part(value) if name in _ADDRESSES and isinstance(value, str) else str(value)


def _side(change: Change, text: str | None) -> dict[str, Any]:
    try:
        read = json.loads(text or "{}")
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise odd_change(change)
    return read


def _quoted(name: str, value: Any) -> str:
    text = value_text(name, value)
    if name in _TIMES:
        return text or "never"
    is_quoted = isinstance(value, (list, tuple)) and '"' in text
    return f'"{text}"' if not text or (" " in text and not is_quoted) else text

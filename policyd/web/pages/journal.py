"""The page Journal: every change of the tables, the last first, with what each object was before and is after it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from policyd.admin.journal_pages import change_filter, page_of_changes
from policyd.changes import describe, sides, value_text
from policyd.errors import StoreError
from policyd.model import Change
from policyd.web.pages.fitting import weight
from policyd.web.pages.page import UNAVAILABLE, Form, Page, typed
from policyd.web.pages.sources import JOURNAL_ROWS, LIMIT_SECONDS, Sources

_ROWS = 25
_ROOM = 24_000  # bytes of values, as on the page Refusals
SUMMARY = 150  # characters of what a change was in words


class Different(NamedTuple):
    """A field that a change made another value of, in words; "" where the object was not there, or the field not."""

    name: str
    before: str
    after: str


class Row(NamedTuple):
    """A change, what it was in words, and each field that is different since."""

    change: Change
    words: str
    fields: list[Different]


def show(sources: Sources, form: Form, now: int) -> Page:
    """The page for what *form* asks at *now*, in Unix seconds."""
    fields = typed(form, "object", "actor", "before")
    values: dict[str, Any] = {
        "fields": fields,
        "problem": "",
        "rows": [],
        "summary": SUMMARY,
        "before": 0,
        "reached": None,
        "now": now,
    }
    before = int(fields["before"]) if fields["before"].isascii() and fields["before"].isdecimal() else 0
    try:
        with sources.reading() as session, session.reading(limit_seconds=LIMIT_SECONDS) as queries:
            is_wanted = change_filter(fields["object"], fields["actor"])
            page = page_of_changes(queries, min(before, 2**62), is_wanted, limit=_ROWS, rows=JOURNAL_ROWS)
    except StoreError as error:
        return Page("journal.html", values | {"problem": str(error)}, UNAVAILABLE)

    # As many as fit on the page; the next one begins with the first that does not.
    rows, last = _fitting(page.changes)
    values |= {"rows": rows, "before": last or page.before, "reached": page.reached}
    return Page("journal.html", values)


def row_of(change: Change) -> Row:
    """*change* as a row of the page."""
    return Row(change, describe(change), [*_different(change)])


def _fitting(changes: list[Change]) -> tuple[list[Row], int]:
    """The rows that fit on a page, and the id of the last of them where some do not, else 0."""
    rows: list[Row] = []
    room = _ROOM
    for change in changes:
        row = row_of(change)
        room -= weight(
            row.words[:SUMMARY], change.actor, change.object, *(text for each in row.fields for text in each)
        )
        if rows and room < 0:
            return rows, rows[-1].change.id
        rows.append(row)
    return rows, 0


def _different(change: Change) -> Iterator[Different]:
    before, after = sides(change)
    for name in {**before, **after}:
        was, is_now = value_text(name, before.get(name)), value_text(name, after.get(name))
        if was != is_now:
            yield Different(name, was, is_now)

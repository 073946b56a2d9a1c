"""The page Refusals: what was refused lately, narrowed by what is known of a mail, and the same as csv."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from policyd.admin.refused import COLUMNS, NARROWED, SPOKEN, WOULD, Position, Wanted, as_csv, page_of, texts_in, wanted
from policyd.refusals import Refused
from policyd.timestamps import read_when
from policyd.web.pages.fitting import weight
from policyd.web.pages.page import BAD_REQUEST, OK, Form, Page, Streamed, field_of_request, typed
from policyd.web.pages.sources import Sources

_ROWS = 25
_ROOM = 24_000  # bytes of values, so that a page with whatever in it is no larger than a page may be
_TIMES = ("since", "until")


def show(sources: Sources, form: Form, now: int) -> Page:
    """The page for what *form* asks at *now*, in Unix seconds."""
    fields, problems, is_wanted = _filter(form, now)
    page = page_of(_newest(sources, fields), is_wanted, _position(form), limit=_ROWS, room=_ROOM, weigh=_weigh)
    values: dict[str, Any] = {
        "fields": fields,
        "is_narrowed": any(fields.values()),
        "problems": problems,
        "refusals": page.refusals,
        "next": f"{page.next.at!r} {page.next.same}" if page.next else "",
        "is_further": "behind" in form,
        "reach": sources.refusals.reach(),
        "now": now,
    }
    return Page("refusals.html", values, BAD_REQUEST if problems else OK)


def as_file(sources: Sources, form: Form, now: int) -> Streamed | Page:
    """All that *form* asks for as csv; where something is wrong with it, the page that says so."""
    fields, problems, is_wanted = _filter(form, now)
    if problems:
        return show(sources, form, now)
    name = time.strftime("refusals-%Y%m%d-%H%M.csv", time.localtime(now))
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Streamed("text/csv; charset=utf-8", as_csv(_newest(sources, fields), is_wanted), headers)


def _newest(sources: Sources, fields: Mapping[str, str]) -> Iterator[Refused]:
    """The refusals that may be what the *fields* of the form ask for, the newest first."""
    return sources.refusals.newest(texts_in({name: fields[name] for name in NARROWED}))


def _filter(form: Form, now: int) -> tuple[dict[str, str], dict[str, str], Wanted]:
    """What was typed, what is wrong with it by the name of the field, and which refusals are wanted."""
    fields = typed(form, *NARROWED, *_TIMES, "spoken")
    problems: dict[str, str] = {}
    times: dict[str, float] = {}
    for name in _TIMES:
        try:
            if fields[name]:
                times[name] = read_when(fields[name], now, is_end=name == "until")
        except ValueError:
            problems[name] = "a date as 2026-11-25, a time as 2026-11-25 14:30, or a span as -2h or -7d"
    spoken = fields["spoken"] if fields["spoken"] in (WOULD, SPOKEN) else ""
    return fields, problems, wanted({name: fields[name] for name in NARROWED}, spoken=spoken, **times)


def _position(form: Form) -> Position | None:
    """Behind which refusal the page begins; what is no position begins with the newest."""
    at, _, same = form.get("behind", "").partition(" ")
    try:
        return Position(float(at), int(same))
    except ValueError:
        return None


def _weigh(refused: Refused) -> int:
    return weight(field_of_request(refused.decision.request), *(column(refused) for column in COLUMNS.values()))

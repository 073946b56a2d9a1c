"""The page Mailbox: what is in force for a mailbox or an address, where that comes from, and who changed what."""

from typing import Any

from policyd.admin.about import about
from policyd.errors import AddressError, RefusedError, StoreError
from policyd.web.pages.page import BAD_REQUEST, UNAVAILABLE, Form, Page, typed
from policyd.web.pages.sources import LIMIT_SECONDS, Sources

_CHANGES = 10


def show(sources: Sources, form: Form, now: int) -> Page:
    """The page for what *form* asks at *now*, in Unix seconds."""
    fields = typed(form, "name")
    values: dict[str, Any] = {"fields": fields, "problem": "", "about": None, "most": _CHANGES, "now": now}
    if not fields["name"]:
        return Page("mailbox.html", values)
    try:
        with sources.reading() as session:
            values["about"] = about(
                session,
                sources.settings,
                fields["name"],
                now,
                limit_seconds=LIMIT_SECONDS,
                changes=_CHANGES + 1,
            )
    except (AddressError, RefusedError) as error:
        return Page("mailbox.html", values | {"problem": str(error)}, BAD_REQUEST)
    except StoreError as error:
        return Page("mailbox.html", values | {"problem": str(error)}, UNAVAILABLE)
    return Page("mailbox.html", values)

"""The pages Mailbox, Domain and Group: what is in force for one of them, who says so, and who changed what."""

from collections.abc import Callable, Mapping
from typing import Any

from policyd.admin.about import ENTRIES, about
from policyd.admin.about_domain import about_domain
from policyd.admin.about_group import about_group
from policyd.admin.answering import noun_of
from policyd.admin.session import Session
from policyd.errors import AddressError, RefusedError, StoreError
from policyd.model import Domain, Group, Mailbox
from policyd.settings import Settings
from policyd.web.pages.page import BAD_REQUEST, OK, UNAVAILABLE, Form, Page, typed
from policyd.web.pages.sources import LIMIT_SECONDS, Sources

_CHANGES = 10
_ROWS = 25  # mailboxes of a domain, or members of a group


def show_mailbox(sources: Sources, form: Form, now: int) -> Page:
    """The page Mailbox for what *form* asks at *now*, in Unix seconds; of what is a domain or a group, that page."""
    return _show(Mailbox.noun, sources, form, now)


def show_domain(sources: Sources, form: Form, now: int) -> Page:
    """The page Domain for what *form* asks at *now*, in Unix seconds."""
    return _show(Domain.noun, sources, form, now)


def show_group(sources: Sources, form: Form, now: int) -> Page:
    """The page Group for what *form* asks at *now*, in Unix seconds."""
    return _show(Group.noun, sources, form, now)


def _show(noun: str, sources: Sources, form: Form, now: int) -> Page:
    """The page of this *noun*, which is its path, too."""
    fields = typed(form, "name", "after")
    values: dict[str, Any] = {
        "fields": fields,
        "about": None,
        "most": _CHANGES,
        "most_entries": ENTRIES,
        "now": now,
    }
    problem, status = "", OK
    try:
        if fields["name"]:
            with sources.reading() as session:
                if noun == Mailbox.noun:
                    noun = noun_of(session, fields["name"], limit_seconds=LIMIT_SECONDS) or noun
                values["about"] = _FINDING[noun](session, sources.settings, fields, now)
    except (AddressError, RefusedError) as error:
        problem, status = str(error), BAD_REQUEST
    except StoreError as error:
        problem, status = str(error), UNAVAILABLE
    return Page(f"{noun}.html", values | {"problem": problem}, status, f"/{noun}")


def _about_mailbox(session: Session, settings: Settings, fields: Form, now: int) -> Any:
    return about(session, settings, fields["name"], now, limit_seconds=LIMIT_SECONDS, changes=_CHANGES + 1)


def _by_page(find: Callable[..., Any]) -> Callable[[Session, Settings, Form, int], Any]:
    """What finds a part of the rows that *find* has, as the form says."""

    def about_one(session: Session, _: Settings, fields: Form, now: int) -> Any:
        after = fields["after"]
        return find(
            session, fields["name"], now, after=after, limit_seconds=LIMIT_SECONDS, rows=_ROWS, changes=_CHANGES + 1
        )

    return about_one


_FINDING: Mapping[str, Callable[[Session, Settings, Form, int], Any]] = {
    Mailbox.noun: _about_mailbox,
    Domain.noun: _by_page(about_domain),
    Group.noun: _by_page(about_group),
}

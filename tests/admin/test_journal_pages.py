"""The journal by pages: nothing is left out, nothing comes twice, and no page looks at more rows than it may."""

import pytest

from policyd.admin.journal_pages import (
    change_filter,
    changes_of_address,
    changes_of_group,
    changes_of_mailbox,
    page_of_changes,
)
from policyd.admin.session import open_session
from policyd.errors import StoreError
from policyd.model import OUTSIDE, Domain
from policyd.settings import AuditSettings, Settings
from policyd.store.database import reading
from policyd.store.edit import EntryTerms, need_group
from tests.support.parties import party
from tests.support.writing import NOW


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A journal of a domain, ten mailboxes with their addresses, an entry, and a renamed mailbox."""
    folder = tmp_path_factory.mktemp("pages")
    session = open_session(Settings(database=f"sqlite:///{folder}/policyd.db", audit=AuditSettings(syslog="none")))
    with session.changing("root", NOW, may_create=True) as made:
        made.edit.add_domain(Domain("example.com"))
        for number in range(10):
            made.edit.add_mailbox(f"user{number}", [f"user{number}@example.com"], "")
    with session.changing("ann", NOW + 60) as made:
        made.edit.block_sender(party("user3"), OUTSIDE, EntryTerms(reason="left"))
        made.edit.rename_mailbox("user3", "former")
        made.edit.add_group("crew")
        made.edit.join(need_group(made.edit.queries, "crew"), [party("former")])
    return session


def pages(session, is_wanted, **bounds):
    """Every page, from the last row to the first."""
    with session.reading() as queries:
        page = page_of_changes(queries, 0, is_wanted, **bounds)
        yield page
        while page.before:
            page = page_of_changes(queries, page.before, is_wanted, **bounds)
            yield page


@pytest.mark.parametrize("limit", [1, 7, 23, 24, 1000])
@pytest.mark.parametrize("rows", [1, 5, 23, 1000])
def test_pages_have_each_row_once(session, limit, rows):
    """However many rows a page has, and however many it may look at."""
    found = [*pages(session, lambda _: True, limit=limit, rows=rows)]
    numbers = [change.id for page in found for change in page.changes]
    assert numbers == [*range(len(numbers), 0, -1)]
    assert len(numbers) >= 22
    assert all(len(page.changes) <= min(limit, rows) for page in found)


def test_a_filter_finds_what_stands_far_back(session):
    """Who looks for an object turns pages that may be empty until it comes, and each says how far it looked."""
    found = [*pages(session, change_filter("user0", ""), limit=50, rows=4)]
    assert [change.object for page in found for change in page.changes] == ["user0@example.com", "user0"]
    assert [page.reached.id for page in found if page.reached] == sorted(
        {page.reached.id for page in found if page.reached}, reverse=True
    )
    by_ann = [change for page in pages(session, change_filter("", "ANN"), limit=50, rows=50) for change in page.changes]
    assert {change.actor for change in by_ann} == {"ann"}


def test_changes_of_a_mailbox_are_found_under_its_former_name(session):
    """The journal knows it by its number: who asks what happened to it does not care what it was called."""
    with session.reading() as queries:
        mailbox = queries.mailbox_named("former")
        assert mailbox is not None
        made = [*changes_of_mailbox(queries, mailbox)]
        assert [*changes_of_address(queries, "user3@example.com")] == [
            change for change in made if change.operation.startswith("address.")
        ]
    assert {change.operation for change in made} >= {"mailbox.rename", "sender.block", "mailbox.add"}
    assert {change.object for change in made} == {"user3", "user3@example.com", "group:crew"}
    assert [change.id for change in made] == sorted((change.id for change in made), reverse=True)


def test_a_question_that_takes_too_long_ends(session):
    """A page's question of a large database must end, or all pages wait for it."""
    with pytest.raises(StoreError, match="took longer than it may"):
        ask_for_ever(session.database)


def ask_for_ever(database):
    """Ask what has no end, for a hundredth of a second."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0"
    with reading(database, limit_seconds=0.01) as connection:
        connection.driver.execute(numbers).fetchall()


def test_group_is_followed_through_its_names(tmp_path):
    """Who joined it, what it joined, what blocks it, and nothing about another group."""
    session = open_session(Settings(database=f"sqlite:///{tmp_path}/policyd.db", audit=AuditSettings(syslog="none")))
    with session.changing("root", NOW, may_create=True) as made:
        edit = made.edit
        edit.add_mailbox("ann", [], "")
        for name in ("crew", "staff", "others"):
            edit.add_group(name)
        edit.join(need_group(edit.queries, "crew"), [party("ann")])
        edit.join(need_group(edit.queries, "others"), [party("ann")])
        edit.rename_group("crew", "team")
        edit.join(need_group(edit.queries, "staff"), [party("group:team")])
        edit.block_sender(party("group:team"), OUTSIDE, EntryTerms())
    with session.reading() as queries:
        team = need_group(queries, "team")
        found = changes_of_group(queries, team, queries.entries_of(team.party))
        assert [(change.operation, change.object) for change in found] == [
            ("sender.block", "group:team"),
            ("group.join", "group:staff"),
            ("group.rename", "group:crew"),
            ("group.join", "group:crew"),
            ("group.add", "group:crew"),
        ]

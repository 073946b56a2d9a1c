"""The mailboxes of a domain and the members of a group by pages: nothing is left out, and no page looks at too much."""

import pytest

from policyd.admin import mailbox_pages
from policyd.admin.mailbox_pages import count_in_domains, count_in_group, page_of_mailboxes, page_of_members
from policyd.admin.session import Session
from policyd.model import OUTSIDE, Domain, Receive
from policyd.settings import AuditSettings
from policyd.store.edit import EntryTerms, RestrictionTerms, need_domain, need_group, need_mailbox
from tests.support.engine import new_database
from tests.support.parties import party
from tests.support.writing import NOW

ENTRIES = [
    ("a@b.example", "@example.com"),
    ("@example.com", "outside"),
    ("@.example.com", "user1"),
    ("c@b.example", "@example.com"),
    ("user2", "@.example.com"),
    ("d@b.example", "user1"),
    ("e@b.example", "@example.org"),
]
NAMES = ["example.com", "example.org"]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Two domains of which one is an alias, a third one, and groups within a group, one of which is empty."""
    with new_database(tmp_path_factory.mktemp("mailboxes")) as database:
        session = Session(database, AuditSettings(syslog="none"))
        fill(session)
        yield session


def fill(session):
    """Make the tables."""
    with session.changing("root", NOW, may_create=True) as made:
        edit = made.edit
        edit.add_domain(Domain("example.com"))
        edit.add_domain(Domain("example.org", alias_of="example.com"))
        edit.add_domain(Domain("sub.example.com"))
        for number in range(9):
            edit.add_mailbox(f"user{number}", [f"user{number}@example.com", f"b{number}@example.org"], "")
        edit.add_mailbox("quoted", ["a@example.com@sub.example.com"], "")
        edit.restrict(need_mailbox(edit.queries, "user0"), RestrictionTerms(Receive.NOBODY))
        for number, (sender, to) in enumerate(ENTRIES):
            edit.block_sender(party(sender), OUTSIDE if to == "outside" else party(to), EntryTerms(reason=f"{number}"))
        edit.add_group("empty")
        edit.add_group("inner", [party("user7"), party("user8"), party("user0")])
        edit.add_group("middle", [party("group:inner"), party("group:empty"), party("user6")])
        edit.add_group("round", [party("user3")])
        edit.add_group("trip", [party("group:round")])
        edit.join(need_group(edit.queries, "round"), [party("group:trip")], takes_circles=True)
        edit.add_group("outer", [party("user0"), party("group:middle"), party("user1"), party("user2")])


def mailboxes(queries, name, names, most):
    """Every page, from the first to the last."""
    domain, after = need_domain(queries, name), ""
    while True:
        page = page_of_mailboxes(queries, domain, names, after, NOW, most=most)
        yield page.mailboxes
        if not page.after:
            return
        after = page.after


def members(queries, name, most):
    """Every page, from the first to the last."""
    group, after = need_group(queries, name), ""
    while True:
        page = page_of_members(queries, group, after, NOW, most=most)
        yield page.members
        if not page.after:
            return
        after = page.after


@pytest.mark.parametrize("rows", [1, 4, 18, 1000])
@pytest.mark.parametrize("most", [1, 4, 9, 100])
def test_pages_have_each_mailbox_once(session, monkeypatch, most, rows):
    """However many a page has, and however many addresses it may look at."""
    monkeypatch.setattr(mailbox_pages, "_ROWS", rows)
    with session.reading() as queries:
        pages = [*mailboxes(queries, "example.com", NAMES, most)]
        assert all(len(page) <= most for page in pages)
        assert [each.mailbox.name for page in pages for each in page] == [f"user{n}" for n in range(9)]
        assert {len(each.addresses) for page in pages for each in page} == {2}
        only = [each for page in mailboxes(queries, "sub.example.com", ["sub.example.com"], most) for each in page]
        assert [each.mailbox.name for each in only] == ["quoted"]


@pytest.mark.parametrize("visited", [1, 2, 25])
@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_pages_have_each_member_once(session, monkeypatch, most, visited):
    """However many a page has, and however many groups it may look into: the direct ones are the first."""
    monkeypatch.setattr(mailbox_pages, "_VISITED", visited)
    with session.reading() as queries:
        pages = [*members(queries, "outer", most)]
    assert all(len(page) <= most for page in pages)
    assert [(str(each.party), each.group.text) for page in pages for each in page] == [
        *[(each, "outer") for each in ("user0", "group:middle", "user1", "user2")],
        *[(each, "inner") for each in ("user7", "user8", "user0")],
        *[(each, "middle") for each in ("group:inner", "group:empty", "user6")],
    ]


def test_what_restricts_a_member_is_told(session):
    """And nothing is told of a group, which receives nothing itself."""
    with session.reading() as queries:
        (page,) = members(queries, "outer", 100)
    assert page[0].held is not None
    assert page[0].held.restriction.receive is Receive.NOBODY
    assert page[1].held is None


def test_a_circle_has_an_end(session):
    """An import takes one, and it is harmless: each group is there once."""
    with session.reading() as queries:
        (page,) = members(queries, "round", 100)
        assert [(str(each.party), each.group.text) for each in page] == [
            ("user3", "round"),
            ("group:trip", "round"),
            ("group:round", "trip"),
        ]
        assert count_in_group(queries, need_group(queries, "round")) == (1, True)


def test_count_is_of_mailboxes(session):
    """One counts once, however it is in there."""
    with session.reading() as queries:
        assert count_in_group(queries, need_group(queries, "outer")) == (6, True)
        assert count_in_domains(queries, NAMES) == (9, True)
        assert count_in_domains(queries, ["sub.example.com"]) == (1, True)


def test_count_says_that_there_may_be_more(session, monkeypatch):
    """What was not looked at may be more."""
    monkeypatch.setattr(mailbox_pages, "_ROWS", 4)
    with session.reading() as queries:
        count = count_in_group(queries, need_group(queries, "outer"))
        assert not count.is_all
        assert 0 < count.mailboxes <= 4
        assert count_in_domains(queries, NAMES) == (3, False)  # the first address is in neither


def test_entries_are_the_oldest_of_those_about_all_addresses(session):
    """As many as a page looks at: an import may have a hundred thousand of them."""
    with session.reading() as queries:
        whole, parts = (["@example.com"], ["@.example.com", "@example.com"])
        who, to = queries.entries_with(parts, 10)
        assert [str(each.to) for each in who] == ["outside", "user1"]
        assert [str(each.who) for each in to] == ["a@b.example", "c@b.example", "user2"]
        assert [str(each.who) for each in queries.entries_with(whole, 1)[1]] == ["a@b.example"]
        mailbox = need_mailbox(queries, "user1").party
        assert [str(each.who) for each in queries.entries_to(mailbox, 1)] == ["@.example.com"]
        assert [each.to for each in queries.entries_of(party("@example.com"), 1)] == [OUTSIDE]

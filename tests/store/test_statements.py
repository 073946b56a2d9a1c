"""How many statements the daemon's reads take: what nobody uses costs nothing, what is used as little as can be."""

from contextlib import closing

import pytest

from policyd.decide import Decider
from policyd.model import Domain, Request
from policyd.settings import Settings
from policyd.store.connection import Database
from policyd.store.database import changing, create_database
from policyd.store.edit import EntryTerms, RestrictionTerms
from policyd.store.lookup import Lookup
from tests.support.parties import parties, party, party_set
from tests.support.writing import NOW, editor_on


class CountedLookup(Lookup):
    """The daemon's reads, which count their statements."""

    count = 0

    def fetch(self, statement, *values):
        """All rows that *statement* finds."""
        self.count += 1
        return super().fetch(statement, *values)


@pytest.fixture
def database(tmp_path):
    """A domain and two mailboxes, without groups, restrictions and blocks."""
    database = Database.at(tmp_path / "policyd.db")
    create_database(database)
    with changing(database) as connection:
        edit = editor_on(connection)
        edit.add_domain(Domain("example.com"))
        edit.add_mailbox("alice", ["alice@example.com", "a@example.com"], "")
        edit.add_mailbox("bob", ["bob@example.com"], "")
    return database


def counted(database, **asked: str) -> tuple[int, int]:
    """The statements of a request when nothing is remembered but the state of the tables, and when all of it is."""
    with closing(CountedLookup(database)) as lookup:
        decider = Decider(Settings(), lookup)
        lookup.begin()
        lookup.count = 0
        request = Request(protocol_state="RCPT", **asked)
        decider.decide(request, NOW)
        cold = lookup.count
        decider.decide(request, NOW)
        return cold, lookup.count - cold


USUAL = [
    pytest.param({"sender": "x@y.example", "recipient": "alice@example.com"}, 2, id="Internet to a mailbox"),
    pytest.param({"sender": "", "recipient": "alice@example.com"}, 2, id="a bounce to a mailbox"),
    pytest.param(
        {"sasl_username": "alice@example.com", "sender": "alice@example.com", "recipient": "x@y.example"},
        *(2,),
        id="who is logged in to outside",
    ),
]


@pytest.mark.parametrize(("asked", "statements"), USUAL)
def test_usual_request_takes_fewer_statements_than_in_the_first_edition(database, asked, statements):
    """Cold one for each domain and mailbox in question, and none for what nobody uses; hot none at all."""
    cold, hot = counted(database, **asked)
    assert cold == statements
    assert hot == 0


@pytest.mark.parametrize(("asked", "statements"), USUAL)
def test_groups_of_others_and_closed_domains_elsewhere_cost_at_most_a_look(database, asked, statements):
    """One statement more, for what nobody may send to the recipient."""
    with changing(database) as connection:
        edit = editor_on(connection)
        edit.add_group("staff", parties("bob"))
        edit.add_domain(Domain("closed.example"))
        edit.restrict(edit.domain("closed.example"), RestrictionTerms())
        edit.block_sender(party("anyone"), party("@competitor.example"), EntryTerms())
    cold, hot = counted(database, **asked)
    assert cold == statements + 1
    assert hot == 0


@pytest.fixture
def busy(database):
    """The same, with groups in groups, a circle that somebody made past policyd, and entries of every kind."""
    with changing(database) as connection:
        edit = editor_on(connection)
        edit.add_group("staff", parties("alice", "bob"))
        edit.add_group("all", parties("group:staff"))
        connection.driver.execute("INSERT INTO group_member VALUES (99, 1, NULL, 2)")
        edit.restrict(edit.group("staff"), RestrictionTerms(accepted=party_set("@p.example", "bob", "group:all")))
        edit.restrict(edit.domain("example.com"), RestrictionTerms(accepted=party_set("alice")))
        edit.accept(edit.mailbox("alice"), parties("x@"))
        for number in range(5):
            terms = EntryTerms(allowed=party_set(f"u{number}@"), allowed_senders=party_set("bob"))
            edit.block_sender(party("alice"), party(f"@{number}.example"), terms)
        edit.block_sender(party("group:all"), None, EntryTerms())
        edit.block_sender(party("@example.com"), None, EntryTerms())
        for to in ("outside", "@c.example", "group:staff", "bob"):
            edit.block_sender(party("anyone"), party(to), EntryTerms())
    with closing(CountedLookup(database)) as lookup:
        lookup.begin()
        lookup.count = 0
        yield lookup


def test_state_of_the_tables_is_known_after_four_statements(database):
    """Flags switch off, for all requests, what nobody uses; few domains and few blocked senders are known."""
    with closing(CountedLookup(database)) as lookup:
        lookup.begin()
        assert (lookup.count, lookup.has_groups, lookup.has_anyone_entries) == (4, False, False)
        holder = lookup.holder_of("alice@example.com")
        assert holder is not None
        assert not holder.is_in_groups
        assert (lookup.entries_of_anyone(1, (), ("@y.example",)), lookup.count) == ((), 5)
    with changing(database) as connection:
        edit = editor_on(connection)
        edit.add_group("staff", parties("bob"))
        edit.block_sender(party("anyone"), party("outside"), EntryTerms())
    with closing(CountedLookup(database)) as lookup:
        lookup.begin()
        assert (lookup.count, lookup.has_groups, lookup.has_anyone_entries) == (4, True, True)


def test_groups_are_found_at_any_depth_in_one_statement(busy):
    """Each once, though the groups go round in a circle."""
    assert sorted(group.name for group in busy.groups_of(1)) == ["all", "staff"]
    assert busy.count == 1


def test_entries_and_all_their_exceptions_are_three_statements(busy):
    """However many entries there are."""
    found = busy.entries_of(1, [1, 2], ["alice@example.com", "@example.com"])
    assert len(found) == 7
    assert sum(len(entry.allowed) + len(entry.allowed_senders) for entry in found) == 10
    assert busy.count == 3


def test_entries_of_anyone_are_asked_for_by_the_recipient(busy):
    """A list of ten thousand forbidden addresses is no business of other recipients."""
    outside = busy.entries_of_anyone(0, (), ["x@c.example", "@c.example"])
    assert sorted(str(entry.to) for entry in outside) == ["@c.example", "outside"]
    inside = busy.entries_of_anyone(2, [1, 2], ["bob@example.com"])
    assert sorted(str(entry.to) for entry in inside) == ["bob", "group:staff", "outside"]
    assert busy.count == 4


def test_accepted_senders_of_several_are_one_statement(busy):
    """Of the mailbox, of the groups that decide, and of the domain."""
    assert sorted(map(str, busy.accepted_by(mailbox_id=1, group_ids=[1], domain="example.com"))) == [
        *("@p.example", "alice", "bob", "group:all", "x@")
    ]
    assert busy.count == 1
    assert busy.accepted_by() == frozenset()
    assert busy.count == 1


def test_who_holds_an_address_is_one_statement(busy):
    """Without the list of whom it accepts, which matters only where it is restricted."""
    holder = busy.holder_of("a@example.com")
    assert (holder.name, holder.primary) == ("alice", None)
    assert busy.holder_of("x@example.com") is None
    named = busy.mailbox_called("alice")
    assert named == holder._replace(primary="alice@example.com")
    assert busy.mailbox_called("eve") is None
    assert (busy.primary_address(1), busy.addresses_of(1)) == (
        "alice@example.com",
        ("alice@example.com", "a@example.com"),
    )
    assert busy.primary_address(9) == ""
    assert busy.count == 7


@pytest.mark.parametrize("count", [1, 3, 300])
def test_any_number_of_entries_gets_its_exceptions(database, count):
    """Five thousand forbidden addresses are not beyond what a statement can hold."""
    with changing(database) as connection:
        edit = editor_on(connection)
        for number in range(count):
            terms = EntryTerms(allowed=party_set(f"u{number}@{number}.example"))
            edit.block_sender(party("alice"), party(f"@{number}.example"), terms)
    with closing(CountedLookup(database)) as lookup:
        lookup.begin()
        found = lookup.entries_of(1, (), ())
        assert {str(entry.to): [*map(str, entry.allowed)] for entry in found} == {
            f"@{number}.example": [f"u{number}@{number}.example"] for number in range(count)
        }


@pytest.mark.parametrize("place", [0, 15, 16, 17, 599])
def test_entry_is_found_behind_any_number_of_patterns(database, place):
    """A hundred labels in front of a domain hide nobody: the patterns may be more than a statement can hold."""
    patterns = [f"@{number}.example" for number in range(600)]
    with changing(database) as connection:
        edit = editor_on(connection)
        edit.block_sender(party("alice"), None, EntryTerms())
        edit.block_sender(party(patterns[place]), None, EntryTerms())
    with closing(CountedLookup(database)) as lookup:
        lookup.begin()
        assert {str(entry.who) for entry in lookup.entries_of(1, (), patterns)} == {"alice", patterns[place]}
        assert lookup.entries_of(2, (), [each for each in patterns if each != patterns[place]]) == ()


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda lookup: lookup.groups_of(1), id="groups"),
        pytest.param(lambda lookup: lookup.entries_of(1, [1, 2], ["a@", "@example.com"]), id="entries"),
        pytest.param(lambda lookup: lookup.entries_of_anyone(1, [1, 2], ["a@", "@b.example"]), id="anyone"),
        pytest.param(
            lambda lookup: lookup.accepted_by(mailbox_id=1, group_ids=[1, 2], domain="example.com"), id="accepted"
        ),
        pytest.param(lambda lookup: (lookup.primary_address(1), lookup.addresses_of(1)), id="addresses"),
        pytest.param(lambda lookup: lookup.holder_of("a@example.com"), id="holder"),
    ],
)
def test_no_lookup_goes_through_a_table(busy, ask):
    """The answer takes as long with a million mailboxes as with ten."""
    asked: list[str] = []
    busy._connection.set_trace_callback(asked.append)
    ask(busy)
    busy._connection.set_trace_callback(None)
    for statement in asked:
        for row in busy._connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
            assert not row[-1].startswith("SCAN") or row[-1].startswith(("SCAN up", "SCAN CONSTANT")), (statement, row)

"""Rows of a file into the tables: what each says of its object, and that a record comes whole or not at all."""

from contextlib import contextmanager

import pytest

from policyd.errors import RefusedError
from policyd.model import Receive, Unlisted
from policyd.records import AddressRow, BlockRow, DomainRow, ListEdit, MailboxRow, Problem, Record, RowMode
from policyd.store.bulk import BulkEditor
from policyd.store.database import changing
from policyd.store.queries import Queries
from policyd.store.replace import Replacement
from policyd.transfer.fields import mailbox_of
from tests.support.command_line import command_line
from tests.support.parties import parties, party
from tests.support.writing import NOW, bulk_on, editor_on


@pytest.fixture
def policyd():
    """A company with one domain and two mailboxes; Bob is restricted, and blocked to Alice."""
    with command_line(
        "domain add example.com",
        "mailbox add Alice alice@example.com a@example.com",
        "mailbox add Bob bob@example.com",
        "mailbox restrict Bob --accept @partner.example --reason quiet",
        "sender block Bob --to Alice --reason quarrel --except a@example.com",
    ) as policyd:
        yield policyd


def imported(policyd, *rows, add_domains=False):
    """The problems of an import of *rows*, each a record of its own if it isn't a tuple of rows; and its tally."""
    with changing(policyd.store) as connection:
        bulk = bulk_on(connection, adds_domains=add_domains)
        problems = []
        for line, row in enumerate(rows, 1):
            record = Record(line, f"line {line}", row if isinstance(row, tuple) else (row,))
            problems += [(line, each.message) for each in bulk.apply(record)]
        problems += [(record.line, each.message) for record, found in bulk.finish() for each in found]
    return problems, dict(bulk.tally)


def good(policyd, *rows, **options):
    """The tally of an import of *rows*, all of them good."""
    problems, tally = imported(policyd, *rows, **options)
    assert problems == []
    return tally


def refused(policyd, *rows, **options):
    """What is wrong with the last of *rows*, which left the tables as they were without it."""
    if rows[:-1]:
        good(policyd, *rows[:-1], **options)
    before = contents(policyd)
    (problem,), _ = imported(policyd, rows[-1], **options)
    assert contents(policyd) == before
    return problem[1]


@contextmanager
def dumped(policyd):
    """All there is."""
    with changing(policyd.store) as connection:
        yield Queries(connection)


def stored(policyd):
    """Everything in the tables."""
    return contents(policyd)[:3]


def contents(policyd):
    """Everything in the tables, and the journal's length."""
    with dumped(policyd) as dump:
        return [*dump.domains()], [*dump.mailboxes()], [*dump.blocked_senders()], len(policyd.journal())


def mailbox(policyd, name):
    """The mailbox and its addresses."""
    with dumped(policyd) as dump:
        return next((found, held) for found, held in dump.mailboxes() if found.name == name)


def entries(policyd, *fields):
    """Of each blocked sender these *fields*, as people write them."""

    def written(entry, field):
        value = getattr(entry, "who" if field == "sender" else field)
        return {*map(str, value)} if field == "allowed" else str(value) if field in ("sender", "to") else value

    with dumped(policyd) as dump:
        return [tuple(written(entry, field) for field in fields) for entry in dump.blocked_senders()]


add = ListEdit


# --- Modes ---


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param(
            MailboxRow("ALICE", RowMode.CREATE),
            "the mailbox Alice is there already; the mode Create wants it not to be",
            id="create a mailbox that is there",
        ),
        pytest.param(
            MailboxRow("carol", RowMode.MODIFY),
            "the mailbox carol is not there; the mode Modify wants it to be",
            id="modify a missing mailbox",
        ),
        pytest.param(
            MailboxRow("carol", RowMode.DELETE, rejected=add(add=parties("Bob"))),
            "the mailbox carol is not there; the mode Delete wants it to be",
            id="delete a missing mailbox",
        ),
        pytest.param(
            DomainRow("example.com", RowMode.CREATE),
            "the domain example.com is there already; the mode Create wants it not to be",
            id="create a domain that is there",
        ),
        pytest.param(
            DomainRow("example.org", RowMode.MODIFY),
            "the domain example.org is not there; the mode Modify wants it to be",
            id="modify a missing domain",
        ),
        pytest.param(
            DomainRow("example.com", RowMode.DELETE),
            "example.com has addresses; remove them first",
            id="delete a domain with addresses",
        ),
        pytest.param(
            BlockRow(party("bob"), party("alice"), RowMode.CREATE),
            "the blocked sender bob to Alice is there already; the mode Create wants it not to be",
            id="create a block that is there",
        ),
        pytest.param(
            BlockRow(party("bob"), mode=RowMode.DELETE),
            "the blocked sender bob to outside is not there; the mode Delete wants it to be",
            id="delete a block to others than there is",
        ),
        pytest.param(
            AddressRow("a@example.com", "alice", RowMode.CREATE),
            "the address a@example.com of Alice is there already; the mode Create wants it not to be",
            id="create an address that is there",
        ),
        pytest.param(
            AddressRow("bob@example.com", "alice", RowMode.DELETE),
            "the address bob@example.com of Alice is not there; the mode Delete wants it to be",
            id="delete another mailbox's address",
        ),
        pytest.param(
            AddressRow("new@example.com", "carol", RowMode.DELETE),
            "there is no mailbox carol",
            id="delete an address of nobody",
        ),
        pytest.param(
            AddressRow("new@example.com", "carol@example.com", RowMode.MODIFY),
            "there is no mailbox carol@example.com",
            id="modify an address of nobody",
        ),
    ],
)
def test_mode_that_does_not_fit_is_a_row_error(policyd, row, message):
    """An import prepared for other tables must not be taken halfway."""
    assert refused(policyd, row) == message


def test_delete_takes_away_the_object_and_what_hangs_on_it(policyd):
    """Each in the journal, so that it can come back."""
    tally = good(policyd, MailboxRow("bob", RowMode.DELETE))
    assert tally == {("address", "removed"): 1, ("blocked sender", "removed"): 1, ("mailbox", "removed"): 1}
    assert policyd.journal()[-3:] == [
        ("address.import", "bob@example.com"),
        ("sender.import", "Bob"),
        ("mailbox.import", "Bob"),
    ]
    assert good(policyd, DomainRow("example.org"), DomainRow("example.org", RowMode.DELETE)) == {
        ("domain", "added"): 1,
        ("domain", "removed"): 1,
    }


def test_delete_of_a_single_block_leaves_the_mailbox(policyd):
    """It is the entry that goes."""
    assert good(policyd, BlockRow(party("Bob"), party("Alice"), RowMode.DELETE)) == {("blocked sender", "removed"): 1}
    assert entries(policyd, "sender") == []


def test_delete_of_an_address_leaves_the_others(policyd):
    """And makes the first of them the primary one."""
    assert good(policyd, AddressRow("alice@example.com", "Alice", RowMode.DELETE)) == {
        ("address", "removed"): 1,
        ("address", "changed"): 1,
        ("mailbox", "unchanged"): 1,
    }
    assert policyd.json("address list")[0] == {"address": "a@example.com", "mailbox": "Alice", "is_primary": True}


# --- What a row says ---


def test_what_a_row_does_not_say_stays(policyd):
    """A file with two columns must not empty the others."""
    before = contents(policyd)
    assert good(policyd, MailboxRow("Bob"), DomainRow("example.com"), BlockRow(party("Bob"), party("Alice"))) == {
        ("mailbox", "unchanged"): 1,
        ("domain", "unchanged"): 1,
        ("blocked sender", "unchanged"): 1,
    }
    assert contents(policyd) == before


def test_what_a_row_says_replaces_field_by_field(policyd):
    """Lists as a whole where they are emptied first."""
    good(
        policyd,
        MailboxRow(
            "bob",
            addresses=add(clear=True, add=("b2@example.com", "b1@example.com")),
            receive=Receive.NOBODY,
            reason="r",
            until=NOW + 9,
            comment="c",
            accepted=add(remove=parties("@partner.example"), add=parties("x@y.example")),
        ),
        DomainRow("example.com", unlisted=Unlisted.ACCEPT),
        BlockRow(
            party("bob"),
            party("ALICE"),
            allowed=add(remove=parties("a@example.com"), add=parties("z@example.com")),
            reason="",
            comment="c",
        ),
        BlockRow(
            party("@spam.example"), until=NOW + 9, created_at=7, created_by="joe", allowed=add(True, (), parties("a@"))
        ),
    )
    bob, held = mailbox(policyd, "bob")
    assert held == ("b2@example.com", "b1@example.com")
    assert (bob.receive, bob.reason, bob.until, bob.comment) == (Receive.NOBODY, "r", NOW + 9, "c")
    assert bob.accepted == {party("x@y.example")}
    assert policyd.run("domain list") == "example.com\taccept\n"
    assert entries(policyd, "sender", "to", "allowed", "reason", "comment", "until", "created_at", "created_by") == [
        ("bob", "Alice", {"z@example.com"}, "", "c", None, *entries(policyd, "created_at", "created_by")[0]),
        ("@spam.example", "anyone", {"a@"}, "", "", NOW + 9, 7, "joe"),
    ]


def test_lifting_takes_the_terms_of_the_restriction_along(policyd):
    """As `mailbox lift` does: no reason is left to come back with the next restriction."""
    good(policyd, MailboxRow("Bob", receive=Receive.INHERIT))
    bob, _ = mailbox(policyd, "Bob")
    assert (bob.reason, bob.accepted) == ("", frozenset())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param(
            MailboxRow("Alice", receive=Receive.ANYONE, accepted=add(add=parties("x@y.example"))),
            "Alice receives from anyone, so accepted senders would do nothing",
            id="accept without a restriction",
        ),
        pytest.param(
            MailboxRow("Alice", addresses=add(add=("bob@example.com",))),
            "bob@example.com is an address of Bob already",
            id="another mailbox's address",
        ),
        pytest.param(
            MailboxRow("carol", addresses=add(add=("carol@example.org",))),
            "carol@example.org: the domain example.org is not managed; add it with: policyd domain add example.org",
            id="an address in a strange domain",
        ),
        pytest.param(BlockRow(party("carol")), "there is no mailbox carol", id="an unknown sender"),
        pytest.param(
            BlockRow(party("@x.example"), party("carol")), "there is no mailbox carol", id="to an unknown mailbox"
        ),
    ],
)
def test_what_would_do_nothing_or_harm_is_a_row_error(policyd, row, message):
    """The same refusals as on the command line."""
    assert refused(policyd, row) == message


def test_problems_of_the_reader_are_handed_through(policyd):
    """A record that could not be read is not applied."""
    problem = Problem("is wrong", "name", 291)
    with changing(policyd.store) as connection:
        bulk = bulk_on(connection)
        assert bulk.apply(Record(1, "x", (MailboxRow("x"),), (problem,))) == (problem,)
        assert [*bulk.finish()] == []
    assert len(policyd.json("mailbox list")) == 2


def test_record_without_rows_changes_nothing(policyd):
    """Such as one that was skipped on purpose."""
    assert good(policyd, ()) == {}


# --- Whole or not at all ---


def test_record_of_several_rows_comes_whole_or_not_at_all(policyd):
    """The rejected row can be corrected and imported again, without its half being there already."""
    rows = (
        BlockRow(party("@a.example")),
        BlockRow(party("alice")),
        BlockRow(party("bob"), party("alice"), RowMode.CREATE),
    )
    assert "is there already" in refused(policyd, rows)
    assert good(policyd, rows[:2]) == {("blocked sender", "added"): 2}


def test_record_that_waits_comes_whole_or_not_at_all_too(policyd):
    """Of a list with one unknown name, none is blocked; and the one problem is told once."""
    rows = tuple(BlockRow(party(name), party("outside")) for name in ("alice", "carol", "dave"))
    assert refused(policyd, rows) == "there is no mailbox carol"
    assert good(policyd, rows, MailboxRow("carol"), MailboxRow("dave")) == {
        ("blocked sender", "added"): 3,
        ("mailbox", "added"): 2,
    }


def test_rejected_row_adds_no_domain_either(policyd):
    """With domains to be added: none for an address that was refused."""
    row = MailboxRow("carol", addresses=add(add=("c@new.example", "bob@example.com")))
    assert refused(policyd, row, add_domains=True) == "bob@example.com is an address of Bob already"
    row = MailboxRow("carol", addresses=add(add=("c@new.example", "c@two.example")))
    assert good(policyd, row, add_domains=True) == {
        ("domain", "added"): 2,
        ("mailbox", "added"): 1,
        ("address", "added"): 2,
    }
    assert [each["unlisted"] for each in policyd.json("domain list")] == ["reject"] * 3


def test_rejected_row_whose_domains_are_managed_leaves_nothing_of_it(policyd):
    """With domains to be added and none missing: no savepoint is set, and yet it is applied whole or not at all."""
    row = MailboxRow("carol", comment="new", addresses=add(add=("c@example.com", "bob@example.com")))
    assert refused(policyd, row, add_domains=True) == "bob@example.com is an address of Bob already"
    row = MailboxRow("alice", comment="new", addresses=add(clear=True, add=("c@example.com", "bob@example.com")))
    assert refused(policyd, row, add_domains=True) == "bob@example.com is an address of Bob already"


def test_journal_has_no_gap_after_rejected_records(policyd):
    """What was rolled back leaves no number and no digest behind."""
    imported(
        policyd,
        (BlockRow(party("@a.example")), BlockRow(party("bob"), party("alice"), RowMode.CREATE)),
        MailboxRow("carol"),
    )
    numbers = [number for (number,) in policyd.rows("SELECT id FROM change ORDER BY id")]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert policyd.journal()[-1] == ("mailbox.import", "carol")


# --- Mailboxes that are named before they are there ---


def test_mailboxes_may_be_named_before_they_are_there(policyd):
    """Files are sorted by name, not by who names whom."""
    tally = good(
        policyd,
        MailboxRow("carol", receive=Receive.NOBODY, accepted=add(True, (), parties("dave", "x@y.example"))),
        MailboxRow("dave", addresses=add(add=("d@example.com", "d2@example.com")), rejected=add(add=parties("carol"))),
        BlockRow(party("erin"), party("dave")),
        MailboxRow("erin"),
    )
    assert tally == {("mailbox", "added"): 3, ("address", "added"): 2, ("blocked sender", "added"): 2}
    carol, _ = mailbox(policyd, "carol")
    dave, _ = mailbox(policyd, "dave")
    assert carol.accepted == {dave.party, party("x@y.example")}
    assert entries(policyd, "sender", "to")[1:] == [("carol", "dave"), ("erin", "dave")]


def test_two_mailboxes_may_name_each_other(policyd):
    """In whichever order they stand."""
    good(policyd, MailboxRow("c", rejected=add(add=parties("d"))), MailboxRow("d", rejected=add(add=parties("c"))))
    assert entries(policyd, "sender", "to")[1:] == [("d", "c"), ("c", "d")]


def test_mailbox_named_by_an_address_gets_its_own_senders(policyd):
    """Not the mailbox that happens to have the local part for a name."""
    row = MailboxRow(
        "bob",
        addresses=add(add=("a@example.com",)),
        rejected=add(add=parties("Bob", "@x.example")),
        is_named_by_address=True,
    )
    good(policyd, row)
    assert entries(policyd, "sender", "to") == [("Bob", "Alice"), ("@x.example", "Alice")]


def test_row_with_an_unknown_sender_says_that_the_mailbox_is_there(policyd):
    """The rest of the file may build on it already, so it stays; its senders come as a whole or not at all."""
    row = MailboxRow("carol", addresses=add(add=("c@example.com",)), rejected=add(add=parties("Bob", "nobody")))
    problems, tally = imported(policyd, row)
    assert problems == [(1, "there is no mailbox nobody; the mailbox itself is imported")]
    assert tally == {("mailbox", "added"): 1, ("address", "added"): 1}
    assert entries(policyd, "sender", "to") == [("Bob", "Alice")]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            DomainRow(
                "example.com",
                unlisted=Unlisted.ACCEPT,
                receive=Receive.INSIDERS,
                reason="internal",
                accepted=add(add=parties("Bob", "nobody")),
            ),
            id="a domain",
        ),
        pytest.param(
            MailboxRow("Alice", receive=Receive.NOBODY, reason="moderated", accepted=add(add=parties("Bob", "nobody"))),
            id="a mailbox",
        ),
        pytest.param(
            MailboxRow(
                "Bob", receive=Receive.DOMAIN, accepted=add(add=parties("Alice")), rejected=add(add=parties("nobody"))
            ),
            id="a mailbox that is restricted already",
        ),
        pytest.param(
            MailboxRow("Alice", addresses=add(clear=True, add=("z@example.com",)), accepted=add(add=parties("nobody"))),
            id="a mailbox that would have other addresses",
        ),
        pytest.param(
            DomainRow("example.org", receive=Receive.NOBODY, accepted=add(add=parties("nobody"))), id="a new domain"
        ),
    ],
)
def test_row_with_an_unknown_sender_changes_nothing(policyd, row):
    """A list without one of those whom it accepts refuses mail that the row wanted let through."""
    before = stored(policyd)
    ((_, problem),), tally = imported(policyd, row)
    assert problem == "there is no mailbox nobody"
    assert (stored(policyd), tally) == (before, {})


def test_address_that_a_wrong_row_gave_up_stays_with_whoever_took_it(policyd):
    """That row is good, and its mailbox has the address now; of the wrong one it is told."""
    problems, _ = imported(
        policyd,
        MailboxRow("Alice", addresses=add(clear=True, add=("z@example.com",)), accepted=add(add=parties("nobody"))),
        MailboxRow("Bob", addresses=add(add=("a@example.com",))),
    )
    assert problems == [(1, "there is no mailbox nobody; the mailbox itself is imported")]
    assert [f"{each['mailbox']} {each['address']}" for each in policyd.json("address list")] == [
        "Bob a@example.com",
        "Bob bob@example.com",
        "Alice z@example.com",
    ]


def test_new_domain_that_others_build_on_stays_without_its_restriction(policyd):
    """Carol's row is good, and her address is in it; who may send there is told to be wrong."""
    problems, tally = imported(
        policyd,
        DomainRow("example.org", receive=Receive.NOBODY, reason="closed", accepted=add(add=parties("nobody"))),
        MailboxRow("Carol", addresses=add(add=("carol@example.org",))),
    )
    assert problems == [(1, "there is no mailbox nobody; the domain itself is imported")]
    assert tally == {("domain", "added"): 1, ("mailbox", "added"): 1, ("address", "added"): 1}
    assert policyd.json("domain show example.org")["receive"] == "anyone"


def test_wrong_end_of_a_restriction_is_told_before_anything_is_imported(policyd):
    """Whoever it accepts: a row that is wrong by itself waits for nobody, and leaves nothing."""
    row = MailboxRow("Carol", until=NOW - 1, receive=Receive.NOBODY, accepted=add(add=parties("Bob")))
    ((_, problem),), tally = imported(policyd, row)
    assert "is past" in problem
    assert "itself is imported" not in problem
    assert tally == {}


def test_rejected_senders_are_replaced_or_edited(policyd):
    """As the list says: emptied first, or taken from and added to."""
    good(policyd, MailboxRow("Alice", rejected=add(add=parties("@x.example"))))
    assert sorted(entries(policyd, "sender")) == [("@x.example",), ("Bob",)]
    good(
        policyd,
        MailboxRow("Alice", rejected=add(remove=parties("bob", "nobody@here.example"), add=parties("@y.example"))),
    )
    assert sorted(entries(policyd, "sender")) == [("@x.example",), ("@y.example",)]
    good(policyd, MailboxRow("Alice", rejected=add(clear=True, add=parties("@y.example", "Bob"))))
    assert sorted(entries(policyd, "sender")) == [("@y.example",), ("Bob",)]


def test_rejected_sender_that_stays_keeps_its_terms(policyd):
    """The reason that somebody wrote on the command line outlives the nightly import."""
    good(policyd, MailboxRow("Alice", rejected=add(clear=True, add=parties("BOB"))))
    assert entries(policyd, "reason", "allowed") == [("quarrel", {"a@example.com"})]


# --- Names and aliases ---


def by_address(*addresses, **fields):
    """A row that only has addresses."""
    local = addresses[0].rpartition("@")[0]
    return MailboxRow(local, addresses=add(add=addresses), is_named_by_address=True, **fields)


def test_mailbox_is_found_by_the_address_that_names_it(policyd):
    """A list of addresses that are there already makes no second mailbox."""
    assert good(policyd, by_address("a@example.com", comment="x")) == {
        ("mailbox", "changed"): 1,
        ("address", "unchanged"): 2,
    }
    assert mailbox(policyd, "Alice")[0].comment == "x"


def test_name_that_is_taken_gets_the_domain_behind(policyd):
    """bob@example.org is somebody else than Bob."""
    good(policyd, DomainRow("example.org"), by_address("bob@example.org"), by_address("bob@example.org"))
    assert [each["name"] for each in policyd.json("mailbox list")] == ["Alice", "Bob", "bob (example.org)"]


def test_name_that_is_taken_with_its_domain_too_gets_a_number(policyd):
    """Nobody is left out for what others are called, and nobody is taken for another one."""
    policyd.run("mailbox add 'bob (example.org)'")
    policyd.run("mailbox add 'BOB (example.org) 2'")
    good(policyd, DomainRow("example.org"), by_address("bob@example.org"), by_address("bob@example.org"))
    assert policyd.json("address find bob@example.org")["mailbox"] == "bob (example.org) 3"


@pytest.mark.parametrize("length", [200, 1000])
def test_number_fits_behind_a_long_name(policyd, length):
    """A name has 256 characters at most."""
    addresses = [f"{'x' * length}{each}@example.com" for each in "abcd"]
    good(policyd, *(mailbox_of(each, addresses=ListEdit(add=(each,))) for each in addresses))
    names = [each["name"] for each in policyd.json("mailbox list xxx")]
    assert len({*names}) == 4
    assert max(map(len, names)) <= 256
    policyd.run(f"mailbox set '{names[-1]}' --comment x")


def test_local_parts_that_make_one_name_make_two_mailboxes(policyd):
    """A name has no @, so that `"0@"` and `"@0"` are called alike."""
    addresses = ["0@@example.com", "@0@example.com", "0@@example.com"]
    good(policyd, *(mailbox_of(each, addresses=ListEdit(add=(each,))) for each in addresses))
    assert [each["name"] for each in policyd.json("mailbox list 0")] == ["0 (example.com)", "0 (example.com) 2"]


def test_long_name_that_is_taken_stays_a_name(policyd):
    """What is made can be exported and imported again."""
    long = "x" * 250
    good(policyd, DomainRow("example.org"), by_address(f"{long}@example.com"), by_address(f"{long}@example.org"))
    assert f"{'x' * 200} (example.org)" in [each["name"] for each in policyd.json("mailbox list")]


@pytest.mark.parametrize(
    ("row", "name", "held"),
    [
        pytest.param(
            AddressRow("x@example.com", "a@example.com"),
            "Alice",
            ("alice@example.com", "a@example.com", "x@example.com"),
            id="to an address that is there",
        ),
        pytest.param(
            AddressRow("x@example.com", "ALICE"),
            "Alice",
            ("alice@example.com", "a@example.com", "x@example.com"),
            id="to a mailbox by its name",
        ),
        pytest.param(
            AddressRow("x@example.com", "carol"), "carol", ("x@example.com",), id="to a mailbox that is not there"
        ),
        pytest.param(
            AddressRow("x@example.com", "carol@example.com"),
            "carol",
            ("carol@example.com", "x@example.com"),
            id="to an address that is nobody's yet",
        ),
        pytest.param(
            AddressRow("x@example.com", "outside@example.com"),
            "outside (example.com)",
            ("outside@example.com", "x@example.com"),
            id="to an address whose local part can't be a name",
        ),
        pytest.param(
            AddressRow("x@example.com", "someone@elsewhere.example"), "x", ("x@example.com",), id="to somewhere else"
        ),
    ],
)
def test_alias_becomes_an_address_of_where_it_leads(policyd, row, name, held):
    """So that somebody on virtual maps has mailboxes at once."""
    good(policyd, row)
    assert mailbox(policyd, name)[1] == held


def test_alias_waits_for_the_mailbox_further_down(policyd):
    """Virtual maps are in no order."""
    good(policyd, AddressRow("x@example.com", "carol@example.com"), by_address("carol@example.com"))
    assert mailbox(policyd, "carol")[1] == ("carol@example.com", "x@example.com")


def test_case_of_a_name_follows_the_file(policyd):
    """Names are the same in any case, and shown as they were last written."""
    assert good(policyd, MailboxRow("ALICE")) == {("mailbox", "changed"): 1}
    assert mailbox(policyd, "ALICE")[1] == ("alice@example.com", "a@example.com")


# --- In place of what there is ---


def replaced(policyd, *rows, max_percent=100, domains=()):
    """The tally of an import of *rows* in place of what their domains hold."""
    with changing(policyd.store) as connection:
        editor = editor_on(connection, verb="import")
        bulk = BulkEditor(connection, editor)
        replacement = Replacement(connection, editor, bulk, domains)
        for row in rows:
            assert bulk.apply(Record(1, "", (row,))) == ()
        assert [problems for _, problems in bulk.finish() if problems] == []
        replacement.remove_unnamed(max_percent)
    return dict(bulk.tally)


def test_replacing_removes_what_the_file_does_not_name(policyd):
    """The mailbox with all that hangs on it; other domains are not touched."""
    policyd.run("domain add example.org")
    policyd.run("mailbox add Other other@example.org")
    policyd.run("mailbox add Empty")
    tally = replaced(policyd, MailboxRow("Alice", addresses=add(clear=True, add=("alice@example.com",))))
    assert tally == {
        ("mailbox", "unchanged"): 1,
        ("address", "unchanged"): 1,
        ("address", "removed"): 2,
        ("blocked sender", "removed"): 1,
        ("mailbox", "removed"): 1,
    }
    assert [each["name"] for each in policyd.json("mailbox list")] == ["Alice", "Empty", "Other"]


def test_mailbox_that_was_removed_comes_back_with_its_accepted_senders(policyd):
    """The journal must have everything that goes."""
    before = contents(policyd)[:3]
    replaced(policyd, MailboxRow("Alice"))
    policyd.run(f"undo {policyd.json('history --limit 1')[0]['changeset']}")
    assert contents(policyd)[:3] == before


def test_replacing_by_a_list_of_addresses_leaves_only_those(policyd):
    """Also of a mailbox that keeps others of its addresses; the first that is left is the primary one."""
    replaced(policyd, by_address("a@example.com"), by_address("bob@example.com"))
    assert policyd.json("address list") == [
        {"address": "a@example.com", "mailbox": "Alice", "is_primary": True},
        {"address": "bob@example.com", "mailbox": "Bob", "is_primary": True},
    ]


def test_mailbox_in_several_domains_loses_only_the_addresses_in_the_files(policyd):
    """The rest of it is not the file's to judge."""
    policyd.run("domain add example.org")
    policyd.run("address add Bob bob@example.org")
    replaced(policyd, MailboxRow("Alice"))
    assert policyd.json("address list")[2:] == [{"address": "bob@example.org", "mailbox": "Bob", "is_primary": True}]


def test_mailbox_that_accepts_somebody_loses_the_addresses_that_the_file_does_not_name(policyd):
    """As any other: a directory's file may add addresses, and what it does not say is gone there."""
    row = MailboxRow("Alice", addresses=add(add=("alice@example.com",)), accepted=add(add=parties("Bob")))
    replaced(policyd, row, MailboxRow("Bob"))
    assert [each["address"] for each in policyd.json("address list")] == ["alice@example.com", "bob@example.com"]


def test_file_without_addresses_replaces_the_domains_that_are_named(policyd):
    """By option or by row: an empty directory leaves an empty domain."""
    replaced(policyd, MailboxRow("Carol"), domains=["example.com"])
    assert [each["name"] for each in policyd.json("mailbox list")] == ["Carol"]
    policyd.run("address add Carol c@example.com")
    replaced(policyd, DomainRow("example.com"))
    assert policyd.json("mailbox list") == []


def test_blocked_senders_are_replaced_where_the_file_has_any(policyd):
    """A file of mailboxes alone says nothing of them; those of other domains stay."""
    policyd.run("sender block @spam.example x@example.com Bob")
    replaced(policyd, MailboxRow("Alice"), MailboxRow("Bob"))
    assert len(entries(policyd, "sender")) == 4
    replaced(policyd, MailboxRow("Alice"), MailboxRow("Bob"), BlockRow(party("Bob"), party("Alice")))
    assert entries(policyd, "sender", "to") == [("Bob", "Alice"), ("@spam.example", "anyone")]


@pytest.mark.parametrize(
    ("percent", "message"),
    [
        pytest.param(
            10,
            "--replace would remove 1 of 3 addresses, and may remove 10 %; nothing was changed; "
            "if the file is right, add --max-remove 34",
            id="the default",
        ),
        pytest.param(
            33.3,
            "--replace would remove 1 of 3 addresses, and may remove 33.3 %; nothing was changed; "
            "if the file is right, add --max-remove 34",
            id="a little too few",
        ),
    ],
)
def test_too_much_is_not_removed(policyd, percent, message):
    """A truncated file must not empty the domain, however many addresses it adds."""
    policyd.run("mailbox lift Bob")
    new = MailboxRow("new", addresses=add(add=tuple(f"{number}@example.com" for number in range(100))))
    before = contents(policyd)
    with pytest.raises(RefusedError) as caught:
        replaced(policyd, MailboxRow("Alice"), new, max_percent=percent)
    assert str(caught.value) == message
    assert contents(policyd) == before
    replaced(policyd, MailboxRow("Alice"), new, max_percent=34)


def test_too_many_blocked_senders_are_not_removed(policyd):
    """Nor may half a file let everybody send again."""
    policyd.run("sender block Alice Bob")
    keep = (
        MailboxRow("Alice"),
        MailboxRow("Bob"),
        BlockRow(party("Alice"), party("outside")),
        BlockRow(party("@new.example")),
    )
    with pytest.raises(RefusedError) as caught:
        replaced(policyd, *keep, max_percent=50)
    assert str(caught.value) == (
        "--replace would remove 2 of 3 blocked senders, and may remove 50 %; nothing was changed; "
        "if the file is right, add --max-remove 67"
    )

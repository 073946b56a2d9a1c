"""Imports of groups: declared first, then their members, then what refers to them, however a file is sorted."""

import pytest

from policyd.errors import RefusedError
from policyd.model import Domain, Party, Receive
from policyd.records import BlockRow, DomainRow, GroupRow, ListEdit, MailboxRow, Problem, Record, RowMode
from policyd.store.check import Check
from policyd.store.connection import Database
from policyd.store.database import changing, create_database, reading
from policyd.store.edit import EntryTerms, RestrictionTerms
from policyd.store.queries import Queries
from policyd.store.replace import Replacement
from tests.support.parties import parties, party, party_set
from tests.support.writing import bulk_on, editor_on


@pytest.fixture
def database(tmp_path):
    """One domain with one mailbox."""
    database = Database.at(tmp_path / "policyd.db")
    create_database(database)
    with changing(database) as connection:
        edit = editor_on(connection)
        edit.add_domain(Domain("example.com"))
        edit.add_mailbox("bob", ["bob@example.com"], "")
    yield database
    found: list[str] = []
    with reading(database, is_checked=False) as connection:
        Check(connection.driver).run(lambda finding: found.append(str(finding)), lambda: None)
    assert found == []


def imported(database, *rows, replaces=False, carries_groups=True, max_percent=100):
    """What was wrong with each row, one record each, by its line; everything else is kept."""
    with changing(database) as connection:
        bulk = bulk_on(connection)
        replacement = None
        if replaces:
            replacement = Replacement(connection, bulk._editor, bulk, ["example.com"], carries_groups=carries_groups)
        problems = {}
        for line, row in enumerate(rows, 1):
            if found := bulk.apply(Record(line, "x", row if isinstance(row, tuple) else (row,))):
                problems[line] = found[0].message
        for record, found in bulk.finish():
            if found:
                problems[record.line] = found[0].message
        if replacement is not None and not problems:
            replacement.remove_unnamed(max_percent)
        return problems, dict(bulk.tally)


def groups(database) -> dict[str, list[str]]:
    """The groups with their members."""
    with reading(database) as connection:
        found = Queries(connection)
        return {each.name: [str(one.member) for one in found.members_of(each.id)] for each in found.groups()}


def holds(*members: str) -> ListEdit[Party]:
    """A whole list."""
    return ListEdit(True, add=parties(*members))


def test_everything_may_stand_before_what_it_names(database):
    """Files are sorted by kind and by name, not by who names whom."""
    problems, tally = imported(
        database,
        BlockRow(party("@x.example"), party("group:staff")),
        BlockRow(party("group:all"), party("anyone"), allowed=holds("carol")),
        MailboxRow("carol", receive=Receive.NOBODY, accepted=holds("group:staff", "dave")),
        DomainRow("example.org", receive=Receive.INSIDERS, accepted=holds("group:all")),
        GroupRow("all", members=holds("group:staff", "dave")),
        GroupRow(
            "staff", members=holds("carol", "bob@example.com"), receive=Receive.NOBODY, accepted=holds("group:all")
        ),
        MailboxRow("dave", addresses=ListEdit(add=("dave@example.org",))),
    )
    assert problems == {}
    assert groups(database) == {"all": ["group:staff", "dave"], "staff": ["carol", "bob"]}
    assert tally["group", "added"] == 2
    assert tally["member", "added"] == 4
    with reading(database) as connection:
        found = Queries(connection)
        assert [f"{each.who} to {each.to}" for each in found.blocked_senders()] == [
            *("@x.example to group:staff", "group:all to anyone")
        ]
        domain = found.domain("example.org")
        assert domain is not None
        assert [*map(str, domain.accepted)] == ["group:all"]


def test_wrong_group_takes_along_what_builds_on_it(database):
    """A group without one of its members would let that one through: so a block of it is wrong, too, and so on."""
    problems, tally = imported(
        database,
        GroupRow("staff", members=holds("bob", "nobody")),
        GroupRow("all", members=holds("group:staff")),
        GroupRow("good", members=holds("bob")),
        BlockRow(party("group:all"), party("outside")),
        BlockRow(party("group:good"), party("outside")),
        MailboxRow("bob", receive=Receive.NOBODY, accepted=holds("group:staff")),
    )
    assert problems == {
        1: "there is no mailbox nobody",
        2: "group:staff is wrong in line 1, and this stands or falls with it",
        4: "group:all is wrong, and this stands or falls with it",
        6: "group:staff is wrong in line 1, and this stands or falls with it",
    }
    assert groups(database) == {"good": ["bob"]}
    assert tally["group", "added"] == 1


def test_group_that_was_there_stays_as_it_was_where_its_row_is_wrong(database):
    """And what names it falls with it: who types a list of those who may not write means the whole of it."""
    imported(database, GroupRow("staff", members=holds("bob")))
    problems, _ = imported(
        database, GroupRow("staff", members=holds("nobody")), BlockRow(party("group:staff"), party("outside"))
    )
    assert problems == {
        1: "there is no mailbox nobody",
        2: "group:staff is wrong in line 1, and this stands or falls with it",
    }
    assert groups(database) == {"staff": ["bob"]}


CIRCLE = [
    GroupRow("a", members=holds("group:b", "bob")),
    GroupRow("b", members=holds("group:a", "bob")),
    GroupRow("outer", members=holds("group:a")),
]


def test_circle_is_refused_in_a_file_that_somebody_typed(database):
    """As a command refuses it; nobody means that, and what names those groups would be none of what was meant."""
    problems, _ = imported(database, *CIRCLE, GroupRow("free", members=holds("bob")))
    assert problems == {
        1: "group:b is wrong in line 2, and this stands or falls with it",
        2: "group:a can't join group:b, which is in it already; groups make no circle",
        3: "group:a is wrong, and this stands or falls with it",
    }
    assert groups(database) == {"free": ["bob"]}


def test_circle_in_a_directory_is_taken_and_told_once(database):
    """Directories have circles, and they do no harm."""
    with changing(database) as connection:
        bulk = bulk_on(connection, takes_circles=True)
        assert [bulk.apply(Record(line, "x", (row,))) for line, row in enumerate(CIRCLE)] == [(), (), ()]
        assert [problems for _, problems in bulk.finish()] == [(), (), ()]
        assert bulk.circle == ["a", "b"]
    assert groups(database) == {"a": ["group:b", "bob"], "b": ["group:a", "bob"], "outer": ["group:a"]}


def test_group_of_a_directory_in_itself_is_a_circle_too(database):
    """It says nothing, and must not keep a whole directory out."""
    with changing(database) as connection:
        bulk = bulk_on(connection, takes_circles=True)
        rows = (
            GroupRow("Self", members=holds("group:self", "bob")),
            GroupRow("self", members=holds("bob", "GROUP:SELF")),
        )
        assert [bulk.apply(Record(line, "x", (row,))) for line, row in enumerate(rows)] == [(), ()]
        assert [problems for _, problems in bulk.finish()] == [(), ()]
        assert bulk.circle == ["self"]
    assert groups(database) == {"self": ["bob"]}


def test_row_of_a_group_that_cant_be_read_takes_along_what_names_it(database):
    """The group may be there from before, and what it holds then is not what the file says."""
    imported(database, GroupRow("staff", members=holds("bob")))
    with changing(database) as connection:
        bulk = bulk_on(connection)
        wrong = Record(1, "x", problems=(Problem("bad"),), wrong_groups=("Staff",))
        assert bulk.apply(wrong) == (Problem("bad"),)
        rows = (BlockRow(party("group:STAFF"), party("anyone")), BlockRow(party("bob"), party("anyone")))
        for line, row in enumerate(rows, 2):
            assert bulk.apply(Record(line, "x", (row,))) == ()
        assert [(record.line, problems) for record, problems in bulk.finish() if problems] == [
            (2, (Problem("group:Staff is wrong in line 1, and this stands or falls with it"),))
        ]
        assert bulk.tally == {("blocked sender", "added"): 1}


def test_alias_may_stand_before_its_target_and_mailboxes_before_both(database):
    """The domains of a file are one record each, in whatever order."""
    problems, _ = imported(
        database,
        DomainRow("alias.example", alias_of="new.example"),
        MailboxRow("carol", addresses=ListEdit(add=("carol@alias.example",))),
        DomainRow("new.example"),
    )
    assert problems == {}


def test_group_may_accept_itself_and_groups_each_other(database):
    """Only the staff may write to the staff: who is accepted need not be there before."""
    problems, _ = imported(
        database,
        GroupRow("staff", receive=Receive.NOBODY, accepted=holds("group:staff", "group:board"), members=holds("bob")),
        GroupRow("board", receive=Receive.NOBODY, accepted=holds("group:staff")),
    )
    assert problems == {}


def test_members_are_replaced_or_edited(database):
    """As the list says; done again, nothing changes."""
    imported(database, MailboxRow("carol"), GroupRow("staff", members=holds("bob")))
    imported(database, GroupRow("STAFF", members=ListEdit(add=parties("carol"))))
    assert groups(database) == {"STAFF": ["bob", "carol"]}
    imported(database, GroupRow("staff", members=ListEdit(remove=parties("bob", "nobody"))))
    assert groups(database) == {"staff": ["carol"]}
    _, tally = imported(database, GroupRow("staff", members=holds("carol")))
    assert tally == {("group", "unchanged"): 1, ("member", "unchanged"): 1}
    problems, tally = imported(database, GroupRow("staff", RowMode.DELETE), GroupRow("other", RowMode.DELETE))
    assert problems == {2: "the group other is not there; the mode Delete wants it to be"}
    assert tally == {("group", "removed"): 1, ("member", "removed"): 1}


def test_alias_domain_is_imported(database):
    """And one of nothing is a wrong row."""
    problems, _ = imported(
        database, DomainRow("b.example", alias_of="example.com"), DomainRow("c.example", alias_of="d.example")
    )
    assert problems == {2: "d.example is not managed; add it with: policyd domain add d.example"}


# --- Replacing


def test_groups_go_where_the_format_carries_them(database):
    """A list of addresses says nothing of groups, so it takes none away."""
    imported(database, GroupRow("old", members=holds("bob")), GroupRow("staff", members=holds("bob")))
    keep = MailboxRow("bob", addresses=ListEdit(True, add=("bob@example.com",)))
    imported(database, keep, GroupRow("staff"), replaces=True, carries_groups=False)
    imported(database, keep, replaces=True)
    assert groups(database) == {"old": ["bob"], "staff": ["bob"]}
    imported(database, keep, GroupRow("staff"), replaces=True)
    assert groups(database) == {"staff": ["bob"]}


def test_group_that_something_elsewhere_refers_to_stays(database):
    """What is not in the file's domains is none of its business."""
    with changing(database) as connection:
        edit = editor_on(connection)
        edit.add_domain(Domain("other.example"))
        edit.add_mailbox("eve", ["eve@other.example"], "")
        for name in ("member", "accepted", "blocked", "free"):
            edit.add_group(name, parties("bob"))
        edit.join(edit.group("member"), parties("eve"))
        edit.restrict(edit.mailbox("eve"), RestrictionTerms(accepted=party_set("group:accepted")))
        edit.block_sender(party("group:blocked"), None, EntryTerms())
    keep = MailboxRow("bob", addresses=ListEdit(True, add=("bob@example.com",)))
    imported(database, keep, GroupRow("staff"), replaces=True)
    assert list(groups(database)) == ["member", "accepted", "blocked", "staff"]


def test_what_hangs_on_mailboxes_counts_too(database):
    """A file with half of the mailboxes must not take the restrictions of the others along unasked."""
    with changing(database) as connection:
        edit = editor_on(connection)
        edit.add_domain(Domain("other.example"))
        edit.add_mailbox("eve", ["eve@other.example"], "")
        edit.add_mailbox("dave", ["dave@example.com"], "")
        for number in range(20):
            edit.add_address("bob", f"b{number}@example.com")
        edit.restrict(edit.mailbox("eve"), RestrictionTerms(Receive.NOBODY, party_set("dave", "@a.example")))
    row = MailboxRow("bob")
    with pytest.raises(RefusedError) as caught:
        imported(database, row, replaces=True, max_percent=10)
    assert "--replace would remove 1 of 2 accepted senders and exceptions" in str(caught.value)
    problems, tally = imported(database, row, replaces=True)
    assert problems == {}
    assert tally["accepted sender", "removed"] == 1

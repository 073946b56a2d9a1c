"""Undoing a changeset: everything as it was before, or a list of what was built on it since."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.errors import RefusedError
from policyd.model import Change
from policyd.store.database import changing
from policyd.store.queries import Queries
from policyd.store.undo import undo_changeset
from tests.support.command_line import command_line
from tests.support.randomised import examples
from tests.support.writing import editor_on


@pytest.fixture
def policyd():
    """A company with one domain, two mailboxes, a restriction and a block."""
    with command_line(
        "domain add example.com",
        "mailbox add Alice alice@example.com a@example.com --comment 'Grüße, \"x\"'",
        "mailbox add Bob bob@example.com",
        "mailbox restrict Bob --accept @partner.example --reason quiet --until +9d",
        "sender block Bob --to Alice --reason quarrel --except a@example.com",
    ) as policyd:
        yield policyd


def contents(policyd):
    """Everything in the tables, numbers and times included."""
    with changing(policyd.store) as connection:
        dump = Queries(connection)
        return [*dump.domains()], [*dump.mailboxes()], [*dump.blocked_senders()]


def last_changeset(policyd):
    """The number of the last changeset, 0 where there is none."""
    ((number,),) = policyd.rows("SELECT coalesce(max(changeset), 0) FROM change")
    return number


def undo(policyd, changeset):
    """Undo a changeset; what it tells the journal is returned."""
    told: list[Change] = []
    with changing(policyd.store) as connection:
        undo_changeset(editor_on(connection, verb="undo", on_change=told.append), changeset)
    return [(change.operation, change.object) for change in told]


def conflict(policyd, changeset):
    """What keeps a changeset from being undone; the tables and the journal stay as they were."""
    before = contents(policyd), policyd.journal()
    with pytest.raises(RefusedError) as caught:
        undo(policyd, changeset)
    assert (contents(policyd), policyd.journal()) == before
    prefix = f"changeset {changeset} can't be undone, later changes build on it: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


COMMANDS = [
    "domain add example.org",
    "domain set example.com --unlisted accept",
    "domain remove example.com --yes",
    "mailbox add Carol carol@example.com c@example.com",
    "mailbox remove Bob --yes",
    "mailbox remove Alice --yes",
    "mailbox rename Alice Alicia",
    "mailbox rename Alice ALICE",
    "mailbox restrict Alice --receive nobody --accept '<>' --accept x@",
    "mailbox restrict Bob --reason louder",
    "mailbox lift Bob",
    "mailbox accept Bob '<>'",
    "mailbox unaccept Bob @partner.example",
    "address add Alice z@example.com y@example.com",
    "address remove alice@example.com",
    "address remove alice@example.com a@example.com",
    "sender block @spam.example '<>' alice",
    "sender block Bob --to Alice --reason '' --until +3d --comment x",
    "sender unblock Bob",
    "sender except Bob x@example.com",
    "sender unexcept Bob a@example.com",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_kind_of_change_can_be_undone_and_made_again(policyd, line):
    """Nobody has to know how to take a command back: the undoing is a changeset like others."""
    before = contents(policyd)
    policyd.run(line)
    done, changeset = contents(policyd), last_changeset(policyd)
    assert done != before
    length = len(policyd.journal())
    told = undo(policyd, changeset)
    assert contents(policyd) == before
    assert policyd.journal()[length:] == told
    assert {operation.partition(".")[2] for operation, _ in told} == {"undo"}
    undo(policyd, last_changeset(policyd))
    assert contents(policyd) == done
    undo(policyd, last_changeset(policyd))
    assert contents(policyd) == before


def test_whole_history_can_be_undone_step_by_step(policyd):
    """Back to the empty database, the last command first."""
    for line in COMMANDS[:1] + COMMANDS[6:7] + COMMANDS[3:5]:
        policyd.run(line)
    changesets = sorted({number for (number,) in policyd.rows("SELECT changeset FROM change")}, reverse=True)
    for changeset in changesets:
        undo(policyd, changeset)
    assert contents(policyd) == ([], [], [])


def test_unknown_changeset_is_refused(policyd):
    """For a change that isn't its changeset's first, with the number that is meant."""
    for number, message in (
        (99, "there is no changeset 99; see: policyd history"),
        (3, "change 3 is a part of changeset 2; type: policyd undo 2"),
    ):
        with pytest.raises(RefusedError) as caught:
            undo(policyd, number)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("line", "later", "told"),
    [
        pytest.param(
            "mailbox restrict Alice",
            ["mailbox restrict Alice --reason r"],
            "Alice: change 10 (mailbox.restrict)",
            id="a mailbox that was changed again",
        ),
        pytest.param(
            "mailbox rename Alice Alicia",
            ["mailbox restrict Alicia", "mailbox add Alice"],
            "Alice: change 10 (mailbox.restrict), change 11 (mailbox.add)",
            id="a new name that was changed again, an old one that was taken",
        ),
        pytest.param(
            "mailbox rename Alice Alicia",
            ["mailbox add ALICE"],
            "Alice: what hangs on it",
            id="an old name that was taken in another case",
        ),
        pytest.param(
            "mailbox remove Bob --yes",
            ["mailbox add Bob"],
            "Bob: change 12 (mailbox.add)",
            id="a removed mailbox whose name was taken",
        ),
        pytest.param(
            "mailbox remove Bob --yes",
            ["mailbox add Carol bob@example.com"],
            "bob@example.com",
            id="a removed mailbox whose address was taken",
        ),
        pytest.param(
            "mailbox add Carol",
            ["sender block Carol"],
            "Carol: change 10 (sender.block)",
            id="a mailbox that was blocked",
        ),
        pytest.param(
            "mailbox add Carol",
            ["address add Carol carol@example.com"],
            "Carol: what hangs on it",
            id="a mailbox that got an address",
        ),
        pytest.param(
            "mailbox add Carol",
            ["sender block @x.example --to Carol"],
            "Carol: what hangs on it",
            id="a mailbox that others are blocked to",
        ),
        pytest.param(
            "domain add example.org",
            ["address add Bob bob@example.org"],
            "example.org: what hangs on it",
            id="a domain that has addresses",
        ),
        pytest.param(
            "address remove bob@example.com",
            ["mailbox remove Bob --yes"],
            "bob@example.com: what hangs on it",
            id="an address whose mailbox went",
        ),
        pytest.param(
            "address remove bob@example.com",
            ["address add Alice bob@example.com"],
            "bob@example.com: change 10 (address.add)",
            id="an address that was given to somebody else",
        ),
        pytest.param(
            "sender unblock Bob",
            ["sender block Bob --to Alice"],
            "Bob: change 10 (sender.block)",
            id="an entry that was made anew",
        ),
        pytest.param(
            "sender unblock Bob",
            ["sender block @x.example", "sender block Bob --to Alice"],
            "Bob: change 11 (sender.block)",
            id="an entry that was made anew under another number",
        ),
        pytest.param(
            "sender unblock Bob",
            ["mailbox remove Alice --yes"],
            "Bob: what hangs on it",
            id="an entry to a mailbox that went",
        ),
        pytest.param(
            "sender block @spam.example",
            ["sender except @spam.example x@example.com", "sender unblock @spam.example"],
            "@spam.example: change 10 (sender.except), change 11 (sender.unblock)",
            id="an entry that was changed and removed",
        ),
        pytest.param(
            "domain set example.com --unlisted accept",
            ["domain remove example.com --yes"],
            "example.com: change 13 (domain.remove)",
            id="a domain that went",
        ),
    ],
)
def test_what_later_changes_build_on_is_not_undone_but_listed(policyd, line, later, told):
    """So that nobody loses what was done since, without being asked."""
    policyd.run(line)
    changeset = last_changeset(policyd)
    for command in later:
        policyd.run(command)
    assert told in conflict(policyd, changeset)


def test_what_was_removed_comes_back_under_its_number(policyd):
    """No number is given twice, so nobody is taken for somebody else, in an old log or by another's list."""
    policyd.run("mailbox add Carol carol@example.com")
    added = last_changeset(policyd)
    policyd.run("sender block Carol --to Bob")
    policyd.run("mailbox remove Carol --yes")
    changeset = last_changeset(policyd)
    policyd.run("mailbox add Dave")
    policyd.run("sender block Dave --to Bob")
    assert policyd.rows("SELECT id FROM mailbox WHERE name = 'Dave'") == [(4,)]
    undo(policyd, changeset)
    assert policyd.rows("SELECT id, name FROM mailbox WHERE id > 2") == [(3, "Carol"), (4, "Dave")]
    assert [(each["id"], each["sender"]) for each in policyd.json("sender list")] == [
        (1, "Bob"),
        (2, "Carol"),
        (3, "Dave"),
    ]
    assert policyd.json("address find carol@example.com")["mailbox"] == "Carol"
    undo(policyd, last_changeset(policyd))
    assert policyd.rows("SELECT name FROM mailbox WHERE id > 2") == [("Dave",)]
    assert "Carol: change" in conflict(policyd, added)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("mailbox restrict Alice", id="a change to the mailbox itself"),
        pytest.param("sender block Alice", id="an entry for it"),
        pytest.param("sender block @x.example --to Alice", id="an entry to it"),
        pytest.param("address remove a@example.com", id="an address of it"),
        pytest.param("mailbox accept Bob Alice", id="a list with it"),
        pytest.param("sender block @x.example --except Alice", id="an exception that is it"),
    ],
)
def test_rename_is_in_nobodys_way(policyd, line):
    """Objects are known by their numbers: who is called otherwise today is still who was meant."""
    before = contents(policyd)
    policyd.run(line)
    changeset = last_changeset(policyd)
    policyd.run("mailbox rename Alice Alicia")
    undo(policyd, changeset)
    policyd.run("mailbox rename Alicia Alice")
    assert contents(policyd) == before


def test_changes_to_other_objects_do_not_matter(policyd):
    """A day's other work stays."""
    policyd.run("mailbox remove Bob --yes")
    changeset = last_changeset(policyd)
    policyd.run("mailbox restrict Alice")
    policyd.run("domain add example.org")
    policyd.run("sender block @spam.example")
    undo(policyd, changeset)
    assert [each["name"] for each in policyd.json("mailbox list")] == ["Alice", "Bob"]
    assert policyd.json("mailbox show Alice")["receive"] == "insiders"
    assert sorted(each["sender"] for each in policyd.json("sender list")) == ["@spam.example", "Bob"]


def test_later_change_that_was_undone_is_no_obstacle(policyd):
    """What counts is how the tables stand."""
    policyd.run("mailbox restrict Alice")
    first = last_changeset(policyd)
    policyd.run("mailbox restrict Alice --reason r")
    undo(policyd, last_changeset(policyd))
    undo(policyd, first)
    assert policyd.json("mailbox show Alice")["receive"] == "inherit"


def test_long_list_of_conflicts_is_cut(policyd):
    """A line for a terminal, with the number of those not shown."""
    names = " ".join(f"x{number}@example.com" for number in range(12))
    policyd.run(f"address add Alice {names}")
    changeset = last_changeset(policyd)
    policyd.run(f"address remove {names}")
    listed = conflict(policyd, changeset)
    assert listed.count("(address.remove)") == 10
    assert listed.endswith("; and 2 more")


_NAMES = st.sampled_from(["a", "b", "c", "A"])
_LOCALS = st.sampled_from(["x@example.com", "y@example.com", "z@example.org"])
_SENDERS = st.sampled_from(["a", "b", "@s.example", "x@example.com", "'<>'"])
_TO = st.sampled_from(["", "--to a", "--to b", "--to anyone", "--to outside"])
_LINES = st.one_of(
    st.builds("mailbox add {} {}".format, _NAMES, st.one_of(st.just(""), _LOCALS)),
    st.builds("mailbox remove {} --yes".format, _NAMES),
    st.builds("mailbox rename {} {}".format, _NAMES, _NAMES),
    st.builds("mailbox restrict {} --reason {} --accept @p.example".format, _NAMES, st.sampled_from(["q", "r"])),
    st.builds("mailbox lift {}".format, _NAMES),
    st.builds("address add {} {}".format, _NAMES, _LOCALS),
    st.builds("address remove {}".format, _LOCALS),
    st.builds("sender block {} {} --reason {}".format, _SENDERS, _TO, st.sampled_from(["q", "r"])),
    st.builds("sender unblock {} {}".format, _SENDERS, _TO),
    st.builds("sender except {} n@example.net".format, _SENDERS),
    st.sampled_from(["domain remove example.org --yes", "domain set example.com --unlisted accept", "undo"]),
)


@examples(few=12, many=60)
@given(st.lists(_LINES, min_size=1, max_size=8))
def test_undoing_whatever_was_done_last_restores_the_tables(lines):
    """After each command that changed something, whatever came before; and undoing that makes it again."""
    with command_line(
        "domain add example.com",
        "domain add example.org",
    ) as policyd:
        before = contents(policyd)
        for line in lines:
            last = last_changeset(policyd)
            policyd.ends(f"undo {last}" if line == "undo" else line)
            done = contents(policyd)
            changeset = last_changeset(policyd)
            if changeset != last:
                undo(policyd, changeset)
                assert contents(policyd) == before
                undo(policyd, last_changeset(policyd))
                assert contents(policyd) == done
            assert done == before or changeset != last
            before = done

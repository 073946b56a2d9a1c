"""`policyd history`: who changed what, and when."""

import os
import pwd
import time
from datetime import datetime

import pytest

from tests.support.command_line import command_line

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def policyd():
    with command_line(
        "domain add Bücher.example",
        "mailbox add JÖRG Jörg@bücher.example",
        "mailbox restrict jörg --reason 'on leave' --accept @a.example",
        "sender block jörg @Bücher.example",
    ) as policyd:
        yield policyd


def objects(policyd, words=""):
    """Operation and object of the changes that history tells."""
    return [(each["operation"], each["object"]) for each in policyd.json(f"history {words}")]


def test_history_tells_who_did_what_when(policyd):
    """Columns for scripts: id, changeset, at, actor, operation, object, change."""
    lines = [line.split("\t") for line in policyd.run("history").splitlines()]
    assert all(abs(datetime.fromisoformat(at).timestamp() - time.time()) < 60 for _, _, at, *_ in lines)
    assert [(number, changeset, actor, *rest) for number, changeset, _, actor, *rest in lines] == [
        ("1", "1", ME, "domain.add", "xn--bcher-kva.example", "added: unlisted reject"),
        ("2", "2", ME, "mailbox.add", "JÖRG", "added: receive inherit"),
        ("3", "2", ME, "address.add", "jörg@xn--bcher-kva.example", "added: mailbox JÖRG, is_primary yes"),
        (
            *("4", "4", ME, "mailbox.restrict", "JÖRG"),
            'receive inherit -> insiders, accept "" -> @a.example, reason "" -> "on leave"',
        ),
        ("5", "5", ME, "sender.block", "JÖRG", "to outside: added"),
        ("6", "5", ME, "sender.block", "@xn--bcher-kva.example", "to outside: added"),
    ]


def test_history_has_stable_json(policyd):
    """With each object as it was and as it is, and the digest that chains the rows."""
    rows = policyd.json("history")
    assert [*rows[3]] == ["id", "at", "actor", "changeset", "operation", "object", "before", "after", "digest"]
    assert (rows[0]["before"], rows[0]["after"]) == (
        None,
        {
            "name": "xn--bcher-kva.example",
            "unlisted": "reject",
            "alias_of": None,
            "receive": "anyone",
            "accept": [],
            "reason": "",
            "until": None,
            "comment": "",
        },
    )
    assert (rows[3]["before"]["reason"], rows[3]["after"]["reason"]) == ("", "on leave")
    assert [each["changeset"] for each in rows] == [1, 2, 2, 4, 5, 5]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        pytest.param("jörg", ["mailbox.add", "mailbox.restrict", "sender.block"], id="a mailbox in another case"),
        pytest.param("JO\u0308RG", ["mailbox.add", "mailbox.restrict", "sender.block"], id="a mailbox, decomposed"),
        pytest.param("JÖRG@Bücher.Example", ["address.add"], id="an address as it is written"),
        pytest.param("jörg@xn--bcher-kva.example", ["address.add"], id="an address as it is kept"),
        pytest.param("BÜCHER.example", ["domain.add"], id="a domain as it is written"),
        pytest.param("XN--bcher-kva.example", ["domain.add"], id="a domain as it is kept"),
        pytest.param("@bücher.example", ["sender.block"], id="a pattern"),
        pytest.param("bob", [], id="who was never changed"),
    ],
)
def test_object_is_found_however_it_is_typed(policyd, typed, found):
    """The trail must not depend on remembering how a name was spelt."""
    assert [operation for operation, _ in objects(policyd, f"--object '{typed}'")] == found


def test_limit_gives_the_last_changes_oldest_first(policyd):
    """As `tail` would, also together with other conditions."""
    assert [operation for operation, _ in objects(policyd, "--limit 2")] == ["sender.block", "sender.block"]
    assert objects(policyd, "--limit 1 --object jörg") == [("sender.block", "JÖRG")]
    assert len(objects(policyd, "--limit 1000")) == 6


@pytest.mark.parametrize("limit", ["0", "-1", "x", "99999999999999999999999"])
def test_limit_is_a_positive_number(policyd, limit):
    """Others are bad usage."""
    assert policyd.refuses(f"history --limit {limit}", 2).startswith("policyd: Invalid value for '--limit': ")


def test_since_leaves_older_changes_out(policyd):
    """By time, in every form that a time has."""
    policyd.rows(f"UPDATE change SET at = {int(time.time()) - 3 * 86400} WHERE id < 5")
    assert len(objects(policyd, "--since -1d")) == 2
    assert len(objects(policyd, "--since -96h")) == 6
    yesterday = datetime.fromtimestamp(time.time() - 86400).astimezone().date()
    assert len(objects(policyd, f"--since {yesterday}")) == 2
    assert len(objects(policyd, "--since 1969-01-01")) == 6


@pytest.mark.parametrize(
    ("when", "message"),
    [
        pytest.param("+1d", "'+1d' is still to come", id="a span ahead"),
        pytest.param("2096-01-01", "'2096-01-01' is still to come", id="a date ahead"),
        pytest.param(
            "never",
            "'never' is not a time; type 2026-12-31, '2026-12-31 18:00', -30d or -12h",
            id="a word of --until",
        ),
    ],
)
def test_since_is_a_time_that_has_been(policyd, when, message):
    """Nothing can have changed after now: an empty answer would mislead."""
    assert policyd.refuses(f"history --since {when}", 2) == (
        f"policyd: Invalid value for '--since': {message}. See: policyd history --help"
    )


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        pytest.param({"SUDO_USER": "bob"}, f"{ME}(sudo:bob)", id="sudo"),
        pytest.param({"DOAS_USER": "bob"}, f"{ME}(doas:bob)", id="doas"),
        pytest.param({"SUDO_USER": ME}, ME, id="sudo to oneself"),
        pytest.param({"SUDO_USER": ""}, ME, id="an empty variable"),
        pytest.param({"SUDO_USER": "bob\n), x=\t\x1b"}, f"{ME}(sudo:bob????x???)", id="a forged name"),
    ],
)
def test_actor_is_who_was_there_before_sudo(policyd, environment, told):
    """Root alone would say nothing about who it was; the name can forge neither field nor line."""
    environment = {"SUDO_USER": None, "DOAS_USER": None} | environment
    assert policyd.ends("mailbox add bob", **environment).status == 0
    assert policyd.json("history --limit 1")[0]["actor"] == told


def test_history_of_a_missing_database_makes_none(policyd):
    """Reading never creates a file."""
    missing = policyd.folder / "missing.db"
    policyd.refuses(f"history --database {missing}", 69)
    assert not missing.exists()


def test_history_of_a_group_tells_who_came_and_went(policyd):
    """Each membership is an object of its own; the group is found in any case."""
    for line in (
        "group add staff jörg",
        "group restrict staff --accept group:staff",
        "group leave staff Jörg@bücher.example",
        "group rename staff crew",
    ):
        policyd.run(line)
    told = [line.split("\t")[4:] for line in policyd.run("history --object group:STAFF").splitlines()]
    assert told == [
        ["group.add", "group:staff", "added: receive anyone"],
        ["group.join", "group:staff", "JÖRG joined"],
        ["group.restrict", "group:staff", 'receive anyone -> insiders, accept "" -> group:staff'],
        ["group.leave", "group:staff", "JÖRG left"],
        ["group.rename", "group:staff", "name staff -> crew"],
    ]
    (join,) = [each for each in policyd.json("history") if each["operation"] == "group.join"]
    assert join["after"] == {"id": 1, "group": {"group": 1, "name": "staff"}, "member": {"mailbox": 1, "name": "JÖRG"}}


@pytest.mark.parametrize("taken", ["{", "[]", "7", "[" * 9999, '{"name": "JÖRG"}'])
@pytest.mark.parametrize("line", ["history", "--json history", "undo 2", "undo 2 --dry-run"])
def test_journal_that_somebody_has_written_into_is_one_line(policyd, line, taken):
    """It says which row is meant, and what tells more; nothing asks for a defect of policyd's to be reported."""
    policyd.rows(f"UPDATE change SET after = '{taken}' WHERE id = 2")
    ended = policyd.ends(line)
    if ended.status:
        wrong = "policyd: the journal has a row that policyd did not write: change 2; see: policyd database check\n"
        assert (ended.status, ended.err) == (69, wrong)
    else:
        assert (line.split()[-1], taken) == ("history", '{"name": "JÖRG"}')

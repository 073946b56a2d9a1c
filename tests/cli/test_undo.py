"""`policyd undo`: what one command changed, changed back by another, however much it was."""

import json

import pytest

from policyd.store.database import reading
from policyd.store.queries import Queries
from tests.support.command_line import command_line
from tests.support.few import few
from tests.support.running_daemon import Syslog

MANY = 400


BEGINNING = ("domain add example.com", "mailbox add alice alice@example.com", "mailbox add bob bob@example.com")


@pytest.fixture
def policyd():
    """A company with one domain and two mailboxes."""
    with command_line(*BEGINNING) as policyd:
        yield policyd


def sizes(policyd):
    """The number of rows of each table but the journal."""
    with reading(policyd.store) as connection:
        return {name: count for name, count in Queries(connection).counts().items() if name != "change"}


def large_import(policyd):
    """Import mailboxes with more than a thousand rows; the number of its changeset."""
    file = policyd.folder / "people.csv"
    rows = (f"p{number},p{number}@example.com q{number}@example.com,insiders,@x.example\n" for number in range(MANY))
    file.write_text("name,addresses,receive,accept\n" + "".join(rows))
    return json.loads(policyd.run(f"--json import {file}"))["changeset"]


def test_undo_tells_each_change_and_is_a_changeset_itself(policyd):
    """What was taken away is there again, and the history has both."""
    policyd.run("sender block bob --reason gone")
    policyd.run("mailbox remove bob --yes")
    assert policyd.says("undo 7") == [
        "mailbox bob: added: receive inherit",
        "blocked sender bob to outside: added: reason gone",
        "address bob@example.com: added: mailbox bob, is_primary yes",
    ]
    assert [each["operation"] for each in policyd.json("history --limit 3")] == [
        "mailbox.undo",
        "sender.undo",
        "address.undo",
    ]
    assert {each["changeset"] for each in policyd.json("history --limit 3")} == {10}
    policyd.run("undo 10")
    assert [each["name"] for each in policyd.json("mailbox list")] == ["alice"]


def test_daemon_answers_as_before_once_the_command_returns(policyd):
    """Undoing a restriction is in force at once, too."""
    question = "check --recipient bob@example.com --client-address 192.0.2.1"
    policyd.run("mailbox restrict bob")
    assert policyd.ends(question).status == 1
    policyd.run("undo 6")
    assert policyd.ends(question).status == 0


def test_script_gets_the_changes_as_of_every_command(policyd):
    """One object, with the changeset by which this can be undone again."""
    policyd.run("domain add example.org")
    told = policyd.json("undo 6")
    assert (told["changeset"], [change["operation"] for change in told["changes"]]) == (7, ["domain.undo"])
    assert policyd.ends("undo 7").err == ""


def test_dry_run_shows_what_would_change_and_changes_nothing(policyd):
    """With the number of changes; the same refusals."""
    policyd.run("mailbox restrict bob --reason quiet")
    before = policyd.journal()
    assert policyd.run("undo 6 --dry-run").splitlines() == [
        'mailbox bob: receive insiders -> inherit, reason quiet -> ""',
        "1 changes; nothing was changed (--dry-run)",
    ]
    told = policyd.json("undo 6 --dry-run")
    assert (told["changeset"], told["count"], len(told["changes"])) == (None, 1, 1)
    assert policyd.journal() == before
    policyd.run("mailbox lift bob")
    assert "(mailbox.lift)" in policyd.refuses("undo 6 --dry-run")


def test_later_change_is_named_and_nothing_undone(policyd):
    """The whole changeset or nothing of it."""
    policyd.run("mailbox add carol carol@example.com")
    policyd.run("mailbox restrict carol")
    before = policyd.journal()
    assert policyd.refuses("undo 6") == (
        "policyd: changeset 6 can't be undone, later changes build on it: carol: change 8 (mailbox.restrict)"
    )
    assert policyd.journal() == before
    policyd.run("undo 8")
    policyd.run("undo 6")
    assert [each["name"] for each in policyd.json("mailbox list")] == ["alice", "bob"]


@pytest.mark.parametrize(
    ("number", "status", "message"),
    [
        pytest.param("99", 1, "there is no changeset 99; see: policyd history", id="a number that is none's"),
        pytest.param("3", 1, "change 3 is a part of changeset 2; type: policyd undo 2", id="a change inside of one"),
        pytest.param("0", 2, "Invalid value for 'CHANGESET'", id="nought"),
        pytest.param("x", 2, "Invalid value for 'CHANGESET': 'x' is not a valid number", id="a word"),
        pytest.param("9" * 30, 2, "Invalid value for 'CHANGESET'", id="a number beyond all"),
    ],
)
def test_what_is_no_changeset_is_refused(policyd, number, status, message):
    """With the number that is meant, where that can be known."""
    assert policyd.refuses(f"undo {number}", status).startswith(f"policyd: {message}")


def test_missing_database_is_not_made(policyd):
    """There is nothing in it to undo."""
    missing = policyd.folder / "none.db"
    policyd.refuses(f"undo 1 --database {missing}", 69)
    assert not missing.exists()


def test_import_of_thousands_is_undone_with_one_command(policyd):
    """And imported again by undoing that."""
    before = sizes(policyd)
    changeset = large_import(policyd)
    done = sizes(policyd)
    assert done["address"] == before["address"] + 2 * MANY
    shown = policyd.run(f"undo {changeset} --dry-run").splitlines()
    assert shown[-1] == f"{3 * MANY} changes; nothing was changed (--dry-run)"
    assert len(shown) == 1001
    again = changeset + 3 * MANY
    assert policyd.says(f"undo {changeset}") == [
        f"changeset {changeset} is undone: {3 * MANY} changes; changeset {again}"
    ]
    assert sizes(policyd) == before
    told = policyd.json(f"undo {again}")
    assert (told["changeset"], told["count"], len(told["changes"])) == (again + 3 * MANY, 3 * MANY, 1000)
    assert sizes(policyd) == done


def test_large_import_with_a_later_change_lists_the_few_that_matter(policyd):
    """Not thousands of lines."""
    changeset = large_import(policyd)
    policyd.run("mailbox restrict p7 --reason quiet")
    policyd.run("address remove p9@example.com")
    message = policyd.refuses(f"undo {changeset}")
    assert "p7: change " in message
    assert "p9@example.com: change " in message
    assert len(message) < 500


def test_audit_has_one_line_for_what_is_too_much_for_a_line_each(policyd):
    """The log of mail is not flooded; the journal has each change."""
    socket = policyd.folder / "log"
    policyd.settings.write_text(f'[audit]\nsyslog = "unix:{socket}"\n')
    syslog = Syslog(socket)
    try:
        changeset = large_import(policyd)
        policyd.run(f"undo {changeset}")
        imported = syslog.wait_for("operation=database.import")
        undone = syslog.wait_for("operation=database.undo")
        assert f"change={changeset}, " in imported
        assert str(3 * MANY) in imported
        assert str(3 * MANY) in undone
        assert len(syslog.lines()) == 2
    finally:
        syslog.close()


def test_undo_leaves_each_mailbox_with_one_primary_address(policyd):
    """It is the mailbox's own sender address: with two or none, the next export would be wrong."""
    policyd.run("address remove alice@example.com")
    policyd.run("address add alice new@example.com")
    refused = "policyd: changeset {} can't be undone, later changes build on it: {}"
    assert policyd.refuses("undo 6") == refused.format(6, "alice@example.com: what hangs on it")
    policyd.run("address remove bob@example.com")
    policyd.run("address add bob first@example.com")
    policyd.run("address add bob second@example.com")
    assert policyd.refuses("undo 9") == refused.format(9, "mailbox bob would have no primary addresses")
    for changeset in (10, 9, 8, 7, 6):
        policyd.run(f"undo {changeset}")
    assert policyd.rows("SELECT address, is_primary FROM address ORDER BY address") == [
        ("alice@example.com", 1),
        ("bob@example.com", 1),
    ]
    policyd.run("database check")


# --- Groups, domains and the new entries


@pytest.fixture
def company():
    """Something of everything that a command can change or remove."""
    with command_line(
        *BEGINNING,
        "domain add example.org --alias-of example.com",
        "domain restrict example.com --receive domain --accept @partner.example --accept bob --reason x --until +9d",
        "group add staff bob --comment c",
        "group add all group:staff",
        "group restrict staff --accept group:all --reason y --until +9d",
        "mailbox restrict bob --receive nobody --accept group:staff",
        "sender block group:staff --to @x.example --except joe@x.example --except-sender bob",
        "sender block anyone --to group:all --except bob --except-sender group:staff",
        "sender block bob --to group:staff",
    ) as policyd:
        yield policyd


def state(policyd):
    """All that there is, but for the journal."""
    lists = [policyd.json(f"{noun} list") for noun in ("domain", "group", "mailbox", "address", "sender")]
    groups = [each["name"] for each in lists[1]]
    return lists, [sorted(policyd.json(f"group show {name}")["members"]) for name in groups]


@pytest.mark.parametrize(
    "line",
    few(
        [
            "domain add example.net --alias-of example.com --comment z",
            "domain set example.org --no-alias",
            "domain set example.com --unlisted accept --comment z",
            "domain restrict example.com --receive nobody --accept alice --reason z --until never",
            "domain lift example.com",
            "domain accept example.com group:staff",
            "domain unaccept example.com bob",
            "domain remove example.org",
            "group add new alice bob group:all",
            "group set staff --comment z",
            "group remove staff --yes",
            "group remove all --yes",
            "group rename staff crew",
            "group join staff alice",
            "group leave staff bob",
            "group leave all group:staff",
            "group restrict all staff --receive nobody",
            "group lift staff",
            "group accept staff alice @x.example",
            "group unaccept staff group:all",
            "mailbox set bob --comment z",
            "mailbox open bob alice --until +1d",
            "mailbox lift bob",
            "mailbox accept alice group:all",
            "mailbox remove bob --yes",
            "sender block anyone --to outside --except @x.example --except-sender group:staff",
            "sender block group:staff --to @x.example --except-sender alice --reason z",
            "sender except anyone --except-sender alice",
            "sender unexcept anyone bob --except-sender group:staff",
            "sender unblock anyone",
            "sender unblock group:staff bob",
        ],
        "domain restrict example.com --receive nobody --accept alice --reason z --until never",
        "domain remove example.org",
        "group remove staff --yes",
        "group rename staff crew",
        "mailbox open bob alice --until +1d",
        "mailbox remove bob --yes",
        "sender block anyone --to outside --except @x.example --except-sender group:staff",
        "sender unblock anyone",
    ),
)
def test_every_command_is_undone_whole(company, line):
    """Whatever went with it is there again, and history tells both."""
    before = state(company)
    changeset = company.json(line)["changeset"]
    assert state(company) != before
    told = company.says(f"undo {changeset}")
    assert state(company) == before
    assert len(told) == len([each for each in company.json("history") if each["changeset"] == changeset])
    assert company.ends("database check").status == 0


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param("group add new", "mailbox restrict alice --accept group:new", id="a group that is accepted"),
        pytest.param("group add new", "sender block group:new", id="a group that is blocked"),
        pytest.param("group add new", "sender block alice --to group:new", id="a group that somebody is blocked to"),
        pytest.param("group add new", "sender except anyone --except-sender group:new", id="a group that is excepted"),
        pytest.param("group add new", "group join all group:new", id="a group in a group"),
        pytest.param("group add new", "group join new alice", id="a group with somebody in it"),
        pytest.param("group leave all group:staff", "group join staff group:all", id="what would be a circle"),
        pytest.param("domain add example.net", "domain set example.org --alias-of example.net", id="a domain's target"),
        pytest.param("group remove all --yes", "group add all", id="a name that is taken again"),
    ],
)
def test_undo_is_refused_where_something_hangs_on_it(company, first, then):
    """Nothing that refers to it vanishes without a row; a closed mailbox is not opened by it."""
    changeset = company.json(first)["changeset"]
    company.run(then)
    before = state(company)
    assert "can't be undone, later changes build on it" in company.refuses(f"undo {changeset}")
    assert state(company) == before


def test_alias_is_not_brought_back_into_a_chain(company):
    """An undo obeys every rule that a command obeys."""
    company.run("domain add example.net")
    changeset = company.json("domain remove example.org")["changeset"]
    company.run("domain lift example.com")
    company.run("domain set example.com --alias-of example.net")
    assert "can't be undone" in company.refuses(f"undo {changeset}")


CIRCLE = """version: 1

dn: cn=a,ou=x
objectClass: group
cn: a
member: cn=b,ou=x

dn: cn=b,ou=x
objectClass: group
cn: b
member: cn=a,ou=x

dn: cn=boss,ou=x
objectClass: user
mailNickname: boss
mail: boss@example.com
dLMemSubmitPerms: cn=a,ou=x
"""


def test_circle_of_an_import_goes_and_comes_back(policyd):
    """It was harmless, and whoever took the wrong import back wants it again."""
    file = policyd.folder / "circle.ldif"
    file.write_text(CIRCLE)
    changeset = policyd.json(f"import {file} --add-domains")["changeset"]
    for _ in range(2):
        changeset = policyd.json(f"undo {changeset}")["changeset"]
        assert policyd.json("group list") == []
        changeset = policyd.json(f"undo {changeset}")["changeset"]
        assert [each["members"] for each in policyd.json("group list")] == [["group:b"], ["group:a"]]
    assert policyd.ends("database check").status == 0

"""`policyd import`: a file into the tables in one transaction, with an error for each row that is wrong."""

import bz2
import gzip
import hashlib
import json
import lzma
import os
import pty
import random
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.cli.progress import Progress
from tests.support.command_line import command_line
from tests.support.few import few
from tests.support.randomised import a_seed, examples
from tests.support.waiting import LIMIT_SECONDS

FORMATS = ("exchange-csv", "ldif", "csv", "jsonl", "list", "postfix")
PEOPLE = "name,addresses\nalice,alice@example.com a@example.com\nbob,bob@example.com\n"
DAMAGED = (
    "name,addresses,receive\nalice,alice@example.com,\nbob,bob@elsewhere.example,\ncarol,,never\ndave,d@example.com,\n"
)


@pytest.fixture
def policyd():
    """A company with one domain and nobody in it yet."""
    with command_line("domain add example.com") as policyd:
        yield policyd


def write(policyd, content, name="people.csv"):
    """A file to import, and how it is called on the command line."""
    file = policyd.folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def imports(policyd, content, options="", *, name="people.csv", status=0):
    """The lines that a person is told of an import of *content*, with the file called as it is named here."""
    file = write(policyd, content, name)
    ended = policyd.ends(f"-v import {file} {options}")
    assert (ended.status, ended.out) == (status, ""), ended
    return ended.err.replace(str(file), name).splitlines()


def names(policyd):
    """The names of the mailboxes."""
    return [each["name"] for each in policyd.json("mailbox list")]


def held(policyd):
    """Each address and whose it is, the primary ones marked."""
    return [f"{each['mailbox']} {each['address']}{'*' * each['is_primary']}" for each in policyd.json("address list")]


def answer(policyd, question):
    """The daemon's answer to *question*, and the rule behind it."""
    ended = policyd.ends(f"--json check {question}")
    assert ended.status in (0, 1), ended
    found = json.loads(ended.out)
    return found["action"], found["rule"]


# --- What is told ---


def test_import_says_what_came_of_it_and_how_to_take_it_back(policyd):
    """The format it was taken for, the counts by kind, and the changeset."""
    assert imports(policyd, PEOPLE) == [
        "people.csv: read as csv; --format would say otherwise",
        "mailbox: 2 added",
        "address: 3 added",
        "changeset 2; to take it back: policyd undo 2",
    ]
    assert held(policyd) == ["alice a@example.com", "alice alice@example.com*", "bob bob@example.com*"]


def test_same_file_twice_changes_nothing_and_says_so(policyd):
    """A nightly import leaves no trace where nothing was changed."""
    imports(policyd, PEOPLE)
    before = policyd.journal()
    assert imports(policyd, PEOPLE, "--format csv") == [
        "mailbox: 2 unchanged",
        "address: 3 unchanged",
        "nothing to change: it stands so already",
    ]
    assert policyd.journal() == before


def test_alias_domain_has_nothing_to_say_of_what_is_unlisted(policyd):
    """What its target says counts, as where the command is typed; and the file says nothing new the next time."""
    row = "kind,name,unlisted,alias_of\ndomain,example.org,accept,example.com\n"
    imports(policyd, row)
    assert [each["unlisted"] for each in policyd.json("domain list")] == ["reject", "reject"]
    imports(policyd, row)
    assert len(policyd.journal()) == 2, "the two domains"


def test_import_is_one_changeset_under_its_own_operation(policyd):
    """Who reads the history sees that a file did it, not a person one by one."""
    imports(policyd, PEOPLE + "bob,b@example.com\n")
    changes = policyd.json("history")[1:]
    assert {change["changeset"] for change in changes} == {2}
    assert [(change["operation"], change["object"]) for change in changes] == [
        ("mailbox.import", "alice"),
        ("address.import", "alice@example.com"),
        ("address.import", "a@example.com"),
        ("mailbox.import", "bob"),
        ("address.import", "bob@example.com"),
        ("address.import", "bob@example.com"),
        ("address.import", "b@example.com"),
    ]
    assert "mailbox.import\talice\tadded" in policyd.run("history")


def test_script_hears_only_what_is_wrong(policyd):
    """Silence and 0 is success, as everywhere."""
    ended = policyd.ends(f"import {write(policyd, PEOPLE)}")
    assert (ended.status, ended.out, ended.err) == (0, "", "")


def test_json_has_everything_at_once(policyd):
    """For a script that has to decide what to do next."""
    ended = policyd.ends(f"--json import {write(policyd, DAMAGED)}")
    assert ended.status == 65
    assert json.loads(ended.out) == {
        "format": "csv",
        "changeset": 2,
        "is_kept": True,
        "rows": 4,
        "rejected": 2,
        "tally": {"mailbox": {"added": 2}, "address": {"added": 2}},
        "skipped": {},
        "errors": [
            {
                "line": 3,
                "column": "",
                "message": "bob@elsewhere.example: the domain elsewhere.example is not managed; "
                "add it with: policyd domain add elsewhere.example, or import the file with --add-domains",
                "event": None,
            },
            {
                "line": 4,
                "column": "receive",
                "message": "'never' is none of inherit, anyone, insiders, domain, nobody",
                "event": None,
            },
        ],
    }


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        pytest.param("Obj-Class,Directory Name,E-mail Addresses\nMailbox,x,SMTP:x@example.com\n", "exchange-csv"),
        pytest.param("dn: uid=x,o=e\nuid: x\nmail: x@example.com\n", "ldif"),
        pytest.param("name;addresses\nx;x@example.com\n", "csv"),
        pytest.param('{"name": "x", "addresses": ["x@example.com"]}\n', "jsonl"),
        pytest.param("# into: mailboxes\nx@example.com\n", "list"),
        pytest.param("x@example.com x@example.com\n", "postfix"),
    ],
)
def test_every_format_is_known_by_its_content(policyd, content, format_):
    """Nobody has to know what a file is called; and what was guessed is said."""
    assert imports(policyd, content)[0] == f"people.csv: read as {format_}; --format would say otherwise"
    assert held(policyd) == ["x x@example.com*"]


# --- Rows that are wrong ---


def test_wrong_row_is_told_with_its_place_and_stops_no_other(policyd):
    """File, line, column, what is wrong; then what became of the rest, and what to do."""
    assert imports(policyd, DAMAGED, "--format csv", status=65) == [
        (
            "people.csv:3: bob@elsewhere.example: the domain elsewhere.example is not managed; "
            "add it with: policyd domain add elsewhere.example, or import the file with --add-domains"
        ),
        "people.csv:4: column 'receive': 'never' is none of inherit, anyone, insiders, domain, nobody",
        "mailbox: 2 added",
        "address: 2 added",
        "changeset 2; to take it back: policyd undo 2",
        (
            "policyd: people.csv: 2 of 4 rows are wrong; the others are imported; "
            "fix them in people.csv.err and import it"
        ),
    ]
    assert names(policyd) == ["alice", "dave"]


def test_rejected_rows_can_be_corrected_and_imported(policyd):
    """FILE.err has the header and the rows as they stood."""
    imports(policyd, DAMAGED, status=65)
    rejected = policyd.folder / "people.csv.err"
    assert rejected.read_text() == "name,addresses,receive\nbob,bob@elsewhere.example,\ncarol,,never\n"
    corrected = rejected.read_text().replace("elsewhere.example", "example.com").replace("never", "nobody")
    imports(policyd, corrected, name="people.csv.err")
    assert names(policyd) == ["alice", "bob", "carol", "dave"]
    assert not (policyd.folder / "people.csv.err.err").exists()


def test_row_that_fails_at_the_end_of_the_file_is_rejected_like_others(policyd):
    """A block for somebody who is nowhere in the file, told under its own line."""
    content = "sender,to\ncarol,outside\n@x.example,anyone\n"
    assert imports(policyd, content, "--format csv", status=65)[0] == "people.csv:2: there is no mailbox carol"
    assert (policyd.folder / "people.csv.err").read_text() == "sender,to\ncarol,outside\n"
    assert [each["sender"] for each in policyd.json("sender list")] == ["@x.example"]


def test_row_with_the_wrong_number_of_fields_has_the_event_number(policyd):
    """The number under which the article's reader finds it in the event log's documentation."""
    content = "Obj-Class,Directory Name,E-mail Addresses\r\nMailbox,x\r\nMailbox,y,SMTP:y@example.com\r\n"
    assert imports(policyd, content, status=65)[1] == ("people.csv:2: has 2 fields, the header has 3 (event 291)")
    assert (policyd.folder / "people.csv.err").read_bytes() == (
        b"Obj-Class,Directory Name,E-mail Addresses\r\nMailbox,x\r\n"
    )
    assert json.loads(policyd.ends(f"--json import {policyd.folder / 'people.csv'}").out)["errors"][0]["event"] == 291


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_rejected_rows_keep_their_letters(policyd, encoding):
    """Whatever encoding the file is in, the corrected one is in it, too, and is read with the same names."""
    content = "name,addresses\nJörg Größe,j@elsewhere.example\n".encode(encoding)
    imports(policyd, content, status=65)
    rejected = policyd.folder / "people.csv.err"
    assert rejected.read_text(encoding) == "name,addresses\nJörg Größe,j@elsewhere.example\n"
    imports(policyd, rejected.read_text(encoding).replace("elsewhere.example", "example.com").encode(encoding))
    assert names(policyd) == ["Jörg Größe"]


def test_rejected_ldif_records_are_records_again(policyd):
    """Each with the empty line that ends it."""
    people = "".join(f"dn: uid={who},o=e\nuid: {who}\nmail: {who}@elsewhere.example\n\n" for who in "xy")
    imports(policyd, people, status=65, name="people.ldif")
    rejected = (policyd.folder / "people.ldif.err").read_text()
    imports(policyd, rejected.replace("elsewhere.example", "example.com"), name="people.ldif.err")
    assert names(policyd) == ["x", "y"]


@pytest.mark.parametrize("name", ["people.csv", "p" * 252])
def test_place_for_rejected_rows_that_cannot_be_had_stops_no_import(policyd, name):
    """A folder by that name, or a name that is too long: the rows are told on stderr all the same."""
    (policyd.folder / "people.csv.err").mkdir()
    lines = imports(policyd, DAMAGED, "--format csv", status=65, name=name)
    assert lines[-1] == f"policyd: {name}: 2 of 4 rows are wrong; the others are imported"
    assert names(policyd) == ["alice", "dave"]
    assert {each.name for each in policyd.folder.iterdir() if each.suffix == ".new"} == set()


def test_rejected_rows_of_stdin_go_to_the_folder_one_is_in(policyd, monkeypatch):
    """There is no file to put them beside."""
    monkeypatch.chdir(policyd.folder)
    ended = policyd.ends("import -", stdin=DAMAGED)
    assert ended.status == 65
    assert ended.err.splitlines()[-1] == (
        "policyd: -: 2 of 4 rows are wrong; the others are imported; fix them in stdin.err and import it"
    )
    assert (policyd.folder / "stdin.err").read_text().count("\n") == 3


@pytest.mark.parametrize(
    "name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "/proc/thread-self/fd/0", "link", "pipe"]
)
@pytest.mark.parametrize("is_file", [True, False], ids=["file", "pipe"])
def test_rejected_rows_of_what_has_no_folder_go_to_the_folder_one_is_in(policyd, name, is_file):
    """Root could write in /dev, where nobody looks for them."""
    devices = {*os.listdir("/dev")}
    (policyd.folder / "here").mkdir()
    (policyd.folder / "link").symlink_to("/dev/stdin")
    os.mkfifo(policyd.folder / "pipe")
    write(policyd, DAMAGED)
    feed = subprocess.Popen(["cat", policyd.folder / "people.csv"], stdout=subprocess.PIPE)
    into_pipe = subprocess.Popen(["cp", policyd.folder / "people.csv", policyd.folder / "pipe"])
    try:
        with open(policyd.folder / "people.csv") as file:
            ended = policyd.process(
                f"import --format csv {name if name.startswith('/') else policyd.folder / name}",
                stdin=file if is_file else feed.stdout,
                cwd=policyd.folder / "here",
            )
    finally:
        for each in (feed, into_pipe):
            each.kill()
            each.communicate()
    assert ended.status == 65
    assert ended.err.splitlines()[-1].endswith("the others are imported; fix them in stdin.err and import it")
    assert (policyd.folder / "here" / "stdin.err").read_text().count("\n") == 3
    assert [each.name for each in policyd.folder.iterdir() if each.suffix == ".err"] == []
    assert {*os.listdir("/dev")} <= devices


def test_strict_changes_nothing_unless_every_row_is_good(policyd):
    """All or nothing, where half a directory is worse than none."""
    before = policyd.journal()
    lines = imports(policyd, DAMAGED, "--strict --format csv", status=65)
    assert lines[-1] == "policyd: people.csv: 2 of 4 rows are wrong; nothing was changed; people.csv.err has them"
    assert len(lines) == 3
    assert policyd.journal() == before
    assert names(policyd) == []
    imports(policyd, PEOPLE, "--strict")
    assert names(policyd) == ["alice", "bob"]


# --- Showing and replacing ---


def everything(policyd):
    """All that is in the database: of a file each byte."""
    return policyd.run("export") if policyd.server else policyd.database.read_bytes()


def test_dry_run_shows_the_counts_and_changes_nothing(policyd):
    """Added, changed, removed, unchanged and skipped, by kind."""
    imports(policyd, PEOPLE)
    before, kept = policyd.journal(), everything(policyd)
    content = (
        "Obj-Class,Directory Name,E-mail Addresses\n"
        "Mailbox,alice,SMTP:alice@example.com%X400:c=US;a= \nMailbox,carol,SMTP:carol@example.com\n"
        "Mailbox,dave,SMTP:dave@elsewhere.example\nRemote,x,SMTP:x@elsewhere.example\n"
    )
    file = write(policyd, content)
    ended = policyd.ends(f"import --dry-run {file}")
    assert ended.status == 65
    assert ended.out.replace(str(file), "F").splitlines() == [
        "F, exchange-csv: nothing was changed; without --dry-run it would be:",
        "address a@example.com: removed",
        "mailbox carol: added: receive inherit",
        "address carol@example.com: added: mailbox carol, is_primary yes",
        "mailbox: 1 added, 1 unchanged",
        "address: 1 added, 1 removed, 1 unchanged",
        "skipped: 1 X400, 1 remote",
    ]
    assert ended.err.replace(str(file), "F").splitlines()[-1] == (
        "policyd: F: 1 of 4 rows are wrong; nothing was changed (--dry-run)"
    )
    assert policyd.journal() == before
    assert everything(policyd) == kept
    assert [each.name for each in policyd.folder.iterdir() if "err" in each.name] == []


def test_dry_run_needs_no_database_and_makes_none(policyd):
    """The first thing that somebody tries."""
    missing = policyd.folder / "none.db"
    ended = policyd.ends(f"import --dry-run --add-domains {write(policyd, PEOPLE)} --database {missing}")
    assert (ended.status, ended.out.splitlines()[1:]) == (
        0,
        [
            "domain example.com: added: unlisted reject",
            "mailbox alice: added: receive inherit",
            "address alice@example.com: added: mailbox alice, is_primary yes",
            "address a@example.com: added: mailbox alice",
            "mailbox bob: added: receive inherit",
            "address bob@example.com: added: mailbox bob, is_primary yes",
            "domain: 1 added",
            "mailbox: 2 added",
            "address: 3 added",
        ],
    )
    assert not missing.exists()


def test_dry_run_shows_the_first_changes_and_with_v_all_of_them(policyd):
    """A person sees what kind of change it is; a script gets up to a thousand as objects, and how many there are."""
    file = write(policyd, "name,addresses\n" + "".join(f"p{each},p{each}@example.com\n" for each in range(600)))
    ended = policyd.ends(f"import --dry-run {file}")
    assert len(ended.out.splitlines()) == 1 + 30 + 2
    assert "and 1170 more; -v shows all of them" in ended.err
    assert len(policyd.ends(f"-v import --dry-run {file}").out.splitlines()) == 1 + 1200 + 2
    told = policyd.json(f"import --dry-run {file}")
    assert (told["count"], len(told["changes"]), told["changeset"]) == (1200, 1000, None)
    assert told["changes"][0]["after"]["name"] == "p0"
    assert len(policyd.json(f"-v import --dry-run {file}")["changes"]) == 1200
    assert names(policyd) == []


def test_dry_run_shows_nothing_of_a_row_that_was_rolled_back(policyd):
    """The mailbox of a wrong row would not be there either."""
    content = "name,addresses\ncarol,carol@example.com\ndave,dave@example.com x@elsewhere.example\n"
    shown = policyd.ends(f"import --dry-run --format csv {write(policyd, content)}").out
    assert "mailbox carol: added: receive inherit\n" in shown
    assert "dave" not in shown


def test_import_can_be_the_first_command_of_all(policyd):
    """It makes the database, as `domain add` does."""
    first = policyd.folder / "first.db"
    ended = policyd.ends(f"import --add-domains {write(policyd, PEOPLE)} --database {first}")
    assert (ended.status, ended.err) == (0, "")
    assert policyd.run(f"domain list --database {first}") == "example.com\treject\n"


def test_replace_makes_the_domains_equal_to_the_file(policyd):
    """Who is not in the file goes; other domains are not the file's."""
    policyd.run("domain add example.org")
    policyd.run("mailbox add other other@example.org")
    imports(policyd, PEOPLE)
    imports(policyd, "name,addresses\nalice,alice@example.com\n", "--replace --max-remove 100")
    assert held(policyd) == ["alice alice@example.com*", "other other@example.org*"]
    assert names(policyd) == ["alice", "other"]


def test_replace_refuses_to_remove_much_without_being_told(policyd):
    """Half a file is the usual accident."""
    people = "".join(f"p{number},p{number}@example.com\n" for number in range(20))
    imports(policyd, f"name,addresses\n{people}")
    before = policyd.journal()
    few = "name,addresses\nnew,new@example.com\n" + people[: people.index("p17")]
    file = write(policyd, few)
    ended = policyd.ends(f"import {file} --replace --format csv")
    assert ended.status == 1
    assert ended.err == (
        "policyd: --replace would remove 3 of 20 addresses, and may remove 10 %; nothing was changed; "
        "if the file is right, add --max-remove 15\n"
    )
    assert ended.out.replace(str(file), "F").splitlines() == [
        "F, csv: nothing was changed; it would have been:",
        *(
            line
            for each in (17, 18, 19)
            for line in (f"address p{each}@example.com: removed", f"mailbox p{each}: removed")
        ),
        "mailbox new: added: receive inherit",
        "address new@example.com: added: mailbox new, is_primary yes",
    ]
    told = policyd.ends(f"--json import {file} --replace --format csv")
    shown = json.loads(told.out)
    assert (told.status, shown["is_kept"], shown["count"]) == (1, False, 8)
    assert shown["changes"][0]["object"] == "p17@example.com"
    assert policyd.journal() == before
    assert imports(policyd, few, "--replace --format csv --max-remove 15")[:2] == [
        "mailbox: 1 added, 3 removed, 17 unchanged",
        "address: 1 added, 3 removed, 17 unchanged",
    ]


@pytest.mark.parametrize("order", [("bob", "alice"), ("alice", "bob")], ids=["new one first", "old one first"])
@pytest.mark.parametrize("options", ["", "--replace"])
def test_an_address_may_move_to_another_mailbox_wherever_that_stands_in_the_file(policyd, order, options):
    """Colleagues take over addresses; the order of a directory's export is nobody's doing."""
    policyd.run("mailbox add alice alice@example.com info@example.com")
    policyd.run("mailbox add bob bob@example.com")
    rows = {"alice": "alice,alice@example.com", "bob": "bob,bob@example.com info@example.com"}
    imports(policyd, "\n".join(["name,addresses", *(rows[name] for name in order), ""]), options)
    assert held(policyd) == ["alice alice@example.com*", "bob bob@example.com*", "bob info@example.com"]


def test_an_address_that_two_rows_claim_goes_to_the_first(policyd):
    """And the second is told whose it is."""
    told = imports(policyd, PEOPLE + "carol,a@example.com\n", status=65)
    assert "people.csv:4: a@example.com is an address of alice already" in told
    assert names(policyd) == ["alice", "bob"]


def test_replace_wants_every_row_to_be_good(policyd):
    """A row with a slip would be taken for one that is gone."""
    imports(policyd, PEOPLE)
    before = policyd.journal()
    imports(policyd, "name,addresses\nalice,alice@\n", "--replace --max-remove 100", status=65)
    assert policyd.journal() == before


def test_replace_with_the_same_file_changes_nothing(policyd):
    """So it can run every night."""
    imports(policyd, PEOPLE)
    assert imports(policyd, PEOPLE, "--replace --format csv")[-1] == "nothing to change: it stands so already"


# --- Options of the formats ---


def test_separators_are_as_given(policyd):
    """Exchange lets them be chosen when a directory is exported."""
    content = "Obj-Class\tDirectory Name\tE-mail Addresses\nMailbox\t'x\ty'\t'SMTP:x@example.com|SMTP:y@example.com'\n"
    options = "--format exchange-csv --column-separator tab --quote \"'\" --multi-separator '|'"
    problem = imports(policyd, content, options, status=65)
    assert "control character" in problem[0]
    imports(policyd, content.replace("x\ty", "x,y"), options)
    assert held(policyd) == ["x,y x@example.com*", "x,y y@example.com"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        pytest.param("--column-separator ''", "must be one character, or tab", id="none"),
        pytest.param("--quote ab", "must be one character, or tab", id="two"),
        pytest.param("--format wav", "'wav' is not one of", id="an unknown format"),
        pytest.param("--max-remove 101", "101.0 is not in the range 0<=x<=100", id="more than all"),
        pytest.param("--into people", "'people' is not one of", id="an unknown kind"),
        pytest.param("--domain x@y", "", id="a domain that is none"),
    ],
)
def test_option_that_makes_no_sense_is_bad_usage(policyd, option, message):
    """Before anything is read."""
    assert message in policyd.refuses(f"import {write(policyd, PEOPLE)} {option}", 2)


def test_append_adds_to_the_values_there_are(policyd):
    """Without it, the file has all of them."""
    imports(policyd, PEOPLE)
    content = "Obj-Class,Directory Name,E-mail Addresses\nMailbox,bob,SMTP:b@example.com\n"
    imports(policyd, content, "--append")
    assert held(policyd)[2:] == ["bob b@example.com", "bob bob@example.com*"]
    imports(policyd, content, "--overwrite")
    assert held(policyd)[2:] == ["bob b@example.com*"]


def test_list_is_what_it_is_said_to_be(policyd):
    """Mailboxes, or blocked senders; with a domain for those that have none."""
    imports(policyd, "x\ny@example.com # y\n", "--format list --into mailboxes --domain example.com")
    assert held(policyd) == ["x x@example.com*", "y y@example.com*"]
    imports(policyd, "@spam.example\n<>\n", "--format list --into blocked")
    assert [(each["sender"], each["to"]) for each in policyd.json("sender list")] == [
        ("@spam.example", "anyone"),
        ("<>", "anyone"),
    ]
    assert policyd.refuses(f"import --format list {write(policyd, 'x@example.com')}", 65) == (
        "policyd: say what the lines of the list are: --into mailboxes, or --into blocked"
    )


def test_domains_are_added_only_if_asked(policyd):
    """A slip in one address must not make policyd refuse the mail of a strange domain."""
    content = "name,addresses\nx,x@examlpe.com\n"
    imports(policyd, content, status=65)
    imports(policyd, content, "--add-domains")
    assert policyd.run("domain list") == "examlpe.com\treject\nexample.com\treject\n"


# --- What the articles say ---


def test_q244008_row_takes_the_address_and_with_it_the_mail_from_the_internet(policyd):
    """How to restrict SMTP access, inbound: for many users at once."""
    policyd.run("domain add site.example.com")
    policyd.run("mailbox add Someone someone@site.example.com")
    question = "--recipient someone@site.example.com --client-address 192.0.2.1"
    assert answer(policyd, question) == ("DUNNO", "default")
    content = (
        "Obj-Class,Directory Name,Home-Server,E-mail addresses\n"
        "Mailbox,Someone,SERVER,~del<SMTP:someone@site.example.com>\n"
    )
    assert imports(policyd, content)[1:3] == ["mailbox: 1 unchanged", "address: 1 removed"]
    assert answer(policyd, question) == ("REJECT", "unlisted-recipient")
    policyd.run("undo 5")
    assert answer(policyd, question) == ("DUNNO", "default")


def test_q155414_modify_row_empties_both_proxy_columns(policyd):
    """Blank the addresses of somebody who is to have none, X.400 ones being none of ours."""
    policyd.run("mailbox add jdoe jdoe@example.com j.doe@example.com")
    questions = [f"--recipient {who}@example.com --client-address 192.0.2.1" for who in ("jdoe", "j.doe")]
    assert {answer(policyd, question)[0] for question in questions} == {"DUNNO"}
    content = (
        "Obj-Class,Mode,Directory Name,E-mail Addresses,Secondary-Proxy-Addresses\n"
        "Mailbox,Modify,jdoe,~DEL<SMTP:>%~DEL<X400:>,~DEL\n"
    )
    imports(policyd, content)
    assert {answer(policyd, question)[0] for question in questions} == {"REJECT"}
    policyd.run("mailbox remove jdoe")
    assert imports(policyd, content, status=65)[1] == (
        "people.csv:2: the mailbox jdoe is not there; the mode Modify wants it to be"
    )


def test_q146304_export_with_proxies_of_all_types_gives_the_smtp_ones(policyd):
    """A row as Exchange wrote it: quotes, doubled backslashes, other types counted as skipped."""
    content = (
        "Obj-Class,First Name,Last name,Display Name,Alias Name,Directory Name,Primary Windows NT Account,Home-Server,"
        "E-mail address,E-mail Addresses,Members,Obj-Container,Hide from AB\r\n"
        'Mailbox,Maria,Black,,MariaB,MariaB,DOM\\\\MariaB,SRV1,,"CCMAIL:Black, Maria at CA%MS:ORG/SITE/MARIAB'
        '%SMTP:MariaB@ca.example.com%X400:c=US;a= ;p=Org;o=CA;s=Black;g=Maria;",,Recipients,\r\n'
    )
    question = "--recipient mariab@ca.example.com --client-address 192.0.2.1"
    assert answer(policyd, question) == ("DUNNO", "default")
    imports(policyd, content, status=65)
    policyd.run("domain add ca.example.com")
    assert answer(policyd, question) == ("REJECT", "unlisted-recipient")
    assert imports(policyd, content)[1:4] == [
        "mailbox: 1 added",
        "address: 1 added",
        "skipped: 1 CCMAIL, 1 MS, 1 X400",
    ]
    assert answer(policyd, question) == ("DUNNO", "default")


def test_q154542_name_on_the_connectors_reject_list_cannot_send_outside(policyd):
    """Outbound: the mailbox on the list of the Internet Mail Service; inside it sends on."""
    policyd.run("mailbox add jdoe jdoe@example.com")
    policyd.run("mailbox add bob bob@example.com")
    outside = "--sender jdoe@example.com --login jdoe --recipient x@elsewhere.example"
    assert answer(policyd, outside) == ("DUNNO", "default")
    content = (
        "Obj-Class,Directory Name,Reject messages from\n"
        "Connector,Internet Mail Service,/o=Org/ou=Site/cn=Recipients/cn=jdoe\n"
    )
    imports(policyd, content)
    assert answer(policyd, outside) == ("REJECT", "blocked-sender")
    assert answer(policyd, outside.replace("x@elsewhere.example", "bob@example.com")) == ("DUNNO", "default")


def test_q149359_list_stands_for_its_members(policyd):
    """Reject by distribution list, and what is absent from a non-empty accept list."""
    for who in ("alice", "bob", "carol"):
        policyd.run(f"mailbox add {who} {who}@example.com")
    content = (
        "Obj-Class,Directory Name,Members,Accept messages from,Reject messages from DL\n"
        "dl,Sales,alice%bob,,\nMailbox,carol,,alice,\nMailbox,bob,,,Sales\n"
    )
    imports(policyd, content)
    question = "--sender {}@example.com --login {} --recipient {}@example.com"
    assert answer(policyd, question.format("alice", "alice", "carol")) == ("DUNNO", "accepted-sender")
    assert answer(policyd, question.format("bob", "bob", "carol")) == ("REJECT", "restricted-recipient")
    assert answer(policyd, question.format("alice", "alice", "bob")) == ("REJECT", "blocked-sender")
    assert answer(policyd, question.format("carol", "carol", "bob")) == ("DUNNO", "default")


def test_q176741_delete_as_a_name_makes_no_junk_user(policyd):
    """As it did in Exchange."""
    content = "Obj-Class,Directory Name,E-mail Addresses\nMailbox,~DEL,SMTP:x@example.com\n"
    assert imports(policyd, content, status=65)[1] == (
        "people.csv:2: column 'Directory Name': is ~DEL; a name can't be removed. "
        "To delete the object, use the Mode Delete"
    )
    assert names(policyd) == []


def test_q170378_blanked_type_takes_the_addresses(policyd):
    """Exchange 5.0 blanked with `SMTP:` and nothing after it."""
    policyd.run("mailbox add x x@example.com")
    imports(policyd, "Obj-Class,Directory Name,E-mail Addresses\nMailbox,x,SMTP:\n")
    assert held(policyd) == []


# --- Damaged files ---

LONG = 50_000_000


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        pytest.param(b"", 65, "policyd: the file is empty", id="empty"),
        pytest.param(b"\n\n \n", 65, "policyd: the file is empty", id="blank lines alone"),
        pytest.param(bytes(range(256)) * 40, 65, "policyd: the format of the file can't be told", id="binary junk"),
        pytest.param(b'name,addresses\n"x,x@example.com\n', 65, 'has a " that is not closed', id="a cut quote"),
        pytest.param(b"name,addresses\nx,x@example.com,y,z\n", 65, "has 4 cells, the header 2", id="too many fields"),
        pytest.param(b"name,addresses,comment\nx,x@example.com\n", 0, "mailbox: 1 added", id="missing trailing fields"),
        pytest.param(b"name,addresses\r\nx,x@example.com\ry,\nz,\r\n", 0, "mailbox: 3 added", id="mixed line ends"),
        pytest.param(b"name,addresses\nx\0,x@example.com\n", 65, "control character", id="a NUL in a name"),
        pytest.param(b"name,addresses\nx,x\0@example.com\n", 65, "column 'addresses'", id="a NUL in an address"),
        pytest.param(b"name,comment\nx\x81,\xff\n", 65, "people.csv:2:", id="bytes of no encoding"),
        pytest.param(b'{"name": "x", "comment": "\\ud800"}\n', 65, "people.csv:1:", id="half a character"),
        pytest.param(b'{"name": "x", "until": 1e999}\n', 65, "column 'until'", id="a number beyond all"),
        pytest.param(b'{"name": "x", "until": ' + b"9" * 5000 + b"}\n", 65, "a number is too long", id="a long number"),
        pytest.param(b"[" * 100_000 + b"\n", 65, "the file is a JSON array", id="brackets without end"),
        pytest.param(b'{"a":' * 100_000 + b"\n", 65, "nested too deeply", id="braces without end"),
        pytest.param("name,addresses\nx,x@example.com\n".encode("utf-16")[:-3], 65, "people.csv:2:", id="cut UTF-16"),
        pytest.param(b"dn: uid=x,o=e\nuid:: ###\n", 65, "people.csv:", id="LDIF that is not base64"),
        pytest.param(b"dn: uid=x,o=e\nmail: x@example.com\n", 65, "neither mailNickname nor uid nor cn", id="no name"),
        pytest.param(b"Obj-Class\nMailbox\n", 65, "no column is called Directory Name", id="no column with names"),
        pytest.param(b"Obj-Class,Directory Name\n", 0, "nothing to change", id="a header alone"),
    ],
)
def test_damaged_file_gives_row_errors_or_one_clear_line(policyd, content, status, told):
    """Never a traceback, never a silent nothing."""
    lines = imports(policyd, content, status=status)
    assert told in "\n".join(lines)
    assert all(line.isprintable() and len(line) < 500 for line in lines), lines


SHEET = b"name,addresses\nx,x@example.com\n"


@pytest.mark.parametrize("options", ["", "--format csv", "--format list --into blocked"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(
            gzip.compress(SHEET), "compressed by gzip; import what comes out of it: gzip -dc FILE | ", id="gz"
        ),
        pytest.param(lzma.compress(SHEET), "compressed by xz; import what comes out of it: xz -dc FILE | ", id="xz"),
        pytest.param(bz2.compress(SHEET), "compressed by bzip2; import what", id="bzip2"),
        pytest.param(b"\x28\xb5\x2f\xfd\x24\x1f\xf9\0\0" + SHEET, "compressed by zstd; import what", id="zstd"),
        pytest.param(b"PK\x03\x04" + bytes(4000), "a workbook, or another zip archive; save the sheet", id="xlsx, ods"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(9), "a workbook of an old Excel; save", id="xls"),
        pytest.param(b"SQLite format 3\0\x10\0", "a database; import what this prints: policyd", id="a database"),
        pytest.param(SHEET.decode().encode("utf-32"), "UTF-32; save it as UTF-8", id="UTF-32"),
        pytest.param(bytes(12) + b"\x61\x15\x06\0" + bytes(99), "an indexed map of Postfix's; import the", id="hash:"),
        pytest.param(bytes(12) + b"\x62\x31\x05\0" + bytes(99), "an indexed map of Postfix's; import the", id="btree:"),
        pytest.param(bytes(16) + b"\xde\xc0\xef\xbe" + bytes(99), "an indexed map of Postfix's; import", id="lmdb:"),
        pytest.param(bytes(99), "no text: it begins with zeros", id="zeros"),
    ],
)
def test_file_that_is_no_text_says_what_it_is_and_how_to_import_it(policyd, content, told, options):
    """No row of it is guessed at, whatever format is named; the same comes through a pipe."""
    file = policyd.folder / "people"
    file.write_bytes(content)
    for ended in (policyd.ends(f"import {options} {file}"), policyd.ends(f"import {options} -", stdin=content)):
        assert (ended.status, len(ended.err.splitlines())) == (65, 1)
        assert ended.err.startswith(f"policyd: the file is {told}")


@pytest.mark.parametrize("format_", FORMATS)
def test_line_of_fifty_megabytes_is_one_error(policyd, format_):
    """Whatever the format; the row after it is read."""
    head = {
        "exchange-csv": "Obj-Class,Directory Name,E-mail Addresses\nMailbox,x,SMTP:x@example.com\n",
        "csv": "name,addresses\nx,x@example.com\n",
        "jsonl": '{"name": "x", "addresses": ["x@example.com"]}\n',
        "ldif": "dn: uid=x,o=e\nuid: x\nmail: x@example.com\n\ndn: uid=y,o=e\nuid: ",
        "list": "x@example.com\n",
        "postfix": "x@example.com x@example.com\n",
    }[format_]
    tail = "\n\n" if format_ == "ldif" else "\n"
    content = head.encode() + b"y" * LONG + tail.encode() + head.encode().replace(b"x", b"z").partition(b"\n")[2]
    lines = imports(policyd, content, f"--format {format_} --into mailboxes", status=65)
    assert "x x@example.com*" in held(policyd)
    assert all(len(line) < 500 for line in lines)


def test_directory_is_no_file_to_import(policyd):
    """Said before the database is touched."""
    assert policyd.refuses(f"import {policyd.folder}", 2) == (
        f"policyd: Invalid value for 'FILE': File '{policyd.folder}' is a directory. See: policyd import --help"
    )
    assert "does not exist" in policyd.refuses(f"import {policyd.folder / 'none'}", 2)


PIECES = (
    *(b"Obj-Class,Directory Name,E-mail Addresses", b"Mailbox,x,~DEL<SMTP:>", b'"', b",", b"\n", b"\r", b"\0", b"%"),
    *(b"name,sender,to,mode,accept", b"x,,,create,y", b",x@,outside,,", b"delete", b"{", b'{"name":"x"}', b"}", b"\\"),
    *(b"dn: cn=x", b"changetype: modify", b"add: mail", b"-", b"mail: x@example.com", b"x@example.com", b" ", b"<>"),
    *(b"@example.com REJECT", b"\xff\xfe", b"\xef\xbb\xbf", b"outside", b"# into: blocked"),
)


@pytest.mark.file_only("a database for each example, looked at by SQLite itself")
@examples(few=20, many=80)
@given(
    st.sampled_from(FORMATS),
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join),
    ),
    st.sampled_from(
        ["", "--strict", "--replace --max-remove 100", "--add-domains --append", "--dry-run --into blocked"]
    ),
)
def test_no_bytes_at_all_make_it_fail_otherwise_than_told(format_, content, options):
    """65 with lines that can be printed, or success; the journal whole."""
    with command_line("domain add example.com") as policyd:
        ended = policyd.ends(f"import {write(policyd, content)} --format {format_} {options}")
        assert ended.status in (0, 65)
        assert all(line.isprintable() for line in ended.err.splitlines())
        assert (ended.err == "") is (ended.status == 0) or ended.status == 0
        check_database(policyd)


# --- Pipes, terminals, and being killed ---


def check_database(policyd):
    """The file is sound and the journal's chain has no gap; the number of changes."""
    assert policyd.rows("PRAGMA integrity_check") == [("ok",)]
    assert policyd.rows("PRAGMA foreign_key_check") == []
    previous = ""
    rows = policyd.rows(
        "SELECT id, at, actor, changeset, operation, object, before, after, digest FROM change ORDER BY id"
    )
    for number, (*columns, digest) in enumerate(rows, 1):
        assert columns[0] == number
        text = "\0".join("" if each is None else str(each) for each in (previous, *columns))
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert digest == previous
    return len(rows)


def test_stdin_may_be_a_pipe_or_a_file(policyd):
    """What comes through a pipe is read twice where a format needs that."""
    with policyd.start(["-v", "import", "-"], stdin=subprocess.PIPE) as started:
        out, err = started.communicate(PEOPLE, timeout=LIMIT_SECONDS)
    assert (started.returncode, out) == (0, "")
    assert err.splitlines()[0] == "-: read as csv; --format would say otherwise"
    with write(policyd, PEOPLE).open("rb") as file:
        ended = policyd.process("-v import -", stdin=file)
    assert ended.err.splitlines()[-1] == "nothing to change: it stands so already"


@pytest.mark.parametrize("content", ["foo bar baz\n", "\0\n" * 400], ids=["a line", "much that is no text"])
def test_what_cannot_be_told_from_a_pipe_is_one_line(policyd, content):
    """Nothing that is closed half-way may say so on its own."""
    with policyd.start(["import", "-"], stdin=subprocess.PIPE) as started:
        out, err = started.communicate(content, timeout=LIMIT_SECONDS)
    assert (started.returncode, out, err.count("\n")) == (65, "", 1)
    assert err.startswith("policyd: the format of the file can't be told from its content; name it with --format: ")


def test_pipe_that_breaks_gives_what_came_through(policyd):
    """The row that was cut is an error of its own."""
    with policyd.start(["import", "--strict", "-"], stdin=subprocess.PIPE, cwd=policyd.folder) as started:
        assert started.stdin is not None
        started.stdin.write(PEOPLE[:-8])
        started.stdin.close()
        started.stdin = None
        out, err = started.communicate(timeout=LIMIT_SECONDS)
    assert (started.returncode, out) == (65, "")
    assert err.splitlines()[0].startswith("-:3: ")
    assert names(policyd) == []


def test_closed_stdin_is_told(policyd):
    """As cron or a daemon may start it."""
    closing = "import os, runpy; os.close(0); import sys; sys.stdin = None; sys.argv = ['policyd', 'import', '-']"
    command = f"{closing}; runpy.run_module('policyd', run_name='__main__')"
    ended = subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, **policyd.environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert (ended.returncode, ended.stderr) == (65, "policyd: stdin is closed; nothing can be read from it\n")


@pytest.mark.full
def test_long_import_tells_how_far_it_is(policyd):
    """A line each 100 000 rows where nobody watches: comments of a map are the cheapest rows there are."""
    content = "a@example.net REJECT\n" + "x@example.net OK\n" * 99_999
    ended = policyd.ends(f"import --format postfix {write(policyd, content)}")
    (line,) = ended.err.splitlines()
    assert line.startswith("policyd: 100000 rows, ")
    assert line.endswith("/s")


def test_progress_is_a_line_each_100_000_rows_where_nobody_watches(tmp_path, capsys):
    """What the log of a night's import is looked through for."""
    with (tmp_path / "rows").open("wb+") as stream, Progress(stream) as progress:
        for _ in range(250_000):
            progress.advance()
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(" rows, ")[0] for line in told] == ["policyd: 100000", "policyd: 200000"]
    assert all(line.endswith("/s") for line in told)


@pytest.mark.parametrize("rows", few([3000, 100_000], 3000))
def test_bar_is_shown_on_a_terminal(policyd, rows):
    """With the number of rows, the rate, and the time that is left; and without the lines of a log."""
    file = write(policyd, "a@example.net REJECT\n" + "x@example.net OK\n" * (rows - 1))
    ours, theirs = pty.openpty()
    with policyd.start(["import", "--format", "postfix", str(file)], stderr=theirs) as started:
        os.close(theirs)
        shown = b""
        while chunk := read_terminal(ours):
            shown += chunk
    os.close(ours)
    assert started.returncode == 0
    assert b"\xe2\x94\x81" in shown  # the bar
    assert b" rows, " in shown
    assert b"0:00:" in shown or b"-:--:--" in shown
    assert b"policyd: 100000 rows" not in shown


def read_terminal(descriptor):
    """What was written to a terminal; nothing once everybody has hung up."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


@pytest.mark.full
def test_killed_import_has_changed_everything_or_nothing(policyd):
    """At any moment: during the reading, the writing, the commit, and after."""
    chance = random.Random(a_seed())
    count = 1000
    file = write(policyd, "name,addresses\n" + "".join(f"p{i},p{i}@example.com\n" for i in range(count)))
    assert policyd.process(f"import {file}").status == 0

    # How long it takes to change them all, as each of those that are killed would.
    write(policyd, "name,addresses,comment\n" + "".join(f"p{i},p{i}@example.com,whole\n" for i in range(count)))
    started_at = time.monotonic()
    assert policyd.process(f"import {file}").status == 0
    lasts = time.monotonic() - started_at
    seen = set()
    for _ in range(20):
        before = check_database(policyd)
        comment = chance.random()
        text = "name,addresses,comment\n" + "".join(f"p{i},p{i}@example.com,{comment}\n" for i in range(count))
        write(policyd, text)
        with policyd.start(["import", str(file)], stderr=subprocess.DEVNULL) as killed:
            try:
                killed.wait(chance.uniform(0, lasts * 1.1))
            except subprocess.TimeoutExpired:
                killed.send_signal(signal.SIGKILL)
        changed = check_database(policyd) - before
        assert changed in (0, count)
        ((distinct, fitting),) = policyd.rows(
            f"SELECT count(DISTINCT comment), sum(comment = '{comment}') FROM mailbox"
        )
        assert (distinct, fitting) == (1, changed)
        seen.add(changed)
    assert 0 in seen


def test_imported_domain_that_postfix_takes_for_another_is_told(policyd):
    """As `domain add` tells it: else mail to the other spelling passes by every restriction in it."""
    file = policyd.folder / "domains.csv"
    file.write_text("kind,name\ndomain,gruß.example\ndomain,example.net\n")
    told = policyd.ends(f"import {file}")
    advice = (
        "policyd: Postfix takes gruß.example for gruss.example, so manage that, too: policyd domain add gruss.example"
    )
    assert told.status == 0
    assert [line for line in told.err.splitlines() if "Postfix takes" in line] == [advice]


# --- What a directory says of who may write to a list


BOARD = """\
dn: CN=Carla,OU=Staff,DC=example,DC=com
objectClass: user
mailNickname: carla
proxyAddresses: SMTP:carla@example.com
proxyAddresses: smtp:c.clark@example.com

dn: CN=All Staff,OU=Lists,DC=example,DC=com
objectClass: group
mailNickname: allstaff
proxyAddresses: SMTP:allstaff@example.com
"""
LISTED = "authOrig: CN=Carla,OU=Staff,DC=example,DC=com\n"
SIGN_IN = "msExchRequireAuthToSendTo: "


def imported_ldif(policyd, text):
    """Import *text* as a directory's export; what was said."""
    file = policyd.folder / "people.ldif"
    file.write_text(text)
    ended = policyd.ends(f"-v import {file} --add-domains")
    assert ended.status == 0, ended
    return ended


@pytest.mark.parametrize("first", [SIGN_IN + "TRUE\n" + LISTED, LISTED])
@pytest.mark.parametrize("later", ["", SIGN_IN + "TRUE\n", SIGN_IN + "FALSE\n"])
def test_list_for_some_stays_closed_whatever_a_flag_says_later(first, later):
    """Only Carla writes to all staff, and only logged in: not every insider, and not who forges her address."""
    with command_line() as policyd:
        imported_ldif(policyd, BOARD + first)
        imported_ldif(policyd, BOARD + later)
        rows = policyd.rows(
            "SELECT m.name, m.receive, a.pattern, a.sender_mailbox_id IS NOT NULL FROM accepted_sender a"
            " JOIN mailbox m ON m.id = a.mailbox_id"
        )
        assert [tuple(row) for row in rows] == [("allstaff", "nobody", None, 1)]


def test_flag_of_a_directory_restricts_and_lifts_what_it_restricted():
    """It is about signing in and nothing else; a mailbox that was opened stays open where the flag is FALSE."""
    with command_line() as policyd:
        for flag, receive in (("TRUE", "insiders"), ("FALSE", "inherit"), ("TRUE", "insiders")):
            imported_ldif(policyd, f"{BOARD}{SIGN_IN}{flag}\n")
            assert [tuple(row) for row in policyd.rows("SELECT receive FROM mailbox WHERE name = 'allstaff'")] == [
                (receive,)
            ]
        for held in ("domain", "anyone"):
            policyd.rows(f"UPDATE mailbox SET receive = '{held}' WHERE name = 'allstaff'")
            imported_ldif(policyd, f"{BOARD}{SIGN_IN}FALSE\n")
            assert [tuple(row) for row in policyd.rows("SELECT receive FROM mailbox WHERE name = 'allstaff'")] == [
                (held,)
            ]


def test_circle_of_groups_in_a_directory_is_taken_and_told_once():
    """Active Directory allows it, and no answer depends on it."""
    circle = "dn: CN=A\nmember: CN=B\n\ndn: CN=B\nmember: CN=A\nmember: CN=Carla,OU=Staff,DC=example,DC=com\n"
    with command_line() as policyd:
        ended = imported_ldif(policyd, f"{BOARD}dLMemRejectPerms: CN=A\n\n{circle}")
        assert ended.err.count("groups that are in one another, which harms nothing: group:A, group:B") == 1
        assert "group: 2 added\nmember: 3 added\n" in ended.err

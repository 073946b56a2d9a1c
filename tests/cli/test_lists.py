"""Lists: narrowed, and on a terminal paged, with whole addresses on any width."""

import json
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from policyd.admin.showing import list_addresses, list_mailboxes
from policyd.store.connection import Connection, Database, Statement
from policyd.store.database import reading
from policyd.store.queries import Queries
from tests.support.command_line import CommandLine, command_line
from tests.support.few import few
from tests.support.required import need_program
from tests.support.terminal import on_terminal, shown_on_terminal

MANY = 1000
NOW = 1_800_000_000
# At the end of a pager's stdin, it says how much it was given.
COUNTING = "sh -c 'echo paged $(wc -l) lines'"


@pytest.fixture(scope="module")
def policyd():
    with command_line() as policyd:
        for line in [
            "domain add example.com --unlisted accept --comment ours",
            "domain add example.org",
            "domain add alias.example --alias-of example.com",
            "mailbox add alice alice@example.com a.smith@example.com --comment 'as of the payroll'",
            "mailbox add bob robert.the.elder.of.the.north@example.org",
            "mailbox add carol",
            "group add staff alice",
            "group add board group:staff",
            "group add guests bob",
            "mailbox restrict alice --accept accounts.payable.department@partner.example --reason 'only who must'",
            "sender block alice --except invoices.of.the.month@partner.example --reason 'left the company'",
            "sender block @.bulk.example",
            "sender block group:guests --to carol",
            "sender block @example.net --to robert.the.elder.of.the.north@example.org",
        ]:
            policyd.run(line)
        yield policyd


@pytest.fixture(scope="module")
def large():
    """A site of 1 000 mailboxes with two addresses each."""
    with many_mailboxes(MANY) as policyd:
        yield policyd


@contextmanager
def many_mailboxes(count: int) -> Iterator[CommandLine]:
    """A site of as many, with two addresses each."""
    with command_line() as policyd:
        rows = [
            f"p{number},person.number{number}@example.com p{number}@example.com,insiders,internal mailbox of p{number}"
            for number in range(count)
        ]
        (policyd.folder / "people.csv").write_text("\n".join(["name,addresses,receive,reason", *rows]))
        policyd.run(f"import {policyd.folder}/people.csv --add-domains")
        yield policyd


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("domain list ALIAS", ["alias.example"]),
        ("domain list 'example.*'", ["example.com", "example.org"]),
        ("domain list --domain example.com", ["alias.example", "example.com"]),
        ("group list '?taff'", ["staff"]),
        ("group list --domain example.com", ["board", "staff"]),
        ("group list --domain example.org --limit 1", ["guests"]),
        ("mailbox list SMITH", ["alice"]),
        ("mailbox list '*@example.org'", ["bob"]),
        ("mailbox list --domain example.org", ["bob"]),
        ("mailbox list --limit 2", ["alice", "bob"]),
        ("address list --domain example.com --limit 1", ["a.smith@example.com"]),
        ("address list 'alice@*'", ["alice@example.com"]),
        ("sender list bulk", ["@.bulk.example"]),
        ("sender list --domain bulk.example", ["@.bulk.example"]),
        ("sender list --domain example.com", ["alice"]),
        ("sender list --domain example.org", ["group:guests", "@example.net"]),
        ("sender list --domain example.org --limit 1", ["group:guests"]),
        ("history robert", ["robert.the.elder.of.the.north@example.org", "@example.net"]),
        ("history --domain bulk.example", ["@.bulk.example"]),
        ("history --domain example.org", ["example.org", "robert.the.elder.of.the.north@example.org", "@example.net"]),
        ("history group: --limit 1", ["group:guests"]),
        ("history '?lice'", ["alice", "alice", "alice"]),
    ],
)
def test_each_list_is_narrowed_by_text_glob_domain_and_number(policyd, line, found):
    """Of 5 000 mailboxes, somebody wants those of one department or domain, or just a look."""
    names = {"sender": "sender", "address": "address", "history": "object"}
    assert [each[names.get(line.split()[0], "name")] for each in policyd.json(line)] == found


@pytest.mark.parametrize(
    ("noun", "what"), [("domain", "no domains"), ("group", "no mailboxes"), ("mailbox", "no addresses")]
)
def test_a_mistyped_domain_is_no_empty_list(policyd, noun, what):
    """Nothing found reads as nobody there."""
    assert policyd.refuses(f"{noun} list --domain exmaple.com") == (
        f"policyd: {what}: the domain exmaple.com is not managed; add it with: policyd domain add exmaple.com"
    )


def test_what_a_limit_leaves_out_is_said(policyd):
    """Who sees two of three must not take them for all."""
    assert policyd.ends("-v mailbox list --limit 2").err == "there are more than 2; without --limit all are listed\n"
    assert policyd.ends("-v mailbox list --limit 3").err == ""


def test_history_says_whom_a_blocked_sender_may_not_write_to(policyd):
    """One sender has an entry for each."""
    (line,) = policyd.run("history group:guests --limit 1").splitlines()
    assert line.split("\t")[4:] == ["sender.block", "group:guests", "to carol: added"]


def test_a_mailbox_is_listed_with_its_note(policyd):
    """`mailbox set --comment` is for whoever reads the list."""
    assert policyd.run("mailbox list alice").splitlines()[0].split("\t")[-1] == "as of the payroll"


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
@pytest.mark.parametrize("noun", ["domain", "group", "mailbox", "address", "sender"])
def test_no_address_is_broken_on_any_terminal(policyd, noun, columns):
    """A cut address can't be copied; the columns give way, and text that is no address is wrapped."""
    shown = shown_on_terminal(policyd, f"{noun} list", columns=columns)
    words = {word for line in policyd.run(f"{noun} list").splitlines() for word in line.replace("\t", " ").split()}
    assert words <= {*shown.split()}
    assert all(len(line) <= columns or len(line.split()) == 1 for line in shown.splitlines())


def test_history_fits_a_terminal(policyd):
    """It is the widest list."""
    shown = shown_on_terminal(policyd, "history", columns=60)
    assert "robert.the.elder.of.the.north@example.org" in shown.split()
    assert max(map(len, shown.splitlines())) <= 60


@pytest.mark.parametrize("line", ["mailbox list", "address list", "history"])
def test_a_long_list_is_paged_on_a_terminal(large, line):
    """A thousand lines that rush by help nobody."""
    assert shown_on_terminal(large, line, PAGER=COUNTING, columns=300).startswith("paged ")


def test_all_lines_go_through_the_pager(large):
    """Headings and rows."""
    assert shown_on_terminal(large, "mailbox list", PAGER=COUNTING, columns=300) == f"paged {MANY + 1} lines\n"


@pytest.mark.parametrize(
    ("line", "pager"),
    [
        pytest.param("mailbox list p4@ --limit 5", COUNTING, id="a list that fits"),
        pytest.param("mailbox list", "", id="no pager is wanted"),
        pytest.param("mailbox list", "cat", id="cat is wanted"),
        pytest.param("mailbox list", "no-such-pager -x", id="the pager is not there"),
        pytest.param("mailbox list", "'", id="no command"),
        pytest.param("mailbox list", __file__, id="the pager is no program"),
        pytest.param("mailbox list --json", COUNTING, id="JSON"),
    ],
)
def test_what_needs_no_pager_or_has_none_is_printed(large, line, pager):
    """A list is never lost for want of a pager."""
    shown = shown_on_terminal(large, line, PAGER=pager, columns=300)
    assert "paged" not in shown
    assert "p4@example.com" in shown


def test_a_pager_that_can_not_be_started_hides_nothing(large, tmp_path):
    """A script without its first line, say."""
    pager = tmp_path / "pager"
    pager.write_bytes(b"\x00")
    pager.chmod(0o755)
    assert "p4@example.com" in shown_on_terminal(large, "mailbox list", PAGER=str(pager), columns=300)


def test_a_dumb_terminal_has_no_pager(large):
    """An editor's shell can't page."""
    assert "p4@example.com" in shown_on_terminal(large, "mailbox list", PAGER=COUNTING, TERM="dumb", columns=300)


def test_nothing_is_paged_in_a_pipe(large):
    """A script reads it."""
    done = large.process("mailbox list", environment={"PAGER": COUNTING, "TERM": "xterm"})
    assert len(done.out.splitlines()) == MANY


def test_quitting_the_pager_early_is_no_error(large):
    """Who has found what he looked for types `q`."""
    assert shown_on_terminal(large, "mailbox list", PAGER="head -n 1").split()[0] == "name"


def test_ctrl_c_is_the_pagers(large):
    """For less it is no end; were it one for policyd, less and the shell would both read the keys."""
    reading = "read line </dev/tty; " * 3
    stubborn = f"""sh -c 'trap "echo caught" INT; head -n 1; {reading} echo done $line'"""
    with on_terminal(large, ["mailbox", "list"], PAGER=stubborn) as terminal:
        terminal.read_until("name")
        terminal.type("\x03\n")  # a signal that comes just before a shell begins to read is seen when that ends
        terminal.read_until("caught")
        assert terminal.process.poll() is None
        terminal.type("a\nb\n")
        shown = terminal.read_to_the_end()
    assert "done" in shown
    assert "stopped" not in shown
    assert terminal.process.returncode == 0


def test_ctrl_c_without_a_pager_ends_quietly(large):
    """Whoever has seen enough needs no message."""
    with on_terminal(large, ["mailbox", "list"]) as terminal:
        terminal.read_until("name")
        terminal.type("\x03")
        shown = terminal.read_to_the_end()
    assert terminal.process.returncode == 130
    assert "policyd:" not in shown


@pytest.mark.file_only("the log of a file")
def test_no_state_of_the_tables_is_kept_while_somebody_reads(large):
    """A pager that is open over lunch must not make the log of the database grow."""
    with on_terminal(large, ["address", "list"], PAGER="sh -c 'head -n 1; read line </dev/tty'") as terminal:
        terminal.read_until("address")
        large.run("mailbox set p1 --comment x")
        connection = sqlite3.connect(large.database)
        ((is_busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()
        terminal.type("\n")
        terminal.read_to_the_end()
    assert not is_busy


def test_who_borrows_roots_rights_gets_no_shell_of_his(large, tmp_path):
    """less starts any command for `!`: under sudo it is told not to, and no other pager is started."""
    less = tmp_path / "less"
    less.write_text("#!/bin/sh\necho secure=$LESSSECURE $LESS\n")
    less.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    shown = shown_on_terminal(large, "mailbox list", PAGER=COUNTING, SUDO_UID="1000", PATH=path)
    assert shown == "secure=1 FRX\n"


def test_less_shows_a_page_and_ends_at_q(large):
    """The pager that most have."""
    need_program("less", "less")
    with on_terminal(large, ["mailbox", "list"], PAGER="less", columns=120) as terminal:
        terminal.read_until("p105@example.com")  # of names in the order of their letters, on the first page
        terminal.type("q")
        shown = terminal.read_to_the_end()
    assert terminal.process.returncode == 0
    assert "p999@example.com" not in shown


@pytest.mark.file_only("counts what is read of a file")
@pytest.mark.parametrize(
    "listed",
    [
        lambda queries: list_mailboxes(queries, NOW),
        lambda queries: list_mailboxes(queries, NOW, "p1"),
        lambda queries: list_addresses(queries),
        lambda queries: queries.changes(),
        lambda queries: queries.changes(of_object="p999"),
    ],
    ids=["mailboxes", "mailboxes with a text", "addresses", "history", "history of one object"],
)
def test_the_first_line_of_a_list_needs_no_other(large, listed):
    """`| head -1` of a million mailboxes took 18 seconds, and all of them in memory."""
    with reading(Database.at(large.database)) as connection:
        source = _Counting(connection)
        first = next(iter(listed(Queries(source))))
        assert first
        assert source.count < MANY


class _Counting:
    """A connection that counts the rows which are read through it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.count = 0

    def fetch(self, statement: Statement, *values: Any) -> list[tuple[Any, ...]]:
        found = self._connection.fetch(statement, *values)
        self.count += len(found)
        return found

    def stream(self, statement: Statement, *values: Any) -> Iterator[tuple[Any, ...]]:
        for row in self._connection.stream(statement, *values):
            self.count += 1
            yield row


def test_a_list_in_json_is_what_it_was_before_it_streamed(policyd):
    """Scripts compare it as text, too."""
    for line in ("mailbox list", "mailbox list nobody", "history"):
        text = policyd.run(f"{line} --json")
        assert text == json.dumps(json.loads(text), ensure_ascii=False, indent=1) + "\n"


def test_the_history_of_an_object_is_found_however_it_was_spelled(policyd):
    """What was called Straße, STRASSE and strasse is one object to people, and to every other command."""
    policyd.run("mailbox add Straße")
    policyd.run("mailbox rename straße STRASSE")
    for name in ("straße", "strasse", "STRASSE"):
        found = policyd.json(f"history --object {name}")
        assert [(each["operation"], each["object"]) for each in found] == [
            ("mailbox.add", "Straße"),
            ("mailbox.rename", "Straße"),
        ]
        assert policyd.json(f"history --object {name} --limit 1") == found[-1:]
    policyd.run("mailbox remove strasse")


@pytest.mark.parametrize("count", few([2000, 5000], 2000))
def test_a_table_costs_less_than_a_second_more_than_lines(count):
    """5 000 rows took fourteen seconds to be measured and drawn."""

    def seconds_of(call) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        call()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    with many_mailboxes(count) as policyd:
        piped = seconds_of(lambda: policyd.process("mailbox list"))
        assert seconds_of(lambda: shown_on_terminal(policyd, "mailbox list", columns=60)) < piped + count / 5000


LONG = "x" * 180


@pytest.mark.parametrize(
    ("line", "over"),
    [
        (f"mailbox restrict alice --reason {LONG}", 36),
        (f"group restrict staff --reason {LONG}", 36),
        (f"domain restrict example.org --reason {LONG}", 36),
        (f"sender block bob --reason {LONG}", 31),
    ],
)
def test_a_reason_that_the_reply_cuts_is_said_when_typed(line: str, over: int) -> None:
    """The sender reads a sentence without an end, and the administrator would never know."""
    with command_line() as policyd:
        fill(policyd)
        message = policyd.warns(line)
        assert message == (
            f'policyd: warning: a reply has room for 200 characters and would end with "{"x" * 21}..."; '
            f"shorten the reason by {over}"
        )
        fits = line.replace(LONG, "x" * (180 - over))
        assert policyd.ends(fits).err == ""


def test_letters_of_a_reason_count_as_they_are_sent() -> None:
    """An umlaut is two letters in a reply."""
    with command_line() as policyd:
        fill(policyd)
        assert policyd.ends(f"mailbox restrict alice --reason {'a' * 100}").err == ""
        assert "shorten the reason by" in policyd.warns(f"mailbox restrict alice --reason {'ä' * 100}")


def test_a_reply_of_ones_own_without_a_reason_cuts_none() -> None:
    """Nobody reads it there in any case."""
    with command_line() as policyd:
        fill(policyd)
        policyd.settings.write_text('[audit]\nsyslog = "none"\n[reply]\nrestricted-recipient = "No."\n')
        assert policyd.ends(f"mailbox restrict alice --reason {LONG}").err == ""


def test_reasons_that_replies_cut_are_counted_in_an_import() -> None:
    """One line, not one for each of a million."""
    with command_line() as policyd:
        fill(policyd)
        file = policyd.folder / "rows.csv"
        file.write_text(
            f"kind,name,sender,receive,reason\nmailbox,alice,,insiders,{LONG}\nmailbox,bob,,insiders,short\n"
            f"blocked,,alice,,{LONG}\n"
        )
        assert policyd.warns(f"import {file}") == (
            "policyd: reasons: senders read only a part of 2, for a reply has 200 characters"
        )


def fill(policyd: CommandLine) -> None:
    for line in ("domain add example.org", "mailbox add alice", "mailbox add bob", "group add staff alice"):
        policyd.run(line)

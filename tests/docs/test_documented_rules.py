"""The rules, texts, patterns, limits and waits in the pages are those of the code."""

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from policyd import reply, syslog
from policyd.daemon import child, prefork
from policyd.daemon.connection import Timeouts
from policyd.daemon.service import DRAIN_SECONDS
from policyd.model import Rule
from policyd.settings import Settings
from policyd.store import database, postgresql
from policyd.wire import ATTRIBUTES_LIMIT, REQUEST_LIMIT
from tests.docs.pages import ROOT, page, section, steps, table, words


def test_every_rule_is_in_the_table_in_the_order_of_judging() -> None:
    """The names are stable: logs, counters and scripts use them."""
    assert [row[1] for row in table("rules", "Order")] == [*Rule]


def test_answers_are_those_of_the_table() -> None:
    """A rule refuses if it has a text."""
    for _, rule, _, answer in table("rules", "Order"):
        assert answer == (f"REJECT {reply.STATUS[Rule(rule)]}" if rule in reply.DEFAULT_TEXTS else "DUNNO")


def test_reply_texts_are_those_of_the_table() -> None:
    """What senders read, unless the settings say otherwise."""
    assert table("rules", "Rule") == [
        [rule, f"{reply.STATUS[rule]} {text}"] for rule, text in reply.DEFAULT_TEXTS.items()
    ]


def test_patterns_of_the_table_are_in_normal_form(run: Callable[[str], Result]) -> None:
    """Each form can be typed as it stands."""
    run("domain add example.com")
    for pattern, _ in table("rules", "Pattern"):
        assert run(f"sender block '{pattern}' --to anyone").exit_code == 0, pattern


def test_limits_are_those_of_the_pages() -> None:
    """An administrator compares them with Postfix's own."""
    failing = words(section(page("troubleshooting"), "When something fails"))
    assert f"{REQUEST_LIMIT // 1024} KiB or {ATTRIBUTES_LIMIT} attributes" in failing
    assert f"nothing is asked for {Timeouts().idle_seconds} s" in failing
    assert f"a request takes {Timeouts().request_seconds} s" in failing
    assert f"answers are not read for {Timeouts().request_seconds} s" in failing
    assert f"more than {Settings().max_connections} connections" in failing
    assert f"{syslog.LINES:_} lines wait".replace("_", " ") in failing
    assert f"at most {reply.TEXT_LIMIT} characters" in words(page("rules"))


def test_stopping_takes_as_long_as_the_pages_say() -> None:
    """A supervisor's own wait must be longer, or it kills what still answers."""
    serving = words(section(section(page("commands"), "The daemon and its answers"), "serve"))
    assert f"after {DRAIN_SECONDS} s at most, with several workers after {prefork.STOP_SECONDS} s" in serving
    assert f"{prefork.STOP_SECONDS} s after SIGTERM" in words(page("audit"))
    service = (ROOT / "contrib/systemd/policyd.service").read_text(encoding="utf-8")
    assert f"gives them {prefork.STOP_SECONDS} seconds" in service
    assert int(service.partition("TimeoutStopSec=")[2].partition("s")[0]) > prefork.STOP_SECONDS


def test_workers_are_replaced_as_the_pages_say() -> None:
    """An administrator knows from it how long one that fails keeps mail waiting."""
    operations = words(page("operations"))
    assert f"after up to {child._LONGEST_WAIT_SECONDS:g} s where workers die again and again" in operations
    assert f"does that after {prefork.HUNG_SECONDS} s" in operations
    assert f"for {syslog.STUCK_SECONDS:g} seconds" in words(page("audit"))


def test_a_writer_waits_as_long_as_the_pages_say() -> None:
    """Two sections once gave two numbers, and one of them was wrong."""
    assert database._WRITER_WAIT_SECONDS == 600
    for name in ("import", "troubleshooting"):
        assert "ten minutes at most" in words(page(name))


def test_a_command_waits_for_a_server_as_long_as_the_page_says() -> None:
    """Whoever sees a command hang looks there before he kills it."""
    told = words(page("several-hosts"))
    for said in (
        f"{postgresql._BOUNDS['connect_timeout']} s for each host",
        f"ten minutes at most; after {postgresql._QUIET_WAIT_SECONDS:g} s it says so",
        f"locked in psql {postgresql._TABLE_WAIT_SECONDS:g} s",
        f"one statement {postgresql._CALL_SECONDS:g} s",
        f"{postgresql._TRIES} looks, half a second apart",
        f"has {postgresql._IDLE_SECONDS} s; then the server",
        f"many changes, have {postgresql._BULK_IDLE_SECONDS} s",
        f"after {postgresql._FOLLOWER_SECONDS:g} s for a host that follows",
    ):
        assert said in told, said
    assert (postgresql._WRITER_WAIT_SECONDS, postgresql._LOOK_SECONDS) == (600, 0.5)


def test_worked_examples_answer_as_they_show(run: Callable[[str], Result]) -> None:
    """Whoever tries them on tables of that company gets these answers."""
    Path("policyd.toml").write_text('origin = "example.com"\n[audit]\nsyslog = "none"\n')
    for line in ("domain add example.com", "mailbox add boss boss@example.com ceo@example.com"):
        assert run(line).exit_code == 0
    for name in ("bob", "board"):
        assert run(f"mailbox add {name} {name}@example.com").exit_code == 0
    examples = section(page("rules"), "Six examples")
    answers = 0
    for line, shown in steps(examples):
        command = line.removeprefix("policyd ").removesuffix(" | head -1")
        ended = run(command)
        if command.startswith("check"):
            assert ended.output.splitlines()[0] == shown, line
            answers += 1
        else:
            assert ended.exit_code == 0, f"{line}: {ended.output}"
    assert answers == 14

"""Hints that help: whoever types what other programs take is told, in the same line, what to type here."""

import itertools
import re

import click
import pytest

from policyd.cli import main
from policyd.cli.hints import command_hint, option_hint
from tests.support.command_line import command_line


@pytest.fixture
def policyd():
    """Commands on a database with a domain, a mailbox and a group."""
    with command_line(
        "domain add example.com",
        "mailbox add alice alice@example.com",
        'group add "All Staff" alice',
    ) as policyd:
        yield policyd


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("restrict alice", "policyd mailbox restrict"),
        ("unrestrict alice", "policyd mailbox lift"),
        ("mailbox unrestrict alice", "policyd mailbox lift"),
        ("help", "policyd --help"),
        ("help mailbox add", "policyd mailbox add --help"),
        ("mailbox help", "policyd mailbox --help"),
        ("mailbox help add", "policyd mailbox add --help"),
        ("mailbox delete alice", "policyd mailbox remove"),
        ("mailbox rm alice", "policyd mailbox remove"),
        ("delete alice", "policyd mailbox remove"),
        ("block @spam.example", "policyd sender block"),
        ("ban @spam.example", "policyd sender block"),
        ("block spam.example", "policyd sender block @spam.example"),
        ("unban spam.example", "policyd sender unblock @spam.example"),
        ("deny @spam.example", "policyd sender block"),
        ("unban @spam.example", "policyd sender unblock"),
        ("allow x@example.net", "policyd mailbox accept, or: policyd sender unblock"),
        ("whitelist x@example.net", "policyd mailbox accept, or: policyd sender unblock"),
        ("sender allow x@example.net", "policyd sender unblock, or: policyd mailbox accept"),
        ("sender remove @spam.example", "policyd sender unblock"),
        ("mailbox allow x@example.net", "policyd mailbox accept"),
        ("mailbox block alice", "policyd sender block"),
        ("domain open example.com", "policyd domain lift, or: policyd mailbox open"),
        ("ls", "policyd mailbox list, or: policyd sender list"),
        ("mailbox ls", "policyd mailbox list"),
        ("user add bob", "policyd mailbox add"),
        ("users", "policyd mailbox"),
        ("show bob", "policyd mailbox show, or: policyd sender show"),
        ("address show x@example.com", "policyd address find"),
        ("alias add x@example.com", "policyd address add"),
        ("group add-member staff bob", "policyd group join"),
        ("log", "policyd history"),
        ("rollback 4", "policyd undo"),
        ("database init", "policyd database create"),
        ("restrct alice", "policyd mailbox restrict"),
        ("mailbx list", "policyd mailbox"),
        ("mailbox lsit", "policyd mailbox list"),
        ("mailbox-add bob", "policyd mailbox add"),
        ("add mailbox bob", "policyd mailbox add"),
        ("show users", "policyd mailbox show"),
        ("list domains", "policyd domain list"),
        ("delete address x@example.com", "policyd address remove"),
        ("show address x@example.com", "policyd address find"),
        ("remove sender @spam.example", "policyd sender unblock"),
        ("alice@example.com", "policyd check alice@example.com"),
        ("mailbox alice show", "policyd mailbox show alice"),
        ("mailbox alice delete", "policyd mailbox remove alice"),
        ("group 'All Staff' members", "policyd group show 'all staff'"),
        ("domain example.com", "policyd domain show example.com"),
        ("address alice@example.com", "policyd address find alice@example.com"),
    ],
)
def test_wrong_command_names_the_right_one(policyd, typed, meant):
    """One line, and it ends as every wrong command does."""
    assert f"; type: {meant}. See: policyd" in policyd.refuses(typed, 2)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("mailbox restrict alice --allow x@example.net", "type: --accept"),
        ("sender block @spam.example --allow x@example.net", "type: --except"),
        ("sender block --from x@example.net", "who may not send stands first: policyd sender block SENDER"),
        ("sender block @spam.example --expires 3d", "type: --until"),
        ("mailbox restrict alice --message no", "type: --reason"),
        ("check --to alice@example.com", "type: --recipient"),
        ("check alice@example.com --from x@example.net", "type: --sender"),
        ("mailbox remove alice --force", "type: --yes"),
        ("import people.csv --test", "type: --dry-run"),
        ("--db x domain list", "type: --database"),
        ("-V", "type: --version"),
        ("mailbox restrict --to alice", "to whom mail is restricted stands first"),
        ("domain list --jsn", "type: --json"),
        ("--check alice@example.com", "type: policyd check"),
    ],
)
def test_wrong_option_names_the_right_one(policyd, typed, hint):
    """Those of other programs, and slips of a key."""
    assert f"'; {hint}" in policyd.refuses(typed, 2)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("check joe@example.net alice@example.com", "type: policyd check RECIPIENT --sender SENDER"),
        ("check sender=joe@example.net recipient=alice@example.com", "type: --recipient"),
        ("why Nov 26 10:00:00 mx policyd[7]: action=REJECT", "a line of the log is one word, in quotes"),
        ("undo 1 2", "changesets are taken back one at a time, the last one first"),
        ("export people.csv", "type: policyd export -o FILE"),
        ("export csv", "type: --format csv"),
        ("doctor /etc/postfix", "Postfix's folder stands behind --postfix-config"),
        ("top 5", "the seconds between two looks stand behind --interval"),
        ("serve 10040", "where it listens stands behind --listen, as in: --listen tcp:10040"),
        ("database create x.db", "which database is meant stands behind --database"),
        ("mailbox show alice bob", "one at a time"),
        ("mailbox list alice bob", "a list is narrowed by one text"),
        ("mailbox rename alice to alicia", "type: policyd mailbox rename alice alicia"),
        ("group rename 'All Staff' to Staff", "type: policyd group rename 'All Staff' Staff"),
        ("domain add x.example accept", "type: --unlisted accept"),
        ("domain set example.com alias x.example", "type: --alias-of"),
        ("mailbox set alice comment --comment x", "type: --comment"),
    ],
)
def test_word_too_many_is_told_what_is_meant(policyd, typed, hint):
    """Whoever types it means something, and mostly there is one thing that he can mean."""
    assert f"; {hint}" in policyd.refuses(typed, 2)


EACH = "--accept a@x.example --accept b@x.example"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("sender block alice to anyone", "there is no mailbox to; type: --to"),
        ("mailbox restrict alice nobody", "there is no mailbox nobody; type: --receive nobody"),
        ("mailbox restrict alice accept x@y.example", "there is no mailbox accept; type: --accept"),
        (
            "mailbox restrict alice --reason left the company --until +3d",
            "there is no mailbox the; several words are one text in quotes; type: --reason 'left the company'",
        ),
        (
            "mailbox restrict alice --accept a@x.example b@x.example",
            f"b@x.example is no mailbox's address; --accept stands in front of each; type: {EACH}",
        ),
        ("sender block group 'All Staff'", "there is no mailbox group; a group is written 'group:All Staff'"),
    ],
)
def test_word_that_is_no_mailbox_is_told_what_else_is_meant(policyd, typed, told):
    """A word is taken for a mailbox where any number of those may stand."""
    assert policyd.refuses(typed) == f"policyd: {told}"


def test_word_that_is_a_mailbox_is_one(policyd):
    """Whatever it is called: a hint is for what is wrong."""
    policyd.run("mailbox add nobody")
    policyd.run("mailbox restrict nobody")
    assert "see: policyd mailbox list" in policyd.refuses("mailbox restrict bob --reason left")


@pytest.mark.parametrize("typed", ["--help mailbox add", "mailbox --help add", "-h mailbox add", "mailbox add --help"])
def test_help_in_front_of_a_command_is_that_of_the_command(policyd, typed):
    """A page about everything says nothing about it."""
    assert policyd.run(typed) == policyd.run("mailbox add -h")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("'<alice@example.com>'", "type it without < and >"),
        ("'Alice <alice@example.com>'", "type it without the name in front, and without < and >: alice@example.com"),
        ("mailto:alice@example.com", "type it without mailto: in front"),
        ("SMTP:alice@example.com", "type it without SMTP: in front"),
        ("alice@example.com,", "type it without the , at its end"),
        ("'alice@example.com;'", "type it without the ; at its end"),
        ("alice@example.com --sender '<joe@example.net>'", "type it without < and >"),
    ],
)
def test_check_does_not_answer_for_what_was_copied_with_an_address(policyd, typed, told):
    """DUNNO for a domain `example.com>` is no answer to the question."""
    assert f": {told}. See: policyd check" in policyd.refuses(f"check {typed}", 2)


def test_check_answers_for_the_null_sender_and_a_trailing_dot(policyd):
    """As Postfix takes them."""
    policyd.run("check alice@example.com. --sender '<>'")


@pytest.mark.parametrize("typed", ["bogus", "mailbox bogus", "mailbox list --all", "mailbox restrict alice --xyz"])
def test_where_nobody_knows_nothing_is_guessed(policyd, typed):
    """`--to` is no slip for `--json`, and a wrong guess is worse than none."""
    assert "type:" not in policyd.refuses(typed, 2)


def test_no_hint_undoes_what_was_meant():
    """Who types `unrestrict` must not be sent to `restrict`, whatever the words have in common."""
    context = click.Context(main)
    for noun in (None, "mailbox", "group", "domain", "sender"):
        command = main if noun is None else main.get_command(context, noun)
        assert isinstance(command, click.Group)
        known = command.list_commands(context)
        for word in ("unrestrict", "unlift", "unopn", "unacept", "unblok", "unexept", "unlimit"):
            hint = command_hint((noun,) if noun else (), word, [], known)
            words = set(re.findall(r"[a-z]+", hint))
            assert not words & {"restrict", "accept", "except"}, (noun, word, hint)
            assert "block" not in words or word == "unblok", (noun, word, hint)


def test_every_hint_names_a_command_that_there_is():
    """A hint that leads to the next error is none."""
    from policyd.cli import hints

    context = click.Context(main)
    typed = {
        *itertools.chain.from_iterable(each.split() for each in hints._VERBS.values()),
        *itertools.chain.from_iterable(each.split() for each in hints._NOUNS.values()),
        *hints._VERBS,
    }
    for path in ((), *((noun,) for noun in main.list_commands(context))):
        command = main.get_command(context, path[0]) if path else main
        if not isinstance(command, click.Group):
            continue
        for word in typed - set(command.list_commands(context)):
            hint = command_hint(path, word, [], command.list_commands(context))
            for line in re.findall(r"policyd ([a-z ]+)", hint.replace("systemctl status policyd", "")):
                noun, *verb = line.split()
                found = main.get_command(context, noun)
                assert found is not None, (path, word, hint)
                if verb and isinstance(found, click.Group):
                    assert verb[0] in found.list_commands(context), (path, word, hint)


def test_every_hint_for_an_option_names_one_of_the_command():
    """For each command, whatever word of another program is typed."""
    from policyd.cli import hints

    words = {*itertools.chain.from_iterable(each.split() for each in hints._OPTIONS.values())}
    for option in words:
        hint = option_hint("block", option, ["--to", "--except", "--reason"])
        assert set(re.findall(r"--[a-z-]+", hint)) <= {"--to", "--except", "--except-sender", "--reason"}


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("sender block alice --to internet", "every recipient in a domain that is not managed is written outside"),
        ("sender block alice --to everybody", "everybody is written anyone"),
        ("sender block '*'", "everybody is written anyone"),
        ("sender block spam.example", "the domain is written @spam.example,"),
        ("sender block alice --to bücher.example", "the domain is written @xn--bcher-kva.example,"),
        ("sender block 'All Staff'", "the group is written 'group:All Staff',"),
        ("mailbox restrict 'all staff'", "has its own commands: policyd group"),
        ("mailbox restrict example.com", "has its own commands: policyd domain"),
        ("group restrict alice", "the mailbox has its own commands: policyd mailbox"),
    ],
)
def test_name_of_something_else_is_told_how_it_is_written(policyd, typed, hint):
    """What is missing is often there, as another kind of thing."""
    assert hint in policyd.refuses(typed)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("mailbox restrict alice --accept anyone", "policyd mailbox open NAME, or: policyd mailbox lift NAME"),
        ("mailbox accept alice outside", "policyd mailbox open NAME, or: policyd mailbox lift NAME"),
        ("group accept 'All Staff' anyone", "to let anyone send: policyd group lift NAME"),
        ("domain restrict example.com --accept Anyone", "to let anyone send: policyd domain lift NAME"),
        ("mailbox restrict alice --receive anyone", "policyd mailbox open NAME, or: policyd mailbox lift NAME"),
        ("domain restrict example.com --receive internet", "to let anyone send: policyd domain lift NAME"),
        ("mailbox restrict @example.com", "policyd domain --help"),
        ("mailbox show group:staff", "policyd group --help"),
        ("mailbox add carol@example.com", "type: policyd mailbox add carol carol@example.com"),
    ],
)
def test_word_in_the_wrong_place_is_told_the_right_command(policyd, typed, hint):
    """Who restricts to anyone means to open."""
    assert hint in policyd.refuses(typed, 2)

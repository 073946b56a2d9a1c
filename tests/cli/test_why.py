"""`policyd why`: who set what refused a mail, when, what has changed since, and how it would be answered now."""

import json
import os
import shlex
import time
from datetime import datetime

import pytest

from policyd.timestamps import show_local
from tests.support.command_line import command_line
from tests.support.kept_log import KeptLog

JOE = "joe@example.net"
DAY = 86400


@pytest.fixture
def policyd():
    """A company whose tables were made two days ago."""
    with command_line(
        "domain add example.com",
        "mailbox add bob bob@example.com",
        "mailbox add carol carol@example.com",
        "group add staff bob",
    ) as policyd:
        yield policyd


@pytest.fixture
def log(policyd):
    """Its mail log."""
    return KeptLog(policyd)


def long_ago(policyd, days=1):
    """Let so many days pass: the journal was written before them, and ends are nearer."""
    policyd.rows(f"UPDATE change SET at = at - {days * DAY}")


def why(policyd, log, asked):
    """The one explanation."""
    (told,) = policyd.json(f"why {shlex.quote(asked)} --log {log.file}")
    return told


SET_BY = {
    "a mailbox's restriction": (
        ["mailbox restrict bob --reason 'internal mailbox'"],
        "mailbox bob received from insiders",
        'mailbox bob: receive inherit -> insiders, reason "" -> "internal mailbox"',
    ),
    "a group's": (
        ["group restrict staff --receive nobody"],
        "group:staff received from nobody",
        "group staff: receive anyone -> nobody",
    ),
    "a domain's": (
        ["domain restrict example.com --receive domain"],
        "domain example.com received from its own domains",
        "domain example.com: receive anyone -> domain",
    ),
    "a blocked sender": (
        ["sender block joe@example.net --to bob --reason 'no more'"],
        "entry 1: joe@example.net could not send to bob",
        'blocked sender joe@example.net to bob: added: reason "no more"',
    ),
    "an address that was taken away": (
        ["address remove bob@example.com"],
        "bob@example.com was no mailbox's address, and example.com rejects such",
        "address bob@example.com: removed",
    ),
    "a restriction that was changed before": (
        [
            "mailbox restrict bob --reason one",
            "mailbox restrict bob --reason two",
            "mailbox accept bob @partner.example",
        ],
        "mailbox bob received from insiders",
        "mailbox bob: reason one -> two",
    ),
    "a mailbox that was renamed before": (
        ["mailbox restrict bob", "mailbox rename bob Robert"],
        "mailbox Robert received from insiders",
        "mailbox bob: receive inherit -> insiders",
    ),
}


@pytest.mark.parametrize(("lines", "because", "words"), SET_BY.values(), ids=SET_BY)
def test_change_that_set_what_refused_it_is_found(policyd, log, lines, because, words):
    """Who did it, and when, is the first thing that one asks."""
    for line in lines:
        policyd.run(line)
    long_ago(policyd)
    told = why(policyd, log, log.ask("bob@example.com", JOE, time.time()))
    assert (told["because"], told["set_by"]["words"]) == (because, words)
    assert told["set_by"]["actor"] == "root"
    assert told["set_by"]["at"] == pytest.approx(time.time() - DAY, abs=60)
    assert (told["since"], told["ended"], told["now"]["action"]) == ([], None, "REJECT")


def test_unlisted_address_that_there_never_was_is_the_domains(policyd, log):
    """Nobody took it away: its domain says what happens to such."""
    told = why(policyd, log, log.ask("info@example.com", JOE, time.time() + 1))
    assert told["set_by"]["words"] == "domain example.com: added: unlisted reject"


def test_change_by_an_import_is_found(policyd, log):
    """The log has one line for the whole import; the journal has each row."""
    rows = '{"kind": "mailbox", "name": "bob", "receive": "nobody"}\n'
    policyd.ends("import - --format jsonl", stdin=rows)
    long_ago(policyd)
    told = why(policyd, log, log.ask("bob@example.com", JOE, time.time()))
    assert told["set_by"]["operation"] == "mailbox.import"


SINCE = {
    "lifted": (["mailbox lift bob"], ["mailbox bob: receive insiders -> inherit"], "DUNNO"),
    "accepted": (
        ["mailbox accept bob joe@example.net"],
        ['mailbox bob: accept "" -> joe@example.net'],
        "DUNNO",
    ),
    "undone": (["undo 8"], ["mailbox bob: receive insiders -> inherit"], "DUNNO"),
    "renamed": (["mailbox rename bob rob"], ["mailbox bob: name bob -> rob"], "REJECT"),
    "given to another": (
        ["address remove bob@example.com", "address add carol bob@example.com"],
        ["address bob@example.com: removed", "address bob@example.com: added: mailbox carol, is_primary no"],
        "DUNNO",
    ),
    "removed": (["mailbox remove bob --yes"], None, "REJECT"),
    "another mailbox": (["mailbox restrict carol"], [], "REJECT"),
}


@pytest.mark.parametrize(("lines", "changes", "now"), SINCE.values(), ids=SINCE)
def test_what_has_changed_since_is_told(policyd, log, lines, changes, now):
    """Whoever complains today may write again already."""
    policyd.run("mailbox restrict bob")
    long_ago(policyd)
    line = log.ask("bob@example.com", JOE, time.time() - DAY / 2)
    for each in lines:
        policyd.run(each)
    told = why(policyd, log, line)
    words = [each["words"] for each in told["since"]]
    if changes is None:
        assert "mailbox bob: removed" in words
    elif lines[0].startswith("address remove"):
        assert [each.partition(",")[0] for each in words] == [each.partition(",")[0] for each in changes]
    else:
        assert words == changes
    assert told["now"]["action"] == now


def test_entry_that_was_removed_since_is_found_by_its_number(policyd, log):
    """The line has only the number, and the table has the entry no more."""
    policyd.run("sender block @example.net --to bob")
    long_ago(policyd)
    line = log.ask("bob@example.com", JOE, time.time() - 60)
    policyd.run("sender unblock @example.net")
    told = why(policyd, log, line)
    assert told["because"] == "entry 1: @example.net could not send to bob"
    assert [each["operation"] for each in told["since"]] == ["sender.unblock"]


def test_member_that_left_the_group_is_told(policyd, log):
    """The group restricts as before; the mailbox is in it no more."""
    policyd.run("group restrict staff")
    long_ago(policyd)
    line = log.ask("bob@example.com", JOE, time.time() - 60)
    policyd.run("group leave staff bob")
    told = why(policyd, log, line)
    assert [each["words"] for each in told["since"]] == ["group staff: bob left"]
    assert told["now"]["action"] == "DUNNO"


@pytest.mark.file_only("JSON is changed by SQLite's own function")
def test_end_that_has_passed_is_told(policyd, log):
    """Nothing was changed, and the mail passes today."""
    policyd.run("mailbox restrict bob --until +1d")
    line = log.ask("bob@example.com", JOE, time.time())
    until = int(time.time()) - 5
    for table, column in (("mailbox", "until"), ("change", "after")):
        value = until if table == "mailbox" else f"""json_set("after", '$.until', {until})"""
        where = "WHERE name = 'bob'" if table == "mailbox" else "WHERE operation = 'mailbox.restrict'"
        policyd.rows(f'UPDATE {table} SET "{column}" = {value} {where}')
    told = why(policyd, log, line)
    assert (told["ended"], told["since"], told["now"]["action"]) == (until, [], "DUNNO")


def test_mail_that_was_let_through_is_told_so(policyd, log):
    """A complaint about policyd may be one about somebody else."""
    told = why(policyd, log, log.ask("bob@example.com", JOE, time.time()))
    assert (told["because"], told["set_by"]) == ("nothing refused it: rule default", None)


def test_journal_that_has_it_not_says_so(policyd, log):
    """The line is of another host's database."""
    policyd.run("mailbox restrict bob --reason here")
    line = log.ask("bob@example.com", JOE, time.time()).replace("here", "elsewhere")
    assert why(policyd, log, line)["set_by"] is None
    assert "  the journal has no change that set it: " in policyd.run(f"why {shlex.quote(line)}")


# --- How a mail is found ---


@pytest.fixture
def refused(policyd, log):
    """A message to three people, whose queue id came with the second recipient; and others."""
    policyd.run("mailbox restrict bob")
    now = time.time()
    log.ask("bob@example.com", "other@example.net", now, instance="other")
    log.ask("bob@example.com", JOE, now, instance="a1.2")
    log.ask("carol@example.com", JOE, now, instance="a1.2")
    log.ask("nobody@example.com", JOE, now, instance="a1.2", queue_id="4XyZ0B1cJ2z9")
    log.ask("bob@example.com", JOE, now, instance="a1.2", queue_id="4XyZ0B1cJ2z9")  # a second time
    return now


@pytest.mark.parametrize("asked", ["4XyZ0B1cJ2z9", "a1.2"])
@pytest.mark.usefixtures("refused")
def test_each_refused_recipient_of_a_message_is_told_once(policyd, log, asked):
    """A message has many recipients, and the first was asked about before it had a queue id."""
    told = policyd.json(f"why {asked} --log {log.file}")
    assert [each["recipient"] for each in told] == ["bob@example.com", "nobody@example.com"]


@pytest.mark.usefixtures("refused")
def test_message_of_which_nothing_was_refused_is_told_by_its_last_line(policyd, log):
    """It was asked about, and let through."""
    log.ask("carol@example.com", JOE, time.time(), times=2, queue_id="3F00BA")
    (told,) = policyd.json(f"why 3F00BA --log {log.file}")
    assert (told["recipient"], told["action"]) == ("carol@example.com", "DUNNO")


def test_queue_id_that_came_again_is_each_of_its_messages(policyd, log):
    """Short queue ids are used again after some time."""
    policyd.run("mailbox restrict bob")
    for number, at in enumerate([time.time() - DAY, time.time()]):
        log.ask("bob@example.com", JOE, at, instance=f"i{number}", queue_id="3F00BA")
    assert len(policyd.json(f"why 3F00BA --log {log.file}")) == 2


def test_mail_of_last_week_is_found_in_the_rotated_log(policyd, log):
    """Who complains does so a week later."""
    policyd.run("mailbox restrict bob")
    log.ask("bob@example.com", JOE, time.time() - DAY, queue_id="3F00BA")
    log.file.rename(log.file.with_name("mail.log.1"))
    log.ask("bob@example.com", JOE, time.time(), queue_id="3F00BB")
    assert len(policyd.json(f"why 3F00BA --log {log.file}")) == 1


@pytest.mark.usefixtures("refused")
def test_line_of_smtpd_is_found_by_what_it_says(policyd, log, refused):
    """It is what stands in the log beside `reject:`, and what people send."""
    line = (
        f"{datetime.fromtimestamp(refused).astimezone().isoformat()} mx postfix/smtpd[7]: NOQUEUE: reject: RCPT from "
        "mx.example.net[203.0.113.7]: 554 5.7.1 <bob@example.com>: Recipient address rejected: This mailbox does not "
        "take mail from this sender; from=<other@example.net> to=<bob@example.com> proto=ESMTP helo=<x>"
    )
    assert why(policyd, log, line)["sender"] == "other@example.net"


@pytest.mark.usefixtures("refused")
def test_line_of_a_report_is_found_by_what_it_says(policyd, log):
    """`report` leads to `why`."""
    asked = policyd.json(f"report {log.file}")["refused"]
    told = {why(policyd, log, f"    asked: {each['asked']}")["sender"] for each in asked}
    assert told == {"other@example.net", JOE}


def test_line_needs_no_log(policyd, log):
    """On another host than the log is on; by stdin, where the shell would take its quotes."""
    policyd.run("mailbox restrict bob --reason 'a, \"b\"'")
    line = log.ask("bob@example.com", JOE, time.time())
    log.file.unlink()
    ended = policyd.ends("--json why -", stdin=f"x\n{line}\ny\n")
    assert json.loads(ended.out)[0]["reason"] == 'a, "b"'


def test_explanation_for_a_person(policyd, log):
    """Sentences, in the order in which one asks."""
    policyd.run("mailbox restrict bob --reason 'internal mailbox'")
    line = log.ask("bob@example.com", JOE, time.time())
    policyd.run("mailbox lift bob")
    lines = policyd.run(f"why {shlex.quote(line)}").splitlines()
    changed = [show_local(at) for (at,) in policyd.rows("SELECT at FROM change ORDER BY id")]
    asked = show_local(policyd.json(f"why {shlex.quote(line)}")[0]["at"])
    text = "5.7.1 This mailbox does not take mail from this sender: internal mailbox"
    was = 'receive inherit -> insiders, reason "" -> "internal mailbox"'
    became = 'receive insiders -> inherit, reason "internal mailbox" -> ""'
    assert lines == [
        f"{asked}: REJECT {text}",
        "  from joe@example.net, client mx.example.net[203.0.113.7], to bob@example.com",
        "  rule restricted-recipient: mailbox bob received from insiders",
        f"  set {changed[-2]} by root: mailbox bob: {was} (change 8, mailbox.restrict)",
        f"  since then: {changed[-1]} by root: mailbox bob: {became} (change 9, mailbox.lift)",
        "  asked now: DUNNO",
        "    sender joe@example.net: no mailbox",
        "    client 203.0.113.7: not an insider",
        "    recipient bob@example.com: mailbox bob (exact)",
        "    mailbox bob: receives from anyone",
        "    rule: default",
    ]


WRONG = {
    "an id that is not there": (
        "4ABCDEF",
        1,
        "policyd: {log}: no line of policyd about 4ABCDEF; --log names another log",
    ),
    "no id and no line": (
        "'what now?'",
        65,
        "policyd: this is neither a queue id nor a line of the audit, of a report, or of smtpd about a refusal; ",
    ),
    "a line about a change": (
        "'change=1, actor=root'",
        65,
        "policyd: this line of the audit is about a change of the tables; one about a request begins with action=",
    ),
    "a line that was cut off": (
        "'action=REJECT, rule=default'",
        65,
        "policyd: this line of the audit is not whole: it has not the fields of a decision",
    ),
    "two lines": (
        "'action=a\naction=b'",
        65,
        "policyd: these are 2 lines of the audit; give one of them",
    ),
    "no log": (
        "4ABCDEF --log nothing.log",
        2,
        "policyd: Invalid value for '--log': File 'nothing.log' does not exist. ",
    ),
}


@pytest.mark.parametrize(("asked", "status", "message"), WRONG.values(), ids=WRONG)
def test_mistake_is_told_in_a_line(policyd, log, asked, status, message):
    """What is wrong, and nothing else."""
    log.ask("bob@example.com", JOE, time.time())
    told = policyd.refuses(f"why {asked}{'' if '--log' in asked else f' --log {log.file}'}", status)
    assert told.startswith(message.format(log=log.file))


def test_nobodys_bytes_make_it_fail(policyd, log):
    """A line with whatever in it is read, or refused in a line."""
    for junk in [b"\xff\x00\x1b action=\xff", os.urandom(2000), b"{" * 5000, b"asked: state=" + b"\xff" * 100]:
        ended = policyd.ends(f"why - --log {log.file}", stdin=junk)
        assert ended.status in (1, 2, 65)
        assert len(ended.err.splitlines()) == 1

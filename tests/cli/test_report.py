"""`policyd report`: a week of the log, with what was, or would have been, refused by mistake first."""

import json
import shlex
import time

import pytest

from tests.support.command_line import command_line
from tests.support.kept_log import KeptLog

ASKED = (
    "state=RCPT, client=mx.example.net[203.0.113.7], sender=<joe@example.net>, "
    "recipient=<bob@example.com>, login=, context="
)
HOUR, DAY = 3600, 86400
NOW = int(time.time())
WEEK = NOW - 7 * DAY


@pytest.fixture
def policyd():
    """A company that watches before it refuses."""
    with command_line(
        "domain add example.com",
        "domain add lists.example --unlisted accept",
        "domain restrict lists.example",
        "mailbox add bob bob@example.com bob.jones@example.com",
        "mailbox add carol carol@example.com",
        "mailbox add 'Dora D' dora@example.com",
        "mailbox add info info@example.com",
        "group add staff carol",
        "mailbox restrict bob --reason 'internal mailbox'",
        "group restrict staff --receive nobody",
        "sender block 'Dora D' --to outside --reason 'left the company'",
        "sender block carol --to bob",
        "sender block @spam.example --to bob@example.com --until +3d",
        "sender block nobody@",
    ) as policyd:
        policyd.settings.write_text('mode = "monitor"\norigin = "example.com"\n[audit]\nsyslog = "none"\n')
        yield policyd


@pytest.fixture
def log(policyd):
    """Its mail log."""
    return KeptLog(policyd)


def report(policyd, log, more=""):
    """What is reported, as JSON."""
    return policyd.json(f"report {log.file} {more}")


def test_what_would_be_refused_is_told_with_how_often_and_what_for(policyd, log):
    """Who watches for a week sees what it would have cost."""
    log.ask("bob@example.com", "joe@example.net", WEEK, times=3)
    last = log.ask("bob.jones@example.com", "joe@example.net", WEEK + HOUR)
    (refused,) = report(policyd, log)["refused"]
    assert refused == {
        "count": 4,
        "would_be_refused": 4,
        "refused": 0,
        "first": WEEK,
        "last": WEEK + HOUR,
        "sender": "joe@example.net",
        "login": "",
        "recipient": "bob.jones@example.com",
        "text": "5.7.1 This mailbox does not take mail from this sender: internal mailbox",
        "asked": ASKED.replace("bob", "bob.jones"),
        "rule": "restricted-recipient",
        "entry": None,
        "by": "mailbox",
        "mailbox": "bob",
        "likely_wrong": [],
        "now": "REJECT",
        "command": "policyd mailbox accept bob joe@example.net",
        "remark": None,
    }
    assert policyd.ends("check -", stdin=last).out == policyd.ends("check -", stdin=refused["asked"]).out


CASES = {
    "a mailbox": ({"recipient": "bob@example.com", "sender": "joe@example.net"}, "mailbox accept bob joe@example.net"),
    "the null sender": ({"recipient": "bob@example.com", "sender": ""}, "mailbox accept bob '<>'"),
    "a group": (
        {"recipient": "carol@example.com", "sender": "joe@example.net"},
        "mailbox accept carol joe@example.net",
    ),
    "a group, from a login": (
        {"recipient": "carol@example.com", "sender": "info@example.com", "sasl_username": "info"},
        "mailbox accept carol info",
    ),
    "a group, from a login that is no mailbox's": (
        {"recipient": "carol@example.com", "sender": "x@example.net", "sasl_username": "ext@partner.example"},
        "mailbox accept carol ext@partner.example",
    ),
    "a domain": (
        {"recipient": "any@lists.example", "sender": "joe@example.net"},
        "domain accept lists.example joe@example.net",
    ),
    "a sender that nobody proves": ({"recipient": "bob@example.com", "sender": "info@example.com"}, "mailbox open bob"),
    "a sender that needs quotes": (
        {"recipient": "bob@example.com", "sender": "o'joe x@example.net"},
        """mailbox accept bob '"o'"'"'joe x"@example.net'""",
    ),
    "a sender that looks like an option": (
        {"recipient": "bob@example.com", "sender": "-x@example.net"},
        "mailbox accept -- bob -x@example.net",
    ),
    "a blocked mailbox to outside": (
        {"recipient": "joe@example.net", "sender": "dora@example.com"},
        "sender except --to outside 'Dora D' joe@example.net",
    ),
    "a blocked mailbox to a mailbox": (
        {"recipient": "bob@example.com", "sender": "carol@example.com", "sasl_username": "carol"},
        "sender unblock --to bob carol",
    ),
    "an unlisted address near a listed one": (
        {"recipient": "innfo@example.com", "sender": "joe@example.net"},
        "address add info innfo@example.com",
    ),
    "an unlisted address": (
        {"recipient": "sales@example.com", "sender": "joe@example.net"},
        "mailbox add sales sales@example.com",
    ),
    "an unlisted address with an extension": (
        {"recipient": "inf+x@example.com", "sender": "joe@example.net"},
        "address add info inf@example.com",
    ),
}


@pytest.mark.parametrize(("request_", "command"), CASES.values(), ids=CASES)
def test_command_that_is_told_lets_the_mail_through(policyd, log, request_, command):
    """Typed as it stands, whoever sends what to whom."""
    log.ask(**request_, at=WEEK)
    told = report(policyd, log)
    (each,) = told["refused"] + told["unlisted"]
    assert each["command"] == f"policyd {command}"
    assert policyd.ends("check -", stdin=f"  asked: {each['asked']}\n").out.startswith("DUNNO")
    assert "mode monitor: would be REJECT" in policyd.ends("check -", stdin=each["asked"]).out
    policyd.run(shlex.join(shlex.split(each["command"])[1:]))
    assert "would be REJECT" not in policyd.ends("check -", stdin=each["asked"]).out
    told = report(policyd, log)
    (each,) = told["refused"] + told["unlisted"]
    assert (each["now"], each["command"]) == ("DUNNO", None)


SIGNS = {
    "it came with a login": [
        ("carol@example.com", "info@example.com", {"sasl_username": "info", "client_address": "198.51.100.9"})
    ],
    "the mailbox has written to this sender": [
        ("joe@example.net", "bob.jones@example.com", {"sasl_username": "bob", "client_address": "198.51.100.9"}),
        ("bob@example.com", "JOE@example.net", {}),
    ],
    "somebody logs in from this client": [
        ("joe@example.net", "info@example.com", {"sasl_username": "info", "client_address": "198.51.100.9"}),
        ("bob@example.com", "scanner@example.net", {"client_address": "198.51.100.9"}),
    ],
    "the client has an address of a private network": [
        ("bob@example.com", "scanner@example.net", {"client_address": "192.168.7.7"})
    ],
}


@pytest.mark.parametrize(("sign", "asked"), SIGNS.items(), ids=SIGNS)
def test_likely_mistakes_stand_first(policyd, log, sign, asked):
    """Who would miss a letter is not looked for among a thousand others."""
    log.ask("bob@example.com", "spam@bulk.example", WEEK, times=5)
    for recipient, sender, more in asked:
        log.ask(recipient, sender, WEEK, **more)
    first, second = report(policyd, log)["refused"]
    assert (first["likely_wrong"], first["count"]) == ([sign], 1)
    assert (second["likely_wrong"], second["count"]) == ([], 5)


def test_sender_that_was_let_through_before_is_a_likely_mistake(policyd, log):
    """A restriction that is new surprises those who wrote all the time."""
    log.ask("info@example.com", "joe@example.net", WEEK)
    policyd.run("mailbox restrict info")
    log.ask("info@example.com", "joe@example.net", WEEK + HOUR)
    (refused,) = report(policyd, log)["refused"]
    assert refused["likely_wrong"] == ["this sender was let through before"]


def test_unlisted_addresses_are_told_with_the_nearest_listed_one(policyd, log):
    """A slip of the key, dots, another domain; what is like nothing has no nearest one."""
    for recipient in ["ifno@example.com", "bobjones@example.com", "dorra@example.com", "xyz@example.com"]:
        log.ask(recipient, "joe@example.net", WEEK)
    policyd.run("domain add old.example")
    log.ask("info@old.example", "joe@example.net", WEEK, times=2)
    told = {each["recipient"]: each["nearest"] for each in report(policyd, log)["unlisted"]}
    assert told == {
        "info@old.example": "info@example.com",
        "ifno@example.com": "info@example.com",
        "bobjones@example.com": "bob.jones@example.com",
        "dorra@example.com": "dora@example.com",
        "xyz@example.com": None,
    }
    assert next(iter(told)) == "info@old.example"  # which was asked for most


def test_client_that_guesses_addresses_is_told_apart(policyd, log):
    """A dictionary attack hides the slip of the key in a thousand names."""
    for number in range(20):
        log.ask(f"guess{number}@example.com", "x@bulk.example", WEEK, client_address="198.51.100.1")
    log.ask("ifno@example.com", "joe@example.net", WEEK)
    told = report(policyd, log)
    assert [(each["client"], each["count"]) for each in told["guessing"]] == [("198.51.100.1", 20)]
    assert [each["recipient"] for each in told["unlisted"]] == ["ifno@example.com"]
    assert told["unlisted_questions"] == 21


def test_insiders_by_network_alone_are_told(policyd, log):
    """Printers and scanners, and the proxy that makes everybody an insider."""
    log.ask(
        "bob@example.com", "printer@example.com", WEEK, times=2, client_address="127.0.0.1", policy_context="inbound"
    )
    log.ask("bob@example.com", "", WEEK, sasl_username="info", policy_context="submission")
    told = report(policyd, log)
    assert told["insiders_by_network"] == [{"client": "127.0.0.1", "count": 2, "last_sender": "printer@example.com"}]
    assert told["contexts"] == [
        {"context": "inbound", "questions": 2, "by_login": 0, "by_network": 2, "outsiders": 0},
        {"context": "submission", "questions": 1, "by_login": 1, "by_network": 0, "outsiders": 0},
    ]


def test_entries_that_tried_that_never_matched_and_that_end(policyd, log):
    """What nobody needs any more is found by those that did nothing in the period."""
    policyd.run("mailbox restrict info --until +8d")
    policyd.run("mailbox restrict carol --until +2d")
    policyd.rows(f"UPDATE blocked_sender SET until = {NOW - DAY} WHERE pattern = 'nobody@'")
    log.ask("joe@example.net", "dora@example.com", WEEK, times=2)
    told = report(policyd, log)
    (tried,) = told["blocked_senders"]
    assert (tried["entry"], tried["sender"], tried["to"], tried["count"]) == (1, "Dora D", "outside", 2)
    assert [each["what"] for each in told["never_matched"]] == ["carol to bob", "@spam.example to bob@example.com"]
    assert [each["what"] for each in told["ended"]] == ["nobody@ to anyone"]
    assert [each["what"] for each in told["ending"]] == ["@spam.example to bob@example.com", "mailbox carol"]


def test_changes_of_the_period_are_told(policyd, log):
    """Whether a change made the difference is the first thing that one asks."""
    log.ask("bob@example.com", "joe@example.net", WEEK)
    policyd.run("mailbox add x x@example.com y@example.com")
    log.ask("bob@example.com", "joe@example.net", time.time() + 1)
    told = report(policyd, log)["changes"]
    assert (told[0]["operation"], told[0]["object"], told[0]["changes"]) == ("mailbox.add", "x", 3)


def test_period_gaps_and_the_daemon_are_told(policyd, log):
    """Restarts, hang-ups, lines that syslog did not take, and the hours in which nobody asked."""
    begin = WEEK - WEEK % HOUR
    log.ask("bob@example.com", "joe@example.net", begin)
    log.ask("bob@example.com", "joe@example.net", begin + 5 * HOUR)
    for line in [
        "event=started, version=0.1.0, audit.format=text",
        "warning=\"hung up: a line without '='\", peer=unix",
        'warning="hung up: the database can\'t be read", peer=unix',
        'warning="syslog took no lines for a while", dropped=12',
        "change=1, actor=root, operation=mailbox.lift, object=bob, changeset=1, changed=x",
        "action=DUNNO, rule=default, entry=, sta",
    ]:
        log.write(line, begin + HOUR)
    told = report(policyd, log)
    names = ("questions", "lines_of_policyd", "not_understood", "lost", "starts", "hung_up", "first", "last")
    assert [told[name] for name in names] == [2, 8, 1, 12, 1, 2, begin, begin + 5 * HOUR]
    assert told["hours_without_questions"] == [{"from": begin + HOUR, "to": begin + 5 * HOUR}]


def test_question_that_is_asked_twice_counts_once(policyd, log):
    """Where the check stands in two lists, policyd's counters would be doubled."""
    log.ask("bob@example.com", "joe@example.net", WEEK, times=2, instance="same")
    log.ask("carol@example.com", "joe@example.net", WEEK, instance="same")
    told = report(policyd, log)
    assert (told["questions"], told["asked_twice"]) == (2, 1)


def test_what_doctor_asks_is_nobodys_mail(policyd, log):
    """Its timer asks each hour: then an hour in which Postfix asks nothing would not show, and bob had a stranger."""
    begin = WEEK - WEEK % HOUR
    for hour in (0, 4):
        log.ask("bob@example.com", "joe@example.net", begin + hour * HOUR)
    for hour in range(4):
        log.ask(
            "bob@example.com", "nobody-of-policyd-doctor@doctor.invalid", begin + hour * HOUR, instance="policyd-doctor"
        )
        log.ask("bob@example.com", f"policyd-doctor-0123456789a{hour}@doctor.invalid", begin + hour * HOUR)
    told = report(policyd, log)
    assert (told["questions"], told["trials"], told["asked_twice"]) == (2, 8, 0)
    assert {each["sender"] for each in told["refused"]} == {"joe@example.net"}
    assert told["hours_without_questions"] == [{"from": begin + HOUR, "to": begin + 4 * HOUR}]


def test_lines_before_are_left_out(policyd, log):
    """Of a log of a month, the last week."""
    log.ask("bob@example.com", "joe@example.net", WEEK - HOUR)
    log.ask("bob@example.com", "joe@example.net", NOW - HOUR)
    assert report(policyd, log, "--since -2h")["questions"] == 1


def test_log_comes_by_stdin_too(policyd, log):
    """`ssh mx cat /var/log/mail.log | policyd report -`."""
    log.ask("bob@example.com", "joe@example.net", WEEK)
    told = json.loads(policyd.ends("--json report -", stdin=log.file.read_bytes()).out)
    assert (told["questions"], told["logs"]) == (1, ["stdin"])


def test_hostile_values_stand_as_codes(policyd, log):
    """No sender writes on the terminal of who reads about him, and no command has what nobody can type."""
    log.ask("bob@example.com", "a\u202eb\x1b[2J\udcff@example.net", WEEK)
    (refused,) = report(policyd, log)["refused"]
    assert refused["command"] is None
    out = policyd.run(f"report {log.file}")
    assert out.replace("\n", "").isprintable()
    assert "it has characters that nobody can type" in out


def test_without_the_tables_the_log_is_reported(policyd, log):
    """On a host that only collects logs."""
    log.ask("bob@example.com", "joe@example.net", WEEK)
    ended = policyd.ends(f"--json report {log.file}", POLICYD_DATABASE=str(policyd.folder / "none.db"))
    told = json.loads(ended.out)
    assert (ended.status, told["questions"], told["refused"][0]["command"]) == (0, 1, None)
    (problem,) = told["problems"]
    assert problem.startswith("the tables can't be read, so what they say is missing: ")


def test_report_for_a_person(policyd, log):
    """Sections with what counts first; no section that has nothing to say."""
    log.ask("bob@example.com", "joe@example.net", NOW - HOUR)
    lines = policyd.run(f"report {log.file}").splitlines()
    at = lines[0].partition(" to ")[0].removeprefix("From ")
    assert lines[:12] == [
        f"From {at} to {at}",
        f"Read: {log.file}: 1 line, 1 of policyd",
        "Questions: 1",
        "  restricted-recipient: 1 would be refused",
        "  context none: 1: 1 from outside",
        "",
        "What would be refused, the likely mistakes first",
        f"  joe@example.net to bob: once, {at}, restricted-recipient, by mailbox",
        "    text: 5.7.1 This mailbox does not take mail from this sender: internal mailbox",
        "    to let it through: policyd mailbox accept bob joe@example.net",
        f"    asked: {ASKED}",
        "",
    ]
    assert policyd.ends("check -", stdin=lines[10]).out.startswith("DUNNO\n")


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("report nothing.log", 2, "policyd: Invalid value for 'LOG': File 'nothing.log' does not exist. "),
        ("report .", 2, "policyd: Invalid value for 'LOG': File '.' is a directory. "),
        ("report --since tomorrow {log}", 2, "policyd: Invalid value for '--since': 'tomorrow' is not a time; "),
        ("report {log}", 1, "policyd: {log}: no line of policyd in 1 line; name the log that has them, "),
    ],
)
def test_mistake_is_told_in_a_line(policyd, log, line, status, message):
    """What is wrong, and nothing else."""
    log.write("connect from x", NOW, "postfix/smtpd[1]")
    ended = policyd.ends(line.format(log=log.file))
    assert ended.status == status
    assert ended.err.splitlines()[-1].startswith(message.format(log=log.file))

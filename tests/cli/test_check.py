"""`policyd check`: the daemon's answer, and why, without the daemon."""

import json
import os
import socket
import threading

import pytest

from tests.support.command_line import command_line
from tests.support.required import as_root

NO_REQUEST = (
    "Give either a recipient, as in: policyd check alice@example.com; or - for a request, or a line of the audit, on "
    "stdin. See: policyd check --help"
)


@pytest.fixture
def policyd():
    """A company with a restricted mailbox, an open one, and one whose holder has left."""
    with command_line(
        "domain add example.com",
        "mailbox add alice alice@example.com",
        "mailbox add Bob bob@example.com '\"b jones\"@example.com'",
        "mailbox add Carol carol@example.com",
        "mailbox restrict alice --accept @partner.example --reason 'internal mailbox'",
        "sender block Carol --except @partner.example --reason 'left the company'",
    ) as policyd:
        yield policyd


@pytest.mark.parametrize(
    ("words", "status", "first_line"),
    [
        pytest.param("--recipient bob@example.com", 0, "DUNNO", id="an open mailbox"),
        pytest.param(
            "--recipient alice@example.com --sender joe@example.net",
            1,
            "REJECT 5.7.1 This mailbox does not take mail from this sender: internal mailbox",
            id="a restricted mailbox from outside",
        ),
        pytest.param(
            "--recipient ALICE+x@EXAMPLE.com. --sender joe@example.net",
            1,
            "REJECT 5.7.1 This mailbox does not take mail from this sender: internal mailbox",
            id="a restricted mailbox under another spelling",
        ),
        pytest.param("--recipient alice@example.com --login bob", 0, "DUNNO", id="from a login"),
        pytest.param("--recipient alice@example.com --client-address ::1", 0, "DUNNO", id="from this machine"),
        pytest.param("--recipient alice@example.com --sender a@PARTNER.example", 0, "DUNNO", id="an accepted sender"),
        pytest.param(
            "--recipient nobody@example.com", 1, "REJECT 5.1.1 This address does not receive mail", id="unlisted"
        ),
        pytest.param("--recipient postmaster@example.com", 0, "DUNNO", id="postmaster"),
        pytest.param("--recipient joe@example.net", 0, "DUNNO", id="outside, where policyd has no opinion"),
        pytest.param(
            "--recipient joe@example.net --login CAROL --sender innocent@example.com",
            1,
            "REJECT 5.7.1 This sender may not write to this recipient: left the company",
            id="a blocked login behind another sender",
        ),
        pytest.param("--recipient joe@partner.example --login carol", 0, "DUNNO", id="an excepted recipient"),
        pytest.param("--recipient '\"b jones\"@example.com'", 0, "DUNNO", id="a quoted local part"),
        pytest.param("--recipient 'b jones@example.com'", 0, "DUNNO", id="the same as Postfix sends it"),
    ],
)
def test_status_and_first_line_are_the_answer(policyd, words, status, first_line):
    """0 where the mail would be permitted, 1 where it would be refused, so that a script can ask."""
    ended = policyd.ends(f"check {words}")
    assert (ended.status, ended.out.splitlines()[0], ended.err) == (status, first_line, "")


def test_explanation_names_each_step(policyd):
    """Identities, the mailbox found and how, each entry looked at, the rule that decided."""
    words = "--recipient a+b@example.net --sender carol+x@example.com --login BOB --client-address 192.0.2.7"
    assert policyd.ends(f"check {words}").out == (
        "REJECT 5.7.1 This sender may not write to this recipient: left the company\n"
        "  login BOB: mailbox Bob (name)\n"
        "  sender carol+x@example.com: mailbox Carol (extension)\n"
        "  client 192.0.2.7: an insider\n"
        "  recipient a+b@example.net: outside, its domain is not managed\n"
        "  entry 1: Carol may not send to outside: applies\n"
        "  rule: blocked-sender\n"
    )


def test_json_of_a_refusal_has_its_stable_keys(policyd):
    """Tools outside rely on them."""
    ended = policyd.ends("--json check --recipient Joe@Example.NET. --sender '<>' --login carol")
    assert ended.status == 1
    explained = json.loads(ended.out)
    assert explained.pop("trace")[-1] == "rule: blocked-sender"
    assert explained == {
        "action": "REJECT",
        "text": "5.7.1 This sender may not write to this recipient: left the company",
        "rule": "blocked-sender",
        "by": None,
        "entry": 1,
        "recipient": "joe@example.net",
        "mailbox": None,
        "sender": "",
        "login": "carol",
        "insider": True,
    }


def test_json_of_a_permission_has_the_same_keys(policyd):
    """What isn't there is null or empty, never missing."""
    assert policyd.json("check --recipient BOB+x@example.com --sender Joe@Example.NET") | {"trace": []} == {
        "action": "DUNNO",
        "text": "",
        "rule": "default",
        "by": None,
        "entry": None,
        "recipient": "bob+x@example.com",
        "mailbox": "Bob",
        "sender": "joe@example.net",
        "login": "",
        "insider": False,
        "trace": [],
    }


def test_context_makes_an_insider(policyd):
    """As the submission service's policy_context does."""
    policyd.settings.write_text('insider_contexts = ["submission"]\n[audit]\nsyslog = "none"\n')
    assert policyd.ends("check --recipient alice@example.com --context submission").status == 0
    assert policyd.ends("check --recipient alice@example.com --context Submission").status == 1


def test_monitor_mode_permits_and_tells_what_it_would_do(policyd):
    """The answer is what Postfix would get: DUNNO."""
    policyd.settings.write_text('mode = "monitor"\n[audit]\nsyslog = "none"\n')
    ended = policyd.ends("check --recipient alice@example.com")
    assert (ended.status, ended.out.splitlines()[0]) == (0, "DUNNO")
    assert "  mode monitor: would be REJECT\n" in ended.out


REQUEST = (
    "request=smtpd_access_policy\nprotocol_state=RCPT\nsender=joe@example.net\nrecipient={}\n"
    "client_address=192.0.2.7\nunknown_attribute=x\n\n"
)


def test_raw_request_is_read_from_stdin(policyd):
    """As Postfix sends it."""
    ended = policyd.ends("--json check -", stdin=REQUEST.format("alice@example.com"))
    assert (ended.status, json.loads(ended.out)["rule"]) == (1, "restricted-recipient")
    assert policyd.ends("check -", stdin=REQUEST.format("bob@example.com")).status == 0


def test_raw_request_without_a_recipient_is_judged_too(policyd):
    """DATA of a message for several recipients has none."""
    ended = policyd.ends("--json check -", stdin="request=smtpd_access_policy\nprotocol_state=DATA\nsender=x@y\n\n")
    explained = json.loads(ended.out)
    assert (ended.status, explained["recipient"], explained["mailbox"]) == (0, "", None)


LOGGED = (
    "Nov 25 22:34:03 mx policyd[4242]: action=REJECT, rule=restricted-recipient, entry=, state=RCPT, queue_id=, "
    "instance=1d2f.6560a1b2.9c.0, client=mx.example.net[192.0.2.7], sender=<joe@example.net>, "
    'recipient=<alice@example.com>, login=, context=, reason="internal mailbox", text="5.7.1 …", ms=0.08, '
    "mailbox=alice, by=mailbox\n"
)


def test_line_of_the_log_is_asked_again_of_the_tables_of_today(policyd):
    """Why was that refused, and would it be now? The line from the log is the whole question."""
    told = policyd.ends("check -", stdin=LOGGED)
    assert (told.status, told.err) == (1, "")
    typed = "--sender joe@example.net --recipient alice@example.com --client-address 192.0.2.7"
    assert told.out == policyd.ends(f"check {typed}").out
    assert "  rule: restricted-recipient\n" in told.out
    policyd.run("mailbox lift alice")
    assert policyd.ends("check -", stdin=LOGGED).out.splitlines()[0] == "DUNNO"


def test_hostile_line_of_the_log_reaches_no_terminal(policyd):
    """What was escaped in the log is so again in the trace, and the request has the bytes."""
    stdin = LOGGED.replace("<joe@example.net>", '"<\\x1b]0;owned\\x07\\xff\\x2c action=DUNNO>"')
    ended = policyd.ends("check -", stdin=stdin)
    assert ended.status == 1
    assert ended.out.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        pytest.param(
            LOGGED.replace("action=REJECT", "event=stopped"),
            "this line of the audit is about the daemon itself; one about a request begins with action=",
            id="of the daemon",
        ),
        pytest.param(
            LOGGED.replace("<alice@example.com>", f'"<{"a" * 511}…"'),
            "recipient is cut in this line, which would have been too long; ask with what you know of it: "
            "policyd check --recipient R --sender S",
            id="cut",
        ),
        pytest.param(LOGGED * 2, "stdin has 2 lines of the audit; give one of them", id="two"),
    ],
)
def test_line_that_can_not_be_asked_again_says_why(policyd, stdin, message):
    """65: what was given is wrong, and nothing was asked."""
    ended = policyd.ends("check -", stdin=stdin)
    assert (ended.status, ended.out, ended.err) == (65, "", f"policyd: {message}\n")


@pytest.mark.parametrize(
    "stdin",
    [
        pytest.param("", id="nothing"),
        pytest.param("request=smtpd_access_policy\nsender=x@y\n", id="no end"),
        pytest.param("sender=x@y\n\n", id="no request attribute"),
        pytest.param("request=smtpd_access_policy\nnonsense\n\n", id="a line without an equals sign"),
        pytest.param(b"request=smtpd_access_policy\nsender=\0\n\n", id="a NUL"),
        pytest.param(b"request=smtpd_access_policy\nsender=" + b"x" * 70000 + b"\n\n", id="too long"),
    ],
)
def test_malformed_request_is_refused_on_one_line(policyd, stdin):
    """Never answered: an invented answer is worse than none."""
    ended = policyd.ends("check -", stdin=stdin)
    assert (ended.status, ended.out, ended.err.count("\n")) == (65, "", 1)
    assert ended.err.startswith("policyd: ")


def test_hostile_request_reaches_no_terminal(policyd):
    """A request caught from the wire may hold escape sequences and bytes that are no text."""
    stdin = REQUEST.format("\x1b]0;owned\x07\u202ebob@example.com").encode().replace(b"joe", b"\xff\xfe\x9b31m")
    ended = policyd.ends("check -", stdin=stdin)
    assert ended.status == 1
    assert ended.out.replace("\n", "").isprintable()
    ended = policyd.ends("--json check -", stdin=stdin)
    assert json.loads(ended.out)["action"] == "REJECT"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            "",
            NO_REQUEST,
            id="nothing asked",
        ),
        pytest.param(
            "- --recipient a@b",
            NO_REQUEST,
            id="asked twice",
        ),
        pytest.param(
            "--recipient bob@example.com --client-address 192.0.2.256",
            "Invalid value for '--client-address': '192.0.2.256' is not an IP address; "
            "an IP address looks like 192.0.2.7 or 2001:db8::1. See: policyd check --help",
            id="a mistyped client address, which would pass for an outsider's",
        ),
        pytest.param("--sender a@b", None, id="a sender only"),
    ],
)
def test_question_that_makes_no_sense_is_bad_usage(policyd, words, message):
    """2, which is neither permitted nor refused."""
    told = policyd.refuses(f"check {words}", 2)
    assert message is None or told == f"policyd: {message}"


def test_check_answers_nothing_without_a_database(policyd):
    """DUNNO to everything from a mistyped path would look like permission; and nothing is made there."""
    missing = policyd.folder / "missing.db"
    assert policyd.refuses(f"--database {missing} check --recipient bob@example.com", 69) == (
        f"policyd: {missing}: there is no database; make it with: policyd database create"
    )
    assert not missing.exists()


@pytest.mark.parametrize("line", ["check --recipient bob@example.com", "address find bob@example.com"])
def test_missing_folder_is_told_as_a_missing_database(policyd, line):
    """Root looks first at whose the folder is; the line and the status are the same for everybody."""
    missing = policyd.folder / "missing" / "policyd.db"
    assert policyd.refuses(f"--database {missing} {line}", 69) == (
        f"policyd: {missing}: there is no database; make it with: policyd database create"
    )


@pytest.mark.parametrize("listen", ["unix:{}/policyd.sock", "tcp:1:interface=127.0.0.1"])
def test_absent_daemon_is_told_apart_from_a_refusal(policyd, listen):
    """Where nobody listens, there is no answer to give."""
    listen = listen.format(policyd.folder)
    policyd.settings.write_text(f'listen = ["{listen}"]\n')
    message = policyd.refuses("check --daemon --recipient bob@example.com", 69)
    assert message.startswith(f"policyd: no daemon answers on {listen}: ")


@as_root
def test_a_socket_that_is_not_open_to_the_user_is_told_as_that(policyd):
    """A daemon that runs is not missing: the way to it is another one."""
    with socket.socket(socket.AF_UNIX) as listener:
        path = policyd.folder / "policyd.sock"
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
        listen = f"unix:{path}"
        policyd.settings.write_text(f'listen = ["{listen}"]\n')
        policyd.settings.chmod(0o644)
        policyd.folder.chmod(0o755)
        question = "check --daemon --recipient bob@example.com"
        policyd.ends(f"{question} --bogus")  # what it needs is loaded while we are root
        os.seteuid(65534)
        try:
            ended = policyd.ends(question)
        finally:
            os.seteuid(0)
    assert (ended.status, ended.err) == (
        69,
        f"policyd: the daemon can't be asked: {listen} is not open to you; become root, or a member of its group\n",
    )


@pytest.fixture
def stranger():
    """Listens on a port, and sends those who ask the bytes of `stranger.sends` again and again, till they go."""

    class Stranger:
        sends = b""
        pause = 0.0
        port = 0

        def serve(self, listener: socket.socket) -> None:
            connection, _ = listener.accept()
            with connection:
                for _ in range(10_000):
                    try:
                        connection.sendall(self.sends)
                    except OSError:
                        return
                    over.wait(self.pause)

    over, stranger = threading.Event(), Stranger()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stranger.port = listener.getsockname()[1]
        thread = threading.Thread(target=stranger.serve, args=(listener,))
        thread.start()
        yield stranger
        over.set()
        thread.join()


@pytest.mark.parametrize("sends", [b"a", b"action=DUNNO\n", b"\0"])
def test_stranger_on_the_port_holds_nobody_up_byte_by_byte(policyd, stranger, monkeypatch, sends):
    """Any local user can listen where the daemon doesn't run: the limit is for the whole answer."""
    monkeypatch.setattr("policyd.admin.asking._DAEMON_SECONDS", 1)
    stranger.sends, stranger.pause = sends, 0.01
    listen = f"tcp:{stranger.port}:interface=127.0.0.1"
    policyd.settings.write_text(f'listen = ["{listen}"]\n')
    message = policyd.refuses("check --daemon --recipient bob@example.com", 69)
    assert message == f"policyd: no daemon answers on {listen}: timed out"


def test_stranger_on_the_port_fills_no_memory(policyd, stranger):
    """An answer has an end."""
    stranger.sends = b"x" * 65536
    listen = f"tcp:{stranger.port}:interface=127.0.0.1"
    policyd.settings.write_text(f'listen = ["{listen}"]\n')
    message = policyd.refuses("check --daemon --recipient bob@example.com", 69)
    assert message == f"policyd: what listens on {listen} is no policyd: its answer has no end"


def test_recipient_needs_no_option(policyd):
    """What is asked most is typed shortest."""
    for options in ("", "--sender joe@example.net", "--login bob"):
        short = policyd.ends(f"check alice@example.com {options}")
        assert short == policyd.ends(f"check --recipient alice@example.com {options}")
    assert policyd.json("check '\"b jones\"@example.com'")["mailbox"] == "Bob"


def test_recipient_without_a_domain_is_told_what_it_is_taken_for(policyd):
    """DUNNO for a mailbox's name says nothing about the mailbox."""
    assert policyd.run("check --recipient alice").splitlines()[1:3] == [
        "  alice has no domain: no origin is set, so it is neither managed nor outside",
        "  there is a mailbox alice: its address is alice@example.com; type: policyd check alice@example.com",
    ]
    assert policyd.run("check nobody").splitlines()[1:3] == [
        "  nobody has no domain: no origin is set, so it is neither managed nor outside",
        "  sender: the null sender <>",
    ]
    policyd.run("mailbox add empty")
    assert policyd.json("check EMPTY")["trace"][1] == "there is a mailbox empty: it has no address"


def test_recipient_without_a_domain_is_in_the_origin(policyd):
    """As Postfix completes it."""
    policyd.settings.write_text('origin = "example.com"\n[audit]\nsyslog = "none"\n')
    ended = policyd.ends("--json check alice")
    assert (ended.status, json.loads(ended.out)["mailbox"]) == (1, "alice")
    assert json.loads(ended.out)["trace"][0] == "alice has no domain: taken for alice@example.com, as the origin says"
    policyd.run("mailbox add desk desk2@example.com")
    assert json.loads(policyd.ends("--json check Desk").out)["trace"][:2] == [
        "Desk has no domain: taken for desk@example.com, as the origin says",
        "there is a mailbox desk: its address is desk2@example.com; type: policyd check desk2@example.com",
    ]

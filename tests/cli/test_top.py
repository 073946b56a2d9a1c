"""`policyd top`: what it shows of a real daemon, once and live, and what it says where there is none."""

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from policyd.cli import main
from policyd.cli.top import Moment, as_object
from policyd.counters import SECONDS, CounterPage
from policyd.model import Action, Decision, Request, Rule
from policyd.web.metrics import render
from policyd.web.observed import Seen
from policyd.web.scraped import read_metrics
from tests.support.command_line import CommandLine
from tests.support.fake_smtpd import request
from tests.support.running_daemon import Daemon
from tests.support.terminal import on_terminal


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that shows metrics."""
    with Daemon(tmp_path_factory.mktemp("top")) as daemon:
        daemon.make_tables("alice")
        daemon.write_settings('mode = "monitor"', http=[f'listen = "unix:{daemon.web}"'])
        daemon.start()
        yield daemon


def refuse(daemon: Daemon) -> None:
    """Have it find something to refuse."""
    assert daemon.ask(request(recipient="nobody@example.com", policy_context="inbound")) == "DUNNO"


def ended(config: Path, *words: str) -> tuple[int, str, str]:
    """How `policyd top` ends: its status, and what it prints."""
    called = CliRunner().invoke(main, ["--config", str(config), "top", *words])
    return called.exit_code, called.stdout, called.stderr


def test_it_is_printed_once_where_nobody_watches(daemon):
    """For a script, or a mail to a colleague."""
    refuse(daemon)
    status, out, err = ended(daemon.config)
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0].startswith("policyd ")
    assert ", 1 worker, mode monitor, settings read 2" in lines[0]
    assert lines[1].startswith("tables at change 3 of 2")
    assert lines[2].startswith("connections ")
    assert lines[3] == "hung up: never; lines of the log: none wait, none dropped"
    (told,) = [line.split() for line in lines if line.startswith("unlisted-recipient") and "reject" in line]
    assert told[:3] == ["unlisted-recipient", "DUNNO", "reject"]
    shown = json.loads(ended(daemon.config, "--json")[1])
    (rule,) = [each for each in shown["rules"] if each["rule"] == "unlisted-recipient" and each["would"]]
    assert rule == {**rule, "action": "DUNNO", "would": "reject", "total": int(told[3]), "per_second": None}
    assert shown["database"]["is_readable"] is True
    assert shown["requests"]["total"] == rule["total"]


def test_on_a_terminal_it_goes_on_until_ctrl_c(daemon, tmp_path):
    """What happens meanwhile is seen; and to stop watching is no error."""
    policyd = CommandLine(tmp_path)
    policyd.settings, policyd.database = daemon.config, daemon.database
    with on_terminal(policyd, ["top", "--interval", "0.5"], columns=90, lines=30) as terminal:
        terminal.read_until("unlisted-recipient")
        terminal.read_until("requests ")
        refuse(daemon)
        before = len(terminal.shown)
        terminal.read_until("a second, p50")
        terminal.type("\x03")
        after = terminal.read_to_the_end()[before:]
        assert terminal.process.returncode == 0
    assert "policyd: " not in after
    assert "Traceback" not in after


def test_what_was_counted_meanwhile_is_a_rate():
    """By the time between two looks; where the daemon began anew in between, since then."""
    page, decision = CounterPage(1), Decision(Action.DUNNO, Rule.DEFAULT)

    def count(times: int, seconds: float) -> None:
        for _ in range(times):
            page.at(0).decided(Request(), decision, seconds)

    def look(at: float) -> Moment:
        return Moment(read_metrics(render(page, Seen()).decode()), at)

    first = look(10.0)
    assert as_object(first, None)["milliseconds"] == {"p50": None, "p99": None}
    count(100, SECONDS[0])
    second = look(12.0)
    shown = as_object(second, first)
    assert shown["requests"] == {"total": 100, "per_second": 50.0}
    assert shown["milliseconds"] == {"p50": 0.013, "p99": 0.025}
    count(50, 0.2)
    shown = as_object(look(13.0), second)
    assert shown["requests"] == {"total": 150, "per_second": 50.0}
    assert shown["milliseconds"] == {"p50": 175.0, "p99": 248.5}
    assert as_object(first, second)["requests"]["per_second"] is None
    page = CounterPage(1)
    count(7, 5.0)
    shown = as_object(look(14.0), second)
    assert shown["requests"] == {"total": 7, "per_second": 3.5}
    assert shown["milliseconds"] == {"p50": 1000.0, "p99": 1000.0}  # at least


# Where there is nothing to show


def settings(folder: Path, *http: str) -> Path:
    """A settings file with these lines in [http]."""
    file = folder / "policyd.toml"
    file.write_text("\n".join([f'database = "{folder}/policyd.db"', "[http]", *http, ""]))
    return file


@contextmanager
def somebody(place: Path, answer: bytes) -> Iterator[None]:
    """A server that is no policyd, and says *answer* once."""
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(place))
        listening.listen()

        def serve() -> None:
            with listening.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_setting_that_is_missing_is_named(tmp_path):
    """With what to write."""
    assert ended(settings(tmp_path)) == (
        78,
        "",
        (
            "policyd: http.listen: is not set; if systemd opened the socket, name it, as in policyd top --at "
            'unix:/run/policyd-http/http.sock; else write [http] and listen = "tcp:10041:interface=127.0.0.1" into '
            "the settings, and restart the daemon\n"
        ),
    )


def test_library_that_is_missing_is_named_with_what_to_type(tmp_path, monkeypatch):
    """Metrics are an extra: who has not installed it has made no discovery of a defect."""
    monkeypatch.delitem(sys.modules, "policyd.web.scraped")
    monkeypatch.setitem(sys.modules, "prometheus_client.parser", None)
    told = (
        f"policyd: the Python package prometheus_client is missing; type: {sys.prefix}/bin/pip install 'policyd[web]'\n"
    )
    assert ended(settings(tmp_path, 'listen = "tcp:9"')) == (69, "", told)


def test_place_can_be_named(daemon, tmp_path):
    """Where systemd opened the socket, the settings need not know of it."""
    assert ended(settings(tmp_path), "--at", f"unix:{daemon.web}")[0] == 0
    status, _, err = ended(settings(tmp_path), "--at", "nowhere")
    assert (status, err.partition(":")[0]) == (2, "policyd")


def test_daemon_that_is_not_there_is_told(tmp_path):
    """In one line, as `check --daemon` says it."""
    place = tmp_path / "web.sock"
    assert ended(settings(tmp_path, f'listen = "unix:{place}"')) == (
        69,
        "",
        (
            f"policyd: no daemon shows metrics on unix:{place}: nobody listens there (No such file or directory); "
            "start it, or set http.listen to where it listens\n"
        ),
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n<html>",
        b"HTTP/1.0 200 OK\r\n\r\nup 1\n",
        b"HTTP/1.0 404 Not Found\r\n\r\n",
    ],
    ids=["no HTTP", "a page", "another's metrics", "no metrics"],
)
def test_what_is_no_policyd_is_told(tmp_path, answer):
    """Another server on the port answers as it likes."""
    place = tmp_path / "web.sock"
    with somebody(place, answer):
        assert ended(settings(tmp_path, f'listen = "unix:{place}"')) == (
            69,
            "",
            f"policyd: what listens on unix:{place} is no policyd that shows metrics; set http.listen to where it is\n",
        )


def test_token_is_sent_and_a_wrong_one_is_told(daemon, tmp_path):
    """Where the daemon was restarted with another one, its own words say what is wrong."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123\n")
    os.chmod(token, 0o600)
    place = tmp_path / "web.sock"
    with somebody(place, b"HTTP/1.0 401 Unauthorized\r\n\r\nThis is not the token.\n"):
        assert ended(settings(tmp_path, f'listen = "unix:{place}"', f'token_file = "{token}"')) == (
            69,
            "",
            f"policyd: the daemon on unix:{place} shows no metrics to you: This is not the token.\n",
        )
    assert ended(settings(tmp_path, f'listen = "unix:{daemon.web}"', f'token_file = "{token}"'))[0] == 0

"""Who gets in to the pages of a running daemon, by its settings."""

import http.client
import socket
from pathlib import Path

import pytest

from tests.support.web_daemon import WebDaemon

TOKEN = "0123456789abcdef0123456789abcdef"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, as a reverse proxy speaks it."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def status(connection: http.client.HTTPConnection, path: str, **headers: str) -> int:
    """The status of the answer to a request of its own."""
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def token_file(folder: Path, text: str = TOKEN) -> Path:
    path = folder / "token"
    path.write_text(text)
    path.chmod(0o640)
    return path


def test_proxy_and_token_let_in_and_nothing_else_does(tmp_path):
    """Over its socket the proxy says who somebody is; on TCP nobody is believed; a broken token changes nothing."""
    path = token_file(tmp_path)
    unix = tmp_path / "http.sock"
    with WebDaemon(tmp_path, f'token_file = "{path}"', 'user_header = "X-Remote-User"') as daemon:
        tcp = f"tcp:{daemon.http_port}:interface=127.0.0.1"
        settings = daemon.config.read_text()
        daemon.config.write_text(settings.replace(f'listen = "{tcp}"', f'listen = ["{tcp}", "unix:{unix}"]'))
        daemon.make_tables("alice")
        daemon.start()
        proxy, port = UnixConnection(unix), http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=60)
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert status(proxy, "/journal", Host="policyd.example", X_Remote_User="ann") == 200
        assert status(proxy, "/journal") == 401
        assert status(port, "/journal", X_Remote_User="ann") == 401
        assert status(port, "/metrics", **bearer) == 200
        assert status(port, "/healthz") == 200
        token_file(tmp_path, "short")
        assert "must be one word of 20 to 512 characters" in daemon.reload("the settings stay as they were")
        assert status(port, "/metrics", **bearer) == 200
        assert daemon.stop() == (0, "")
        assert [line for line in daemon.syslog.matching("could not be made") if line] == []


@pytest.mark.parametrize(
    ("http", "told"),
    [
        pytest.param('token_file = "{folder}/none"', "No such file or directory", id="no file"),
        pytest.param('token_file = "{folder}/token"', "must be one word", id="no good token"),
        pytest.param('listen = "tcp:0"', "http.token_file and say allow_remote = true", id="other machines, no token"),
        pytest.param('listen = "tcp:0"\ntoken_file = "{folder}/token"', "allow_remote = true", id="nobody said so"),
    ],
)
def test_daemon_does_not_start_with_a_door_open(tmp_path, http, told):
    """It ends with the line that helps, and nothing listens."""
    token_file(tmp_path, "short")
    with WebDaemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        text, _, _ = daemon.config.read_text().partition("[http]\n")
        given = http.format(folder=tmp_path)
        listen = "" if "listen" in given else f'listen = "tcp:{daemon.http_port}:interface=127.0.0.1"\n'
        daemon.config.write_text(f"{text}[http]\n{listen}{given}\n")
        ended, said = daemon.refuse()
        assert (ended, told in said, said.count("\n")) == (78, True, 1), said
        assert not daemon.socket.exists()

"""nginx in front of the pages, by contrib/nginx/policyd.conf as it stands: it lets its users in, and nobody else."""

import base64
import http.client
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.required import give_up
from tests.support.scraping import fetch
from tests.support.waiting import until
from tests.support.web_daemon import WebDaemon

CONTRIB = Path(__file__).resolve().parents[2] / "contrib" / "nginx" / "policyd.conf"
NAME = "policyd.example.com"
CERTIFICATE = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={NAME}"
MAIN = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/policyd.conf;
}}
"""


class Nginx:
    """nginx on a port of loopback, whose user ann has the password `secret`; the daemon listens on *unix*."""

    def __init__(self, folder: Path, unix: Path) -> None:
        # The file of contrib, with a port, a certificate and a socket of the test's.
        self.port = free_port()
        text = CONTRIB.read_text()
        text = re.sub(r"(?m)^    listen \[::\]:443 .*\n", "", text)
        for path, name in (
            ("/etc/ssl/certs/policyd.example.com.pem", "cert.pem"),
            ("/etc/ssl/private/policyd.example.com.key", "key.pem"),
            ("/etc/nginx/policyd.users", "users"),
        ):
            assert path in text
            text = text.replace(path, f"{folder}/{name}")
        assert "/run/policyd-http/http.sock" in text
        text = text.replace("/run/policyd-http/http.sock", str(unix)).replace(
            "listen 443", f"listen 127.0.0.1:{self.port}"
        )
        (folder / "policyd.conf").write_text(text)
        (folder / "users").write_text("ann:{PLAIN}secret\n")
        user = "user root;" if Path("/proc/self").owner() == "root" else ""
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
        made = subprocess.run(
            [*CERTIFICATE.split(), "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], capture_output=True
        )
        assert made.returncode == 0, made.stderr
        with (folder / "nginx.log").open("wb") as log:
            self._process = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"], stderr=log)
        until(self._listens, "nginx")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
        """The status and the body of the answer to a request of a browser's, whose headers may be others."""
        lines = {"Host": f"{NAME}:{self.port}", "Authorization": basic("ann", "secret"), "Connection": "close"}
        if method == "POST":
            lines |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items() if value), "", body]
        return self.send("\r\n".join(sent).encode())

    def send(self, raw: bytes) -> tuple[int, str]:
        """The status and the body of the answer to *raw*."""
        with self._connected(NAME) as connection:
            connection.sendall(raw)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status, answer.read().decode()

    def shakes_hands(self, name: str | None) -> bool:
        """Whether it speaks TLS with who asks for the site *name*."""
        try:
            self._connected(name).close()
        except ssl.SSLError:
            return False
        return True

    def _connected(self, name: str | None) -> ssl.SSLSocket:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        return context.wrap_socket(plain, server_hostname=name)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def basic(user: str, password: str) -> str:
    """The header of who has this password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDaemon]:
    """A daemon whose pages are on a unix socket alone, behind a proxy that names its users."""
    with WebDaemon(tmp_path_factory.mktemp("daemon"), 'user_header = "X-Remote-User"') as daemon:
        settings = daemon.config.read_text()
        listen = f'listen = "tcp:{daemon.http_port}:interface=127.0.0.1"'
        assert listen in settings
        daemon.config.write_text(settings.replace(listen, f'listen = "unix:{daemon.web}"'))
        daemon.make_tables("alice")
        daemon.start()
        yield daemon


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, daemon: WebDaemon) -> Iterator[Nginx]:
    """nginx in front of it."""
    if shutil.which("nginx") is None or shutil.which("openssl") is None:
        give_up("NGINX", "not installed: nginx (Debian: apt-get install nginx-light openssl)")
    nginx = Nginx(tmp_path_factory.mktemp("nginx"), daemon.web)
    yield nginx
    nginx.close()


def test_users_of_nginx_see_the_pages(nginx):
    """As a browser asks: a page, and a form that the page has sent."""
    assert nginx.ask("GET", "/")[0] == 200
    status, page = nginx.ask("POST", "/mailbox", "name=alice", Origin=f"https://{NAME}:{nginx.port}")
    assert (status, "alice@example.com" in page) == (200, True)
    assert nginx.ask("POST", "/mailbox", "name=alice", Origin="https://elsewhere.example")[0] == 403
    assert nginx.ask("GET", "/metrics")[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Authorization": ""}, 401, id="no password"),
        pytest.param({"Authorization": basic("ann", "other")}, 401, id="a wrong password"),
        pytest.param({"Authorization": "", "X_Remote_User": "ann"}, 401, id="the user's name alone"),
        pytest.param({"X_Remote_User": ""}, 200, id="a password alone"),
        pytest.param({"X_Remote_User": "root"}, 200, id="another user's name, which goes no further"),
        pytest.param({"Connection": "close, X-Remote-User"}, 200, id="the name as one that goes no further"),
    ],
)
def test_only_a_password_lets_in(nginx, headers, status):
    """What a browser says of itself is worth nothing."""
    assert nginx.ask("GET", "/journal", **headers)[0] == status


def test_whoever_reaches_the_socket_past_nginx_names_a_user(daemon, nginx):
    """Without one, a page is for nobody."""
    assert fetch(daemon.web, "/journal")[0] == 403
    assert fetch(daemon.web, "/journal", {"X-Remote-User": "ann"})[0] == 200


def test_other_names_get_no_handshake(nginx):
    """A page elsewhere that has its own name lead here gets nothing."""
    assert nginx.shakes_hands(NAME)
    assert not nginx.shakes_hands("elsewhere.example")
    assert not nginx.shakes_hands(None)


@pytest.mark.parametrize(
    "second",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n",
    ],
    ids=["two lengths", "one length twice", "an unknown coding"],
)
def test_no_request_is_smuggled_behind_another(nginx, second):
    """Where nginx and policyd saw other ends of a request, its rest would be somebody else's, with any user's name."""
    credentials = basic("ann", "secret").encode()
    head = b"POST / HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\n" % (NAME.encode(), credentials)
    head += b"Content-Type: application/x-www-form-urlencoded\r\n"
    smuggled = b"GET /journal HTTP/1.1\r\nHost: localhost\r\nX-Remote-User: root\r\n\r\n"
    status, _ = nginx.send(head + second + smuggled)
    assert status in (400, 501)

"""No password is shown to anybody: in an error, with --json, in the log, or on a command line that others can see."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.replica.hosts import Host
from tests.support.command_line import CommandLine
from tests.support.few import few
from tests.support.waiting import until

SECRET = "hunter2-is-a-secret"
ENCODED = SECRET.replace("h", "%68").replace("-", "%2D")

# Every place in which libpq looks for a password, and what people make of it; {} is the place of the server.
URLS = {
    "a password": f"postgresql://owner:{SECRET}@{{}}",
    "percent-encoded": f"postgresql://owner:{ENCODED}@{{}}",
    "a parameter": f"postgresql://owner@{{}}?password={SECRET}",
    "an encoded parameter": f"postgresql://owner@{{}}?passw%6Frd={ENCODED}",
    "of a key": f"postgresql://owner@{{}}?sslpassword={SECRET}",
    "with a slash": f"postgresql://owner:/{SECRET}/@{{}}",
    "with an at": f"postgresql://owner:@{SECRET}@@{{}}",
    "with a question mark": f"postgresql://owner:?{SECRET}@{{}}",
    "with a percent sign": f"postgresql://owner:%{SECRET}@{{}}",
    "with a hash": f"postgresql://owner:#{SECRET}@{{}}",
    "with a colon": f"postgresql://owner:{SECRET}:x@{{}}",
    "a port that is none": f"postgresql://owner:{SECRET}@{{}}?port=x",
    "a parameter that is none": f"postgresql://owner:{SECRET}@{{}}?sslmod=x",
    "in capitals": f"POSTGRESQL://owner:{SECRET}@{{}}",
    "of SQLAlchemy": f"postgresql+psycopg://owner:{SECRET}@{{}}",
    "of another engine": f"mysql://owner:{SECRET}@{{}}",
    "keywords": f"host=127.0.0.1 port=1 user=owner password={SECRET}",
}
LINES = ("domain list", "domain add other.example", "database check", "--json database stats", "-v history", "serve")


def must_be_hidden(text: str) -> None:
    """Neither as it is, nor as it was written."""
    assert "unter2" not in text, text
    assert "Traceback" not in text


USUAL = ("a password", "percent-encoded", "a parameter", "with an at", "a port that is none", "keywords")


@pytest.mark.parametrize("name", few(URLS, *USUAL))
def test_password_of_a_url_is_not_repeated(policyd: CommandLine, server, name: str) -> None:
    """Whether the server takes it, is not there, or the URL is none: by the environment, the settings, and as typed."""
    for place in (f"127.0.0.1:{server.port}/{policyd.name}", "127.0.0.1:1/x", "db.invalid/x"):
        url = URLS[name].format(place)
        for line in LINES if place.endswith(policyd.name) else LINES[:2]:
            ended = policyd.ends(line, POLICYD_DATABASE=url)
            must_be_hidden(ended.out + ended.err)
        policyd.settings.write_text(f"database = '{url}'\n[audit]\nsyslog = 'none'\n")
        ended = policyd.ends(LINES[0], POLICYD_DATABASE=None)
        must_be_hidden(ended.out + ended.err)
        policyd.settings.write_text("[audit]\nsyslog = 'none'\n")
    url = URLS[name].format("127.0.0.1:1/x")
    for typed in (f"domain list --database '{url}'", f"database copy --to '{url}'"):
        must_be_hidden(policyd.refuses(typed, 78))


@pytest.mark.parametrize("name", [name for name, url in URLS.items() if url.startswith("postgresql://")])
def test_password_that_is_typed_is_refused(policyd: CommandLine, server, name: str) -> None:
    """Every user of the machine sees the command line; whoever typed it must hear that at once."""
    url = URLS[name].format(f"127.0.0.1:{server.port}/{policyd.name}")
    message = policyd.refuses(f"domain list --database '{url}'", 78)
    assert message.startswith("policyd: database: a password on the command line can be read by every user")
    assert policyd.refuses(f"database copy --to '{url}'", 78) == message


def test_no_command_says_the_password_or_leaves_it_in_a_file(policyd: CommandLine, server) -> None:
    """Nor with --json or -v, whether it succeeds or not."""
    url = URLS["a password"].format(f"127.0.0.1:{server.port}/{policyd.name}")
    for line in (
        *("database upgrade", "database create", "export", f"database backup {policyd.folder}/copy.db", "undo 1"),
        *(f"-v database copy --to {policyd.folder}/other.db", "--json database check", "database upgrade --sql"),
        *("database restore x --yes", "--json replica status", f"--json database backup {policyd.folder}/copy.db"),
    ):
        ended = policyd.ends(line, POLICYD_DATABASE=url)
        must_be_hidden(ended.out + ended.err)
    for file in policyd.folder.iterdir():
        assert SECRET.encode() not in file.read_bytes()


def test_password_elsewhere_in_the_settings_is_not_repeated(policyd: CommandLine) -> None:
    """A word that is no setting, a URL without quotes, a password where its file belongs."""
    for text in (
        f'password = "{SECRET}"',
        f'databse = "postgresql://owner:{SECRET}@db.invalid/x"',
        f"database = postgresql://owner:{SECRET}@db.invalid/x",
        f'database = ["postgresql://owner:{SECRET}@db.invalid/x"]',
    ):
        policyd.settings.write_text(f"{text}\n")
        ended = policyd.ends("domain list")
        assert ended.status == 78, text
        must_be_hidden(ended.out + ended.err)


@contextmanager
def set_aside(name: str, value: str) -> Iterator[None]:
    """A variable of the environment, which libpq itself looks at."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def test_password_that_libpq_finds_by_itself_is_not_shown(policyd: CommandLine, server, tmp_path: Path) -> None:
    """PGPASSWORD, a password file, a service: whether they are right or broken."""
    service, passwords = tmp_path / "services", tmp_path / "pgpass"
    passwords.write_text(f"*:*:*:*:{SECRET}\n")
    passwords.chmod(0o644)  # which libpq refuses
    address = f"host=127.0.0.1\nport={server.port}\nuser=owner\ndbname={policyd.name}\n"
    for content in (f"[x]\n{address}password={SECRET}\n", f"[x]\n{address}password={SECRET}\nnothing={SECRET}\n"):
        service.write_text(content)
        with (
            set_aside("PGPASSWORD", SECRET),
            set_aside("PGPASSFILE", str(passwords)),
            set_aside("PGSERVICEFILE", str(service)),
        ):
            for url in (policyd.url, "postgresql://?service=x", "postgresql://owner@127.0.0.1:1/x"):
                for line in LINES:
                    ended = policyd.ends(line, POLICYD_DATABASE=url)
                    must_be_hidden(ended.out + ended.err)


def test_nothing_that_a_host_logs_or_leaves_has_the_password(policyd: CommandLine, server, tmp_path: Path) -> None:
    """It runs for months: in its log, its status, its files and its processes' command lines."""
    folder = tmp_path / "host"
    folder.mkdir()
    url = f"postgresql://owner:{SECRET}@127.0.0.1:{server.port}/{policyd.name}?sslpassword={SECRET}"
    host = Host(folder, url)
    with host:
        host.start()
        until(Path(f"{host.replica}.status").exists, "the status")
        pids = [host.pid, until(lambda: host.follower, "the process that follows")]
        said = " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)
        server.execute(f"ALTER DATABASE {policyd.name} ALLOW_CONNECTIONS false")
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{policyd.name}'")
        try:
            told = host.syslog.wait_for("the replica is not followed")
        finally:
            server.execute(f"ALTER DATABASE {policyd.name} ALLOW_CONNECTIONS true")
        status = policyd.ends(f"--config {shlex.quote(str(host.config))} --json replica status", POLICYD_DATABASE=None)
        must_be_hidden("\n".join([said, told, status.out, status.err, *host.syslog.matching("")]))
        assert host.syslog.matching("event=started")
        host.stop()
    for file in folder.iterdir():
        if file != host.config and file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file

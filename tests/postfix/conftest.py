"""One Postfix for all tests here, one policyd for each file of tests.

A file of tests may say `SETTINGS = {...}` to have its daemon run with other settings.
"""

import shlex
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.places import OPEN_PLACE
from tests.support.required import give_up

from .audit import Audit
from .authentication import authentication
from .daemon import USER, Daemon, unprivileged_command
from .instance import Postfix, make_contrib_postfix, missing_for_postfix
from .smtp import OUTSIDE, Session

Connect = Callable[..., Session]


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Where it all lives: a short path, for unix sockets, and one that other users can follow."""
    if reason := missing_for_postfix():
        give_up("POSTFIX", reason)
    path = Path(tempfile.mkdtemp(prefix="policyd-", dir=OPEN_PLACE))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)  # Postfix's processes may still be putting a file there


@pytest.fixture(scope="session")
def postfix(folder: Path) -> Iterator[Postfix]:
    """A running Postfix with the snippets of contrib/postfix."""
    instance = make_contrib_postfix(folder, USER, folder / "spawned")
    endpoint = instance.queue / "policyd"
    endpoint.mkdir()
    shutil.chown(endpoint, USER, "postfix")
    endpoint.chmod(0o2750)  # as contrib/postfix/README.rst has it
    with authentication(instance.queue / "private" / "auth"):
        try:
            instance.start()
            yield instance
        finally:
            instance.stop()


@pytest.fixture(scope="session")
def site(folder: Path) -> Path:
    """The folder of policyd's settings and database; it belongs to the user that spawn(8) runs policyd as."""
    path = folder / "site"
    path.mkdir()
    shutil.chown(path, USER)
    return path


@pytest.fixture(scope="session")
def syslog(site: Path) -> Iterator[Audit]:
    """The mail log for policyd."""
    with closing(Audit(site / "log")) as audit:
        yield audit


@pytest.fixture
def audit(syslog: Audit) -> Audit:
    """What policyd wrote to the mail log since the test began."""
    syslog.take()
    return syslog


@pytest.fixture(scope="module")
def daemon(request: pytest.FixtureRequest, postfix: Postfix, site: Path, syslog: Audit) -> Iterator[Daemon]:
    """policyd, running, with a new database that has the domain example.com."""
    syslog.take()
    for left in site.glob("policyd.*"):
        left.unlink()
    endpoint = postfix.queue / "policyd" / "policyd.sock"
    daemon = Daemon(site, endpoint, getattr(request.module, "SETTINGS", {}))
    daemon.command("domain", "add", "example.com")
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture
def policyd(daemon: Daemon) -> Callable[..., str]:
    """The command ``policyd``: words in, output back; a call ends with `status`, 0 unless it says so."""
    return daemon.command


@pytest.fixture(scope="session")
def spawned(folder: Path, site: Path) -> None:
    """Let spawn(8) start policyd."""
    command = unprivileged_command(USER, folder / "lib")
    if not command:
        give_up("POSTFIX", f"{USER} may run no Python that has what policyd needs")
    words = [*command, "--config", str(site / "policyd.toml")]
    script = folder / "spawned"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o755)


@pytest.fixture
def connect(postfix: Postfix, daemon: Daemon) -> Iterator[Connect]:
    """Opens SMTP sessions: `connect(address=…, login=…, door=…)`; by default a stranger's at the MX."""
    with ExitStack() as stack:

        def open_session(address: str = OUTSIDE, login: str = "", door: str = "mx", tls: str = "") -> Session:
            session = stack.enter_context(Session(postfix.port[door], tls))
            name = "mx.outside.example" if address == OUTSIDE else "pc.example.com"
            if tls != "wrapped":
                session.pretend(address, name, login)
            return session

        yield open_session


@pytest.fixture
def outsider(connect: Connect) -> Session:
    """A session of a mail server on the Internet with our MX."""
    return connect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Beside a failure stands what Postfix and policyd logged."""
    report = yield
    if report.failed:
        fixtures = getattr(item, "funcargs", {})
        if "postfix" in fixtures:
            report.sections.append(("Postfix's log", "\n".join(fixtures["postfix"].read_log().splitlines()[-40:])))
        if "syslog" in fixtures:
            report.sections.append(("policyd's lines in the mail log", "\n".join(fixtures["syslog"].lines()[-40:])))
        if "daemon" in fixtures:
            report.sections.append(("policyd's output", fixtures["daemon"].read_output()))
    return report

"""A setup that is killed: Postfix still takes mail, and what was begun can be taken back, or gone on with.

It is killed at some of its steps, others each time; with POLICYD_EVERY_STEP=1 at each, on every kind of host.
"""

import signal
import subprocess
import sys

import pytest

from policyd.setup.record import records
from tests.postfix.daemon import CHECKOUT

from .conftest import MakeHost
from .hosts import KINDS, Host
from .killing import IS_EACH, KILLED, some_steps

pytestmark = pytest.mark.postfix
_MAIL = "alice@lists.example.com"


def killed(host: Host, at: int, *options: str) -> bool:
    """Run `policyd setup` to the step *at*; whether it got as far as that. If not, how many it has is printed."""
    words = ["--config", str(host.settings), "setup", "--postfix-config", str(host.postfix.config), *options]
    done = subprocess.run([sys.executable, "-c", KILLED, str(at), *words], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    if done.returncode == 0:
        print(f"{host.kind}, {' '.join(options)}: {done.stderr.splitlines()[-1]}")  # noqa: T201 - how far it goes
    return done.returncode != 0


def is_begun(host: Host) -> bool:
    """Whether there is something to take back."""
    return any(not each.is_undone for each in records(host.settings))


def take_back(host: Host, before: str) -> None:
    """Take back what is begun; all must be as *before*."""
    while is_begun(host):
        host.setup("--undo")
    assert host.state() == before


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS if IS_EACH else ["debian12"])
def test_setup_that_is_killed_is_taken_back_or_gone_on_with(make_host: MakeHost, kind: str) -> None:
    """A host that loses power in the middle of it must take mail afterwards, and be as before after --undo."""
    host = make_host(kind)
    host.start()
    before = host.state()
    host.set_up()
    take_back(host, before)
    for at in some_steps(7):
        was_killed = killed(host, at, "--apply")
        assert host.reply(_MAIL).startswith("250"), at
        if at % 2:
            host.setup("--apply")
            assert host.setup().endswith("nothing to do\n"), at
            assert host.reply(_MAIL).startswith("250"), at
        take_back(host, before)
        assert host.reply(_MAIL).startswith("250"), at
        if not was_killed:
            return
    pytest.fail("there is no end of steps")


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS if IS_EACH else ["default"])
def test_taking_back_that_is_killed_is_gone_on_with(make_host: MakeHost, kind: str) -> None:
    """The way out must not be a trap."""
    host = make_host(kind)
    host.start()
    before = host.state()
    host.set_up()
    for at in some_steps(4):
        was_killed = killed(host, at, "--undo")
        assert host.reply(_MAIL).startswith("250"), at
        take_back(host, before)
        if not was_killed:
            return
        host.setup("--apply")
    pytest.fail("there is no end of steps")


@pytest.mark.full
def test_enforcing_that_is_killed_is_gone_on_with_and_taken_back(make_host: MakeHost) -> None:
    """Somebody who types it again must not read that there is nothing to do, while nothing is refused."""
    host = make_host("plain")
    host.start()
    before = host.state()
    host.set_up()
    take_back(host, before)
    for at in some_steps(3):
        host.setup("--apply")
        was_killed = killed(host, at, "--enforce")
        assert "kill -HUP" in host.setup("--enforce")
        assert 'mode = "enforce"' in host.settings.read_text()
        take_back(host, before)
        if not was_killed:
            return
    pytest.fail("there is no end of steps")

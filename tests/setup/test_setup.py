"""From a Postfix that works to policyd watching, to refusals, and back, on hosts as people have them."""

import os

import pytest

from .conftest import MakeHost
from .hosts import KINDS, Host

pytestmark = pytest.mark.postfix


def restrict_bob(host: Host) -> str:
    """Restrict a mailbox; its address."""
    address = "bob@lists.example.com"
    assert host.policyd("mailbox", "restrict", "bob", "--reason", "internal mailbox").exit_code == 0
    return address


def apply_with_a_reload_that_fails(host: Host, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `--apply` says where Postfix does not take its files again."""
    programs = host.folder / "programs"
    programs.mkdir()
    (programs / "postfix").write_text('#!/bin/sh\ncase "$*" in *reload) exit 1;; esac\nexec /usr/sbin/postfix "$@"\n')
    (programs / "postfix").chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        return host.setup("--apply", status=1)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_host_is_set_up_enforces_and_is_as_before(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Somebody who tries policyd must be able to trust it with the host, and to be rid of it without a trace."""
    host = make_host(kind)
    host.start()
    before = host.state()
    assert "to do it: policyd setup --apply" in host.setup()
    assert host.state() == before

    # Postfix is the last that is touched, and where it won't have it, it has its old files again.
    assert "serve" in host.setup("--apply", status=1)
    host.start_daemon()
    old = [(host.postfix.config / name).read_bytes() for name in ("main.cf", "master.cf")]
    assert "old files again" in apply_with_a_reload_that_fails(host, monkeypatch)
    assert [(host.postfix.config / name).read_bytes() for name in ("main.cf", "master.cf")] == old

    # In monitor mode all mail passes; what is restricted is refused only from --enforce on.
    host.setup("--apply")
    assert host.setup() == host.setup("--apply") == "nothing to do\n"
    bob = restrict_bob(host)
    assert host.reply(bob).startswith("250")
    host.setup("--enforce")
    host.reload_daemon()
    assert host.reply(bob).startswith("554 5.7.1"), "refused"
    assert host.reply("alice@lists.example.com").startswith("250")
    examined = host.policyd("doctor", "--no-probe", "--postfix-config", str(host.postfix.config))
    assert examined.exit_code == 0, examined.output

    # Who sends from inside is judged, too.
    if "submission" in host.postfix.port:
        sender = "alice@lists.example.com"
        assert host.reply("x@far.example", "submission", sender).startswith("250")
        assert host.policyd("sender", "block", "alice").exit_code == 0
        assert host.reply("x@far.example", "submission", sender).startswith("554 5.7.1")

    # And back: nobody asks any more.
    host.setup("--undo")
    assert host.state() == before
    host.stop_daemon()
    assert host.reply(bob).startswith("250")
    assert "no setup to take back" in host.setup("--undo", status=1)

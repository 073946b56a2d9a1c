"""A host with a Postfix of its own that works, and nothing of policyd but its program."""

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from click.testing import CliRunner, Result

from policyd.cli import main
from tests.postfix.authentication import authentication
from tests.postfix.daemon import CHECKOUT, USER
from tests.postfix.instance import Postfix
from tests.postfix.smtp import Session
from tests.support.waiting import until

# What a Debian host has; `local_recipient_maps` of the instance is empty, so that every local part is taken.
DEBIAN = (
    "smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination",
    "virtual_alias_maps = inline:{ { info@lists.example.com=alice@lists.example.com } }",
    "virtual_mailbox_maps = inline:{ { alice@lists.example.com=x } { bob@lists.example.com=x } }",
    "virtual_mailbox_domains = lists.example.com",
    "relay_domains = customer.example",
)
RELAYING = (
    "mydestination =",
    "relay_domains = lists.example.com, customer.example",
    "relay_recipient_maps = inline:{ { alice@lists.example.com=x } { bob@lists.example.com=x } }",
)
KINDS = ("default", "debian11", "debian12", "plain", "relaying")
_SUBMISSION = {
    "debian11": ("smtpd_recipient_restrictions=", "smtpd_relay_restrictions=permit_sasl_authenticated,reject"),
    "debian12": ("smtpd_relay_restrictions=", "smtpd_recipient_restrictions=permit_sasl_authenticated,reject"),
}


class Host:
    """A host of a *kind*, one of `KINDS`, in *folder*."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.folder = folder
        self.settings = folder / "etc-policyd" / "policyd.toml"
        doors = ["mx", *(["submission"] if kind in _SUBMISSION else [])]
        self.postfix = Postfix(folder, doors)
        self._write_main(RELAYING if kind == "relaying" else DEBIAN)
        services = [self.postfix.service("mx", "n" if kind == "plain" else "y")]
        services += self._submission()
        self.postfix.write_master(*services)
        self._make_unusual()
        self.settings.parent.mkdir()
        self.settings.write_text(
            f'database = "sqlite:///{folder}/var/policyd.db"\nuser = "{USER}"\n\n[audit]\nsyslog = "none"\n'
        )
        self._stack = ExitStack()
        self._daemon: subprocess.Popen[bytes] | None = None

    def _write_main(self, parameters: Sequence[str]) -> None:
        """What an instance of these tests has, and *parameters* instead of its own."""
        self.postfix.write_main()
        file = self.postfix.config / "main.cf"
        text = file.read_text()
        for each in ("relay_domains", *(parameter.partition(" =")[0] for parameter in parameters)):
            text = re.sub(rf"^{each} =.*\n(\s+\S.*\n)*", "", text, flags=re.MULTILINE)
        file.write_text("\n".join([text.rstrip("\n"), *parameters, ""]))

    def _submission(self) -> list[str]:
        if self.kind not in _SUBMISSION:
            return []
        options = ("syslog_name=postfix/submission", "smtpd_sasl_auth_enable=yes", "smtpd_client_restrictions=")
        lines = [f"  -o {option}" for option in (*options, *_SUBMISSION[self.kind])]
        return ["\n".join([f"127.0.0.1:{self.postfix.port['submission']} inet n - y - - smtpd", *lines])]

    def _make_unusual(self) -> None:
        """Have main.cf behind a link, with an owner and a mode that not everybody's has."""
        kept = self.folder / "kept"
        kept.mkdir()
        (self.postfix.config / "main.cf").rename(kept / "main.cf")
        (self.postfix.config / "main.cf").symlink_to("../kept/main.cf")
        os.chown(kept / "main.cf", 0, os.stat(self.folder / "data").st_gid)
        (kept / "main.cf").chmod(0o640)

    def start(self) -> None:
        """Start Postfix."""
        self._stack.enter_context(authentication(self.postfix.queue / "private" / "auth"))
        self.postfix.start()

    def stop(self) -> None:
        """Stop both."""
        self.stop_daemon()
        self.postfix.stop()
        self._stack.close()

    def start_daemon(self) -> None:
        """Start policyd, as setup says it."""
        endpoint = self.postfix.queue / "policyd" / "policyd.sock"
        with (self.folder / "policyd.output").open("ab") as out:
            self._daemon = subprocess.Popen(
                self.words("serve"), cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        until(lambda: self._is_up(endpoint), "policyd to listen")

    def _is_up(self, endpoint: Path) -> bool:
        assert self._daemon
        assert self._daemon.poll() is None, (self.folder / "policyd.output").read_text()
        return endpoint.exists()

    def reload_daemon(self) -> None:
        """Have policyd read its settings again: it is started anew, which waits for it."""
        self.stop_daemon()
        self.start_daemon()

    def stop_daemon(self) -> None:
        """Stop policyd."""
        if self._daemon:
            self._daemon.terminate()
            self._daemon.wait(60)
            self._daemon = None

    def words(self, *words: str) -> list[str]:
        """The command line of a process of its own."""
        return [sys.executable, "-m", "policyd", "--config", str(self.settings), *words]

    def policyd(self, *words: str) -> Result:
        """What a command ends with, called in this process, which is quicker."""
        return CliRunner().invoke(main, ["--config", str(self.settings), *words])

    def setup(self, *options: str, status: int = 0) -> str:
        """What `policyd setup` prints."""
        done = self.policyd("setup", "--postfix-config", str(self.postfix.config), *options)
        assert done.exit_code == status, done.output
        return done.output

    def set_up(self) -> str:
        """`setup --apply`, the daemon as it says, and the same again."""
        told = self.setup("--apply", status=1)
        assert "serve" in told, told
        self.start_daemon()
        return self.setup("--apply")

    def reply(self, recipient: str, door: str = "mx", login: str = "") -> str:
        """What a stranger is told about *recipient*; at `submission`, one who logged in, who is the sender, too."""
        with Session(self.postfix.port[door]) as session:
            session.pretend("192.0.2.7", "mx.outside.example", login)
            return session.ask(recipient, login or "carol@outside.example")

    def state(self) -> str:
        """Everything in Postfix's folders and beside the settings, but for the records: bytes, owners and modes."""
        found: dict[str, Sequence[object]] = {}
        for root in (self.postfix.config, self.folder / "kept", self.settings.parent):
            for path in sorted(root.rglob("*")):
                if "setup-" in str(path.relative_to(self.folder)):
                    continue
                status = path.lstat()
                content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
                digest = hashlib.sha256(content if isinstance(content, bytes) else content.encode()).hexdigest()
                found[str(path)] = [digest, status.st_uid, status.st_gid, stat.filemode(status.st_mode)]
        beside = sorted(each.name for each in self.folder.iterdir() if "copy" in each.name)
        return json.dumps([found, beside], indent=1)

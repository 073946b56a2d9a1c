"""The daemon with its pages, and something to see on them: as a help desk has it, and as somebody hostile makes it."""

from pathlib import Path
from typing import Any

from tests.support.fake_smtpd import FakeSmtpd, request
from tests.support.ports import free_port
from tests.support.running_daemon import Daemon

SCRIPT = "<script>document.title='hacked'</script>"
IMAGE = "'\"><img src=x onerror=alert(1)>"
TURNED = "\u202eelpmaxe\u202c\u200f"
LONG = "x" * 2000

EXAMPLE = """\
domain add example.com
domain add example.org --alias-of example.com
mailbox add Reception reception@example.com info@example.com
mailbox add "Ann Miller" ann@example.com a.miller@example.com
mailbox add "Bob Baker" bob@example.com
mailbox add Payroll payroll@example.com
mailbox add Former former@example.com
group add Accounting "Ann Miller" Payroll
group add Office Reception group:Accounting
mailbox restrict Payroll --reason "internal mailbox" --until +40d --accept @bank.example
group restrict Accounting --receive domain --reason "the team's own"
mailbox restrict "Bob Baker" --reason "on leave, please write to Reception" --until +12d
sender block Former --reason "left the company"
sender block @bulk.example --to Reception --reason "no advertising, please"
sender block @.casino.example --to @example.com --reason "nothing but advertising" --until +90d
sender block poll@research.example --to group:Office --except Reception --reason "write to Reception"
"""

# Where nothing else takes a text from outside, a name, a reason and a comment of our own tables do.
HOSTILE = f"""\
mailbox add "{SCRIPT}" script@example.com "\\"<script>alert(1)</script>\\"@example.com"
mailbox restrict "{SCRIPT}" --reason "{SCRIPT}" --accept @{"y" * 60}.example
mailbox set "{SCRIPT}" --comment "{"word " * 300}"
mailbox add "{"W" * 250}" long@example.com
mailbox restrict "{"W" * 250}" --reason "{"R" * 900}"
group add "'><img src=x onerror=alert(1)>" "{SCRIPT}" "{"W" * 250}"
sender block "{SCRIPT}" --reason "{SCRIPT}"
"""


class WebDaemon(Daemon):
    """policyd with pages on a port of loopback, in *folder*; *http* are further lines of its table of settings."""

    def __init__(self, folder: Path, *http: str) -> None:
        self.http_port = free_port()
        self._http = http
        super().__init__(folder)

    @property
    def pages(self) -> str:
        """Where the pages are."""
        return f"http://127.0.0.1:{self.http_port}/"

    def write_settings(self, *lines: str, **others: Any) -> None:
        """The settings, with the pages."""
        super().write_settings(*lines, **others)
        http = ["[http]", f'listen = "tcp:{self.http_port}:interface=127.0.0.1"', *self._http]
        self.config.write_text("\n".join([self.config.read_text(), *http, ""]))

    def fill(self, commands: str) -> None:
        """Make the tables by *commands*, a line each."""
        file = self.folder / "commands"
        file.write_text(commands)
        self.command("batch", file)

    def refuse_some(self) -> None:
        """Have it answer questions as a mail server asks them on a usual day."""
        with FakeSmtpd(str(self.socket)) as smtpd:
            for number in range(60):
                for sender, recipient in _USUAL[: 1 + number % len(_USUAL)]:
                    smtpd.ask(
                        request(
                            sender=sender,
                            recipient=recipient,
                            client_name="mx.shop.example",
                            client_address=f"192.0.2.{10 + number % 7}",
                            queue_id=f"4XyZ0B{number:06}",
                            instance=f"1d2f.{number}",
                            policy_context="inbound",
                        )
                    )

    def refuse_hostile(self) -> None:
        """Have it refuse what somebody sends who knows that it will stand on a page."""
        with FakeSmtpd(str(self.socket)) as smtpd:
            for text in (SCRIPT, TURNED, LONG, IMAGE, "{{7*7}}${7*7}", "javascript:alert(1)"):
                said = dict.fromkeys(("client_name", "queue_id", "helo_name", "policy_context"), text)
                smtpd.ask(request(sender=f"{text}@a.example", recipient=f"{text}@example.com", **said))
                said |= {"sender": f"{text}@bulk.example", "recipient": "reception@example.com"}
                smtpd.ask(request(sasl_username=text, **said))  # a block is for who has logged in, too


_USUAL = [
    ("newsletter@shop.example", "reception@example.com"),
    ("sales@list.bulk.example", "reception@example.com"),
    ("offer@bulk.example", "reception@example.com"),
    ("joe@partner.example", "bob@example.com"),
    ("invoice@shop.example", "payroll@example.com"),
    ("billing@bank.example", "payroll@example.com"),
    ("nobody@shop.example", "bbo@example.com"),
    ("friend@a.example", "ann@example.com"),
]

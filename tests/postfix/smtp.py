"""A client of Postfix that says what it is told to say, and returns what it is told."""

import re
import smtplib
import ssl
from collections.abc import Sequence
from types import TracebackType

from tests.support.waiting import LIMIT_SECONDS

from .replies import ACCEPTED

OUTSIDE = "192.0.2.7"  # in nobody's networks


class Session:
    """One SMTP connection, past EHLO. Replies are strings: code, enhanced code, text."""

    def __init__(self, port: int, tls: str = "") -> None:
        """Connect to *port* on loopback; *tls* is "starttls", "wrapped" or "" for none."""
        self._smtp: smtplib.SMTP
        if tls == "wrapped":
            self._smtp = smtplib.SMTP_SSL("127.0.0.1", port, timeout=LIMIT_SECONDS, context=_anonymous_tls())
        else:
            self._smtp = smtplib.SMTP("127.0.0.1", port, timeout=LIMIT_SECONDS)
        self._smtp.command_encoding = "utf-8"
        self.command("EHLO client.example.net")
        if tls == "starttls":
            self._smtp.starttls(context=_anonymous_tls())
            self.command("EHLO client.example.net")

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._smtp.__exit__(kind, error, trace)  # says QUIT if there still is anybody to hear it

    def command(self, line: str) -> str:
        """Say *line*; the server's reply, its lines joined by line feeds."""
        code, text = self._smtp.docmd(line)
        return f"{code} {text.decode('utf-8')}"

    def command_bytes(self, line: bytes) -> str:
        """Say *line*, which may be no UTF-8; the reply as `command` has it."""
        self._smtp.send(line + b"\r\n")
        code, text = self._smtp.getreply()
        return f"{code} {text.decode('utf-8', 'replace')}"

    def pretend(self, address: str, name: str, login: str = "") -> None:
        """Be another client, and another user, to the rest of the connection (Postfix's XCLIENT)."""
        assert self.greet_as(address, name, login).startswith("250")

    def greet_as(self, address: str, name: str, login: str = "") -> str:
        """Be another client, and another user: the reply to its EHLO, or that which refuses it before."""
        coded = re.sub(r"[^!-*,-<>-~]", lambda each: f"+{ord(each[0]):02X}", login)  # RFC 3461's xtext
        reply = self.command(f"XCLIENT NAME={name} ADDR={address} LOGIN={coded or '[UNAVAILABLE]'}")
        return self.command("EHLO client.example.net") if reply.startswith("220") else reply

    def log_in(self, user: str) -> None:
        """AUTH as *user*, whose password is always right."""
        self._smtp.login(user, "password")

    def mail(self, sender: str, *options: str) -> str:
        """MAIL FROM; "" is the null sender."""
        return self.command(" ".join([f"MAIL FROM:<{sender}>", *options]))

    def rcpt(self, recipient: str) -> str:
        """RCPT TO."""
        return self.command(f"RCPT TO:<{recipient}>")

    def ask(self, recipient: str, sender: str = "carol@outside.example", *options: str) -> str:
        """The reply to a RCPT of *recipient* in a transaction of its own, which then is dropped."""
        self.command("RSET")
        assert self.mail(sender, *options) == "250 2.1.0 Ok"
        return self.rcpt(recipient)

    def ask_all(self, sender: str, recipients: Sequence[str]) -> list[str]:
        """The replies to RCPT of each of *recipients*, all sent at once, in one transaction, which then is dropped."""
        lines = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in recipients), "RSET"]
        self._smtp.send("".join(f"{line}\r\n" for line in lines))
        replies = [self._smtp.getreply() for _ in lines]
        first, *asked, last = [f"{code} {text.decode()}" for code, text in replies]
        assert (first, last) == ("250 2.1.0 Ok", "250 2.0.0 Ok")
        return asked

    def accepts(self, recipient: str, sender: str = "carol@outside.example", *options: str) -> bool:
        """Whether the reply to such a RCPT is "Ok"."""
        return self.ask(recipient, sender, *options) == ACCEPTED

    def data(self, text: str = "Subject: greetings\n\nHello.\n") -> str:
        """Send *text* as the message; the queue id under which Postfix took it."""
        code, reply = self._smtp.data(text)
        assert code == 250, reply
        return reply.decode().rpartition(" ")[2]


def _anonymous_tls() -> ssl.SSLContext:
    """TLS without certificates, so without a key: Postfix offers it with smtpd_tls_cert_file = none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context

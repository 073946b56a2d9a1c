"""A mail log that a daemon would have written: what is asked is decided by the tables of that moment, and logged."""

from datetime import datetime
from pathlib import Path

from policyd.admin.asking import explain
from policyd.audit import AuditLog
from policyd.model import Request
from policyd.settings import load_settings
from tests.support.command_line import CommandLine
from tests.support.kept_lines import KeptLines


class KeptLog:
    """A log in a file beside the tables of *policyd*; each line has a time, and an instance of its own."""

    def __init__(self, policyd: CommandLine, name: str = "mail.log") -> None:
        self.file: Path = policyd.settings.parent / name
        self._policyd = policyd
        self._count = 0

    def ask(self, recipient: str, sender: str, at: float, *, times: int = 1, **more: str) -> str:
        """Ask about mail at *at*, in Unix seconds, so many times; the last line about it, with the head of the log."""
        line = ""
        for _ in range(times):
            self._count += 1
            known = {"protocol_state": "RCPT", "client_name": "mx.example.net", "client_address": "203.0.113.7"}
            asked = {**known, "instance": f"i{self._count}", "recipient": recipient, "sender": sender, **more}
            request = Request(**asked)
            settings = load_settings(self._policyd.settings)
            decision, _ = explain(self._policyd.store, settings, request, int(at))
            sink = KeptLines()
            AuditLog(settings.audit, sink).decided(request, decision, 0.1)
            line = self.write(sink.lines[0], at)
        return line

    def write(self, line: str, at: float, tag: str = "policyd[42]") -> str:
        """Write a line at *at*, in Unix seconds; what the log has of it."""
        written = f"{datetime.fromtimestamp(at).astimezone().isoformat()} mx {tag}: {line}"
        with self.file.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{written}\n")
        return written

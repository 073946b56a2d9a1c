"""The mail log as policyd writes it: a syslog socket, and what came in."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .waiting import until

_FIELD = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|<(?:[^>\\]|\\.)*>|[^,]*)(?:, |$)')


class Audit:
    """The lines that arrived since `clear`, oldest first, as syslog gets them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def clear(self) -> None:
        """Forget what arrived so far."""
        self.lines.clear()

    def decision(self, **wanted: str) -> dict[str, str]:
        """The fields of the first decision that has *wanted* among its own; waits for it."""
        return until(lambda: next(self._decisions(wanted), None), f"a decision with {wanted} in the audit") or {}

    def line(self, part: str) -> str:
        """The first line that holds *part*; waits for it."""
        return until(lambda: next((line for line in list(self.lines) if part in line), ""), f"{part!r} in the audit")

    def _decisions(self, wanted: dict[str, str]) -> Iterator[dict[str, str]]:
        for line in list(self.lines):
            fields = {name: value.strip('"') for name, value in _FIELD.findall(line)}
            if "action" in fields and wanted.items() <= fields.items():
                yield fields


@contextmanager
def listening_audit(path: Path) -> Iterator[Audit]:
    """Be syslog at the datagram socket *path* while the block runs."""
    audit = Audit()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(path))
        path.chmod(0o666)

        def read() -> None:
            while line := syslog.recv(65536):
                audit.lines.append(line.decode())

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield audit
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", str(path))  # an empty datagram ends the reader
            thread.join(10)
    path.unlink()

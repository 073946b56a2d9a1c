"""A log in memory: the audit's sink in tests."""


class KeptLines:
    """Keeps the lines that it is sent, while `takes` is true. It is a `policyd.syslog.Sink`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.takes = True

    def send(self, _severity: int, line: str, _said_at: float = 0.0) -> bool:
        """Keep *line*, if it is taken."""
        if self.takes:
            self.lines.append(line)
        return self.takes

    def fileno(self) -> int:
        """There is nothing to wait for."""
        return -1

    def close(self) -> None:
        """There is nothing to close."""

"""What systemd is to a service, for tests: the sockets it holds, and what it is told."""

import contextlib
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import until


def activated(*sockets: socket.socket, name: str = "policy", names: Sequence[str] = ()) -> dict[str, str]:
    """What systemd says in the environment of a service of *sockets*: all by one *name*, or by *names*.

    The descriptors come with it (`pass_fds`). `preloaded.start` gives them the numbers that systemd does, and says in
    LISTEN_PID which process is meant.
    """
    listed = ":".join(names or [name] * len(sockets))
    return {"LISTEN_PID": "", "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": listed}


@contextmanager
def held(address: Path | str, *, listens: bool = True) -> Iterator[socket.socket]:
    """A socket at a path, or on an IP address, that its holder keeps open, whoever else listens on it."""
    is_file = isinstance(address, Path)
    family = socket.AF_UNIX if is_file else socket.AF_INET6 if ":" in str(address) else socket.AF_INET
    with socket.socket(family) as made:
        made.bind(str(address) if is_file else (address, 0))
        if is_file:
            Path(address).chmod(0o640)
        if listens:
            made.listen(512)
        yield made


class Notified:
    """The socket that a service tells how it is; `variables` are for its environment."""

    def __init__(self, address: str, watchdog_seconds: float = 0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self._told: list[str] = []
        self.variables = {"NOTIFY_SOCKET": address}
        if watchdog_seconds:
            self.variables["WATCHDOG_USEC"] = str(int(watchdog_seconds * 1e6))

    def told(self) -> list[str]:
        """What came so far: of each message its first line."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._told.append(self._socket.recv(4096).decode().partition("\n")[0])
        return self._told

    def wait_for(self, line: str, count: int = 1) -> None:
        """Return when *line* was told *count* times."""
        until(lambda: self.told().count(line) >= count, f"{line} to be told")

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

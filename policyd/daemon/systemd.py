"""Takes listening sockets from systemd, and notifies it of readiness and signs of life.

Without systemd nothing is given, and nothing sent. Source: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
"""

import math
import os
import socket
import stat
import time
from collections.abc import MutableMapping

from policyd.endpoint import Endpoint, Given
from policyd.errors import SettingsError
from policyd.printable import printable

_HTTP = "http"  # the name of a socket for metrics and the pages: FileDescriptorName=http
_FIRST = 3  # the first descriptor that is passed: SD_LISTEN_FDS_START
_SEND_SECONDS = 1.0  # nobody waits longer for a systemd that doesn't read
_COPYING_SECONDS = 60  # for some thousand rows more

Environment = MutableMapping[str, str]


class Supervisor:
    """Who is notified of how this process is: systemd at the socket *address*, or nobody where that is "".

    `watchdog_seconds` is the longest time it waits for a sign of life; 0 is for ever.
    """

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        self.watchdog_seconds = watchdog_seconds if address else 0.0
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._copying_at = -math.inf  # when that was said last, as time.monotonic() counts

    @property
    def beat_seconds(self) -> float:
        """Seconds between two signs of life, half of what systemd allows; 0 is never."""
        return self.watchdog_seconds / 2

    def notify_ready(self, status: str) -> None:
        """It serves, at first or after a reload."""
        self._notify("READY=1", f"STATUS={printable(status)}")

    def notify_status(self, status: str) -> None:
        """How it is."""
        self._notify(f"STATUS={printable(status)}")

    def notify_copying(self) -> None:
        """It makes this host's replica, which may take longer than systemd waits for a start."""
        now = time.monotonic()
        if now - self._copying_at > _COPYING_SECONDS / 4:
            self._copying_at = now
            self._notify(f"EXTEND_TIMEOUT_USEC={_COPYING_SECONDS * 1_000_000}", "STATUS=copying the database")

    def notify_reloading(self) -> None:
        """It reads its settings again, until `notify_ready`."""
        self._notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def notify_stopping(self) -> None:
        """It takes no more connections."""
        self._notify("STOPPING=1", "STATUS=answering what is on its way")

    def notify_alive(self) -> None:
        """It has not hung."""
        self._notify("WATCHDOG=1")

    def _notify(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.settimeout(_SEND_SECONDS)
                connection.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), self._address)
        except OSError:
            pass  # systemd notices in its own way, and Postfix is served all the same


def find_supervisor(environment: Environment) -> Supervisor:
    """Who started this process. Its variables are taken out of *environment*: no child may speak for this process."""
    address = environment.pop("NOTIFY_SOCKET", "")
    microseconds = environment.pop("WATCHDOG_USEC", "")
    pid = environment.pop("WATCHDOG_PID", "") or str(os.getpid())
    is_watched = microseconds.isdecimal() and pid == str(os.getpid())
    return Supervisor(address if address[:1] in ("/", "@") else "", int(microseconds) / 1e6 if is_watched else 0.0)


def take_endpoints(environment: Environment) -> Given:
    """The sockets that this process was given to listen on, in their order, by what they are for.

    The variables are taken out of *environment*: neither a child may take the sockets for its own, nor Twisted, which
    looks as soon as its endpoints are imported. Raises SettingsError for what is no listening stream socket.
    """
    pid, count, listed = (environment.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count:
        return Given()
    names = listed.split(":") if listed else ["unknown"] * (int(count) if count.isdecimal() else 0)
    if count != str(len(names)):
        raise SettingsError(f"from systemd: LISTEN_FDS={count} and LISTEN_FDNAMES={listed} don't go together")
    given = [(name, _endpoint(descriptor, name)) for descriptor, name in enumerate(names, _FIRST)]
    return Given(
        tuple(endpoint for name, endpoint in given if name != _HTTP),
        tuple(endpoint for name, endpoint in given if name == _HTTP),
    )


def _endpoint(descriptor: int, name: str) -> Endpoint:
    try:
        os.set_inheritable(descriptor, False)
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise ValueError("no socket")
        given = socket.socket(fileno=descriptor)
        try:
            return _describe(given)
        finally:
            given.detach()  # it stays open
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"from systemd: descriptor {descriptor} ({name}) is not a stream socket that listens; the socket unit "
            "needs ListenStream=, and Accept=no"
        ) from error


def _describe(given: socket.socket) -> Endpoint:
    """The endpoint, as the setting `listen` would have it. Raises ValueError, OSError."""
    listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if given.type != socket.SOCK_STREAM or not listens:
        raise ValueError("it does not listen")
    name = given.getsockname()
    if given.family == socket.AF_UNIX:
        path = "@" + os.fsdecode(name[1:]) if isinstance(name, bytes) else name
        return Endpoint(f"unix:{path}", path=path, descriptor=given.fileno())
    if given.family not in (socket.AF_INET, socket.AF_INET6):
        raise ValueError("of another family")
    host, port = name[0].removeprefix("::ffff:"), name[1]
    escaped = host.replace(":", "\\:")
    return Endpoint(f"tcp:{port}:interface={escaped}", port=port, interface=host, descriptor=given.fileno())

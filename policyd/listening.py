"""Sockets to listen on: a stale file is cleared away, and what is in the way is named in one line."""

import contextlib
import os
import socket
import stat
from collections.abc import Sequence

from policyd.audit import AuditLog
from policyd.endpoint import Endpoint
from policyd.errors import ListenError, reason_of


class Listener:
    """A socket that listens on *endpoint*, and does not block. Raises ListenError.

    One that was opened before, by systemd, is taken as it is: its file, the file's mode and the queue of those who
    wait to be accepted stay when it is closed here.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._socket = _open(endpoint) if endpoint.descriptor < 0 else socket.socket(fileno=endpoint.descriptor)
        self._socket.setblocking(False)
        self.fileno = self._socket.fileno

    def accept(self) -> socket.socket:
        """The next who waits. Raises BlockingIOError if nobody does, and other kinds of OSError."""
        return self._socket.accept()[0]

    def close(self) -> None:
        """Listen no more."""
        if self.endpoint.path and self.endpoint.descriptor < 0:
            with contextlib.suppress(OSError):  # somebody has removed it, or the right to
                os.unlink(self.endpoint.path)  # before the end: later it may be that of the next daemon
        self._socket.close()

    def leave(self) -> None:
        """Let another process, which has it too, do the listening."""
        self._socket.close()


def listen_on(endpoints: Sequence[Endpoint], audit: AuditLog) -> list[Listener]:
    """A listener for each of *endpoints*. Raises ListenError, with nothing left listening."""
    listeners: list[Listener] = []
    try:
        for endpoint in endpoints:
            listeners.append(Listener(endpoint))
            given = {} if endpoint.descriptor < 0 else {"from": "systemd"}
            audit.noticed("listening", on=endpoint.text, **given)
    except ListenError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _open(endpoint: Endpoint) -> socket.socket:
    family = socket.AF_UNIX if endpoint.path else socket.AF_INET6 if ":" in endpoint.interface else socket.AF_INET
    listener = socket.socket(family)
    try:
        if endpoint.path:
            _clear_stale_socket(endpoint.path)
            listener.bind(endpoint.path)
            os.chmod(endpoint.path, endpoint.mode)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((endpoint.interface, endpoint.port))
        listener.listen(endpoint.backlog)
    except OSError as error:
        listener.close()
        raise ListenError(f"can't listen on {endpoint.text}: {reason_of(error)}; see the setting listen") from error
    except ListenError:
        listener.close()
        raise
    return listener


def _clear_stale_socket(path: str) -> None:
    """Remove the socket file that a daemon which no longer runs has left. Raises ListenError if one runs."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ListenError(f"can't listen on {path}: there is a file by that name that is no socket; remove it")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
        return
    except BlockingIOError:
        pass  # its backlog is full: it is alive
    raise ListenError(f"can't listen on {path}: a server is listening there already; stop it first")

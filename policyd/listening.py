"""Sockets to listen on: a stale file is cleared away, and what is in the way is named in one line."""

import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from policyd.audit import AuditLog
from policyd.endpoint import Endpoint, is_loopback
from policyd.errors import ListenError, SettingsError, reason_of
from policyd.files import give_socket, open_folder
from policyd.privileges import Identity


class Listener:
    """A socket that listens on *endpoint*, and does not block; *identity* is who the daemon will be, if another user.

    Raises ListenError.
    One that was opened before, by systemd, is taken as it is: its file, the file's mode and the queue of those who
    wait to be accepted stay when it is closed here.
    """

    def __init__(self, endpoint: Endpoint, identity: Identity | None = None) -> None:
        self.endpoint = endpoint
        is_given = endpoint.descriptor >= 0
        self._socket = socket.socket(fileno=endpoint.descriptor) if is_given else _open(endpoint, identity)
        self._socket.setblocking(False)
        self.fileno = self._socket.fileno

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it, as it is bound."""
        if self._socket.family == socket.AF_UNIX:
            return True
        if self._socket.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        return is_loopback(self._socket.getsockname()[0])

    def accept(self) -> socket.socket:
        """The next who waits. Raises BlockingIOError if nobody does, and other kinds of OSError."""
        return self._socket.accept()[0]

    def close(self) -> None:
        """Listen no more. A file that this user may not remove is left to the next start."""
        if self.endpoint.path and self.endpoint.descriptor < 0:
            with suppress(OSError):
                os.unlink(self.endpoint.path)  # before the end: later it may be that of the next daemon
        self._socket.close()

    def leave(self) -> None:
        """Let another process, which has it too, do the listening."""
        self._socket.close()


def listen_on(endpoints: Sequence[Endpoint], identity: Identity | None, *, allow_remote: bool) -> list[Listener]:
    """A listener for each of *endpoints*, for a daemon that will be *identity*.

    Raises ListenError, and SettingsError where other machines reach one and that was not asked for, with nothing left
    listening.
    """
    listeners: list[Listener] = []
    try:
        for endpoint in endpoints:
            listeners.append(Listener(endpoint, identity))
            if not (allow_remote or listeners[-1].is_local):
                raise SettingsError(
                    f"{endpoint.text}: can be reached from other machines, and anybody who reaches it can find out who "
                    "has a mailbox; let it listen on 127.0.0.1, or say allow_remote = true in the settings file"
                )
    except (ListenError, SettingsError):
        for listener in listeners:
            listener.close()
        raise
    return listeners


def tell_of(listeners: Sequence[Listener], audit: AuditLog) -> None:
    """Log where the daemon listens."""
    for listener in listeners:
        given = {} if listener.endpoint.descriptor < 0 else {"from": "systemd"}
        audit.noticed("listening", on=listener.endpoint.text, **given)


def _open(endpoint: Endpoint, identity: Identity | None) -> socket.socket:
    try:
        if not endpoint.path:
            return _bind(endpoint)
        if problem := open_folder(Path(endpoint.path)):
            raise ListenError(f"can't listen on {endpoint.path}: {problem}")
        if identity is None:
            return _bind(endpoint)
        # As the new user, who then can remove the file, and to whom no link in the folder is a way to others' files.
        with suppress(PermissionError), identity.acting():
            return _bind(endpoint)
        listener = _bind(endpoint)
        give_socket(Path(endpoint.path), identity)
        return listener
    except OSError as error:
        raise ListenError(f"can't listen on {endpoint.text}: {reason_of(error)}; see the setting listen") from error


def _bind(endpoint: Endpoint) -> socket.socket:
    family = socket.AF_UNIX if endpoint.path else socket.AF_INET6 if ":" in endpoint.interface else socket.AF_INET
    listener = socket.socket(family)
    try:
        if endpoint.path:
            _clear_stale_socket(endpoint.path)
            before = os.umask(0o777 & ~endpoint.mode)  # its mode from the start: a name may be swapped before a chmod
            try:
                listener.bind(endpoint.path)
            finally:
                os.umask(before)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((endpoint.interface, endpoint.port))
        listener.listen(endpoint.backlog)
    except (OSError, ListenError):
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

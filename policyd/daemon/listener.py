"""Opens the sockets to listen on, and accepts connections, as many as are allowed.

A stale socket file is removed; anything else in its place is reported in one line.
"""

import errno
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.failure import Failure
from zope.interface import implementer

from policyd.audit import AuditLog
from policyd.daemon.admission import QUIET_SECONDS, Admission
from policyd.daemon.server import PolicyFactory
from policyd.endpoint import Endpoint, is_loopback
from policyd.errors import ListenError, SettingsError, reason_of
from policyd.files import Identity, give_socket, owner_for_socket, remove_socket, socket_at, why_replaceable

_AT_ONCE = 64  # connections accepted before others get their turn
_GIVING_WAY_AT_ONCE = 32  # those that are closed for new ones keep their descriptors to the end of the turn
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ROOT = Identity("root", 0, 0, (0,))
_PAUSE_SECONDS = 0.1  # where there is no descriptor for one more connection


class Listener:
    """A socket that listens on *endpoint*, and does not block; *identity* is who the daemon will be, if another user.

    Raises ListenError, which names the *setting* that the endpoint comes from.
    One that was opened before, by systemd, is taken as it is: its file, the file's mode and the queue of those who
    wait to be accepted stay when it is closed here.
    """

    def __init__(self, endpoint: Endpoint, identity: Identity | None = None, setting: str = "listen") -> None:
        self.endpoint = endpoint
        is_given = endpoint.descriptor >= 0
        self._socket = socket.socket(fileno=endpoint.descriptor) if is_given else _open(endpoint, identity, setting)
        self._socket.setblocking(False)
        self._file: tuple[int, int] | None = None  # the socket's, where it was made here
        if endpoint.path and not is_given:
            with suppress(OSError):
                self._file = socket_at(Path(endpoint.path))
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
        if self._file is not None:
            with suppress(OSError):
                remove_socket(Path(self.endpoint.path), self._file)  # and not that of another daemon
        self._socket.close()

    def leave(self) -> None:
        """Let another process, which has it too, do the listening."""
        self._socket.close()


@implementer(IReadDescriptor)
class Acceptor:
    """Gives *factory* the connections of *listener*; where *admission* has no room, one of them gives way to each.

    Where no descriptor is left, connections wait in the kernel's queue, and it tries again after a pause. Twisted's own
    port is not for sockets that others opened: it changes the mode of the file, removes it, and ends the listening for
    all processes.
    """

    def __init__(
        self, listener: Listener, factory: PolicyFactory, admission: Admission, reactor: PosixReactorBase
    ) -> None:
        self.fileno = listener.fileno
        self._listener = listener
        self._factory = factory
        self._admission = admission
        self._reactor = reactor
        self._accepted: socket.socket | None = None  # Twisted has not got it yet, since no descriptor was left
        self._watch: IDelayedCall | None = None  # the next look at whether what is logged is over
        self._is_closed = False
        self._resume()

    def close(self) -> None:
        """Accept no more."""
        self._is_closed = True
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        self._reactor.removeReader(self)
        self._listener.close()
        self._let_go()

    def doRead(self) -> None:
        """Accept the connections that wait."""
        gave_way = 0
        for _ in range(_AT_ONCE):
            if gave_way == _GIVING_WAY_AT_ONCE:
                return
            try:
                self._accepted = self._accepted or self._listener.accept()
                if self._admission.has_room(len(self._factory.connections)):
                    self._adopt(self._accepted)
                elif self._factory.make_room():
                    gave_way += 1
                    self._admission.gave_way()
                    self._keep_watch()
                    self._adopt(self._accepted)
                else:  # all have asked something just now; in the next turn they are answered
                    self._reactor.callLater(0, self._go_on)
                    return
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                # else it has gone away meanwhile
            self._let_go()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends, or dropped this for an error that it has logged: the next in line is served yet."""
        self._let_go()
        if not self._is_closed:
            self._reactor.callLater(_PAUSE_SECONDS, self._resume)

    def logPrefix(self) -> str:
        """What Twisted calls this."""
        return "listener"

    def _adopt(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        self._reactor.adoptStreamConnection(accepted.fileno(), accepted.family, self._factory)

    def _pause(self, error: OSError) -> None:
        self._admission.ran_short(error)
        self._keep_watch()
        self._reactor.removeReader(self)
        self._reactor.callLater(_PAUSE_SECONDS, self._resume)

    def _go_on(self) -> None:
        if self._accepted:
            self.doRead()

    def _resume(self) -> None:
        if not self._is_closed:
            self._reactor.addReader(self)
            self._go_on()

    def _let_go(self) -> None:
        if self._accepted:
            self._accepted.close()  # Twisted has a descriptor of its own
            self._accepted = None

    def _keep_watch(self) -> None:
        if self._watch is None or not self._watch.active():
            self._watch = self._reactor.callLater(QUIET_SECONDS, self._check_over)

    def _check_over(self) -> None:
        if not self._admission.check_over():
            self._keep_watch()


def listen_on(
    endpoints: Sequence[Endpoint], identity: Identity | None, *, allow_remote: bool, setting: str = "listen"
) -> list[Listener]:
    """A listener for each of *endpoints*, which are those of *setting*, for a daemon that will be *identity*.

    Raises ListenError, and SettingsError where other machines reach one and that was not asked for, with nothing left
    listening.
    """
    listeners: list[Listener] = []
    try:
        for endpoint in endpoints:
            listeners.append(Listener(endpoint, identity, setting))
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


def log_listening(listeners: Sequence[Listener], audit: AuditLog, serves: str = "") -> None:
    """Log where the daemon listens; what it *serves* there, where that is not answers for Postfix."""
    for listener in listeners:
        given = {"serves": serves} if serves else {}
        given |= {} if listener.endpoint.descriptor < 0 else {"from": "systemd"}
        audit.noticed("listening", on=listener.endpoint.text, **given)


def _open(endpoint: Endpoint, identity: Identity | None, setting: str) -> socket.socket:
    try:
        if not endpoint.path:
            return _bind(endpoint)
        if problem := why_replaceable(Path(endpoint.path)):
            raise ListenError(f"can't listen on {endpoint.path}: {problem}")
        if os.geteuid() != 0:
            return _bind(endpoint)
        # Bind as the new user: he can remove the file later, and a link in the folder leads him only where he may go.
        if identity is not None:
            with suppress(PermissionError), identity.acting():
                return _bind(endpoint)
        return _bind_as_owner(endpoint, identity or _ROOT)
    except OSError as error:
        raise ListenError(f"can't listen on {endpoint.text}: {reason_of(error)}; see the setting {setting}") from error


def _bind_as_owner(endpoint: Endpoint, identity: Identity) -> socket.socket:
    """Listen for *identity* in a folder that others own: its owner can have a link lead nowhere that he can't go."""
    path = Path(endpoint.path)
    owner = owner_for_socket(path)
    with nullcontext() if owner is None else owner.acting():
        listener = _bind(endpoint)
    try:
        if owner is not None or identity is not _ROOT:
            give_socket(path, owner, identity)
    except OSError:
        listener.close()
        raise
    return listener


def _bind(endpoint: Endpoint) -> socket.socket:
    family = socket.AF_UNIX if endpoint.path else socket.AF_INET6 if ":" in endpoint.interface else socket.AF_INET
    listener = socket.socket(family)
    try:
        # Take the place: a path from a daemon that has died, a port even where its old connections linger.
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

"""Connections of a daemon that is one process: accepted from the sockets it listens on, as many as may be."""

import errno
import socket
from typing import Any

from policyd.limits import QUIET_SECONDS, Admission
from policyd.listening import Listener
from policyd.server import PolicyFactory

_AT_ONCE = 64  # connections accepted before others get their turn
_GIVING_WAY_AT_ONCE = 32  # those that are closed for new ones keep their descriptors to the end of the turn
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_SECONDS = 0.1  # where there is no descriptor for one more connection


class Acceptor:
    """Gives *factory* the connections of *listener*; where *admission* has no room, one of them gives way to each.

    Where there is no descriptor left, those who wait go on waiting; to ask again at once would be a spin. Twisted's
    own port is not for sockets of others: it changes the mode of the file, removes it, and ends the listening for all.
    """

    def __init__(self, listener: Listener, factory: PolicyFactory, admission: Admission, reactor: Any) -> None:
        self.fileno = listener.fileno
        self._listener = listener
        self._factory = factory
        self._admission = admission
        self._reactor = reactor
        self._accepted: socket.socket | None = None  # and not Twisted's yet, for want of a descriptor
        self._watch: Any = None  # the next look at whether what is logged is over
        self._is_closed = False
        self._resume()

    def close(self) -> None:
        """Take no more."""
        self._is_closed = True
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        self._reactor.removeReader(self)
        self._listener.close()
        self._let_go()

    def doRead(self) -> None:
        """Take those who wait."""
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

    def connectionLost(self, reason: object) -> None:
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
            self._watch = self._reactor.callLater(QUIET_SECONDS, self._settle)

    def _settle(self) -> None:
        if not self._admission.settle():
            self._keep_watch()

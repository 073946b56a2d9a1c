"""The web process: it serves metrics and pages until its parent ends it. No answer to Postfix waits for it."""

import socket
from collections.abc import Sequence
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from policyd.audit import AuditLog, open_audit
from policyd.minutes import MINUTE
from policyd.settings import Settings
from policyd.watching import WatchedProcesses
from policyd.web.acceptor import Acceptor, Listening
from policyd.web.access import Access, read_token
from policyd.web.context import Threads, WebContext
from policyd.web.site import make_desk, make_site

_ALIVE = b"."  # what the parent gets as a sign of life
_DRAIN_SECONDS = 2.0  # for requests that are being answered at the end
_SETTLE_SECONDS = 0.2  # between two looks whether they are


class WebService(Service):
    """Serves on *listeners* until *channel* is closed; each *beat_seconds* a sign of life goes there."""

    def __init__(
        self,
        settings: Settings,
        processes: WatchedProcesses,
        listeners: Sequence[Listening],
        channel: socket.socket,
        reactor: PosixReactorBase,
        beat_seconds: float,
    ) -> None:
        self.audit: AuditLog = open_audit(settings.audit, reactor)
        self._threads = Threads(reactor)
        context = WebContext(settings, processes, self._threads)
        self._desk = make_desk(context)
        self._site = make_site(context, self._desk, _access(settings), self.audit, reactor)
        self._acceptors = [Acceptor(each, self._site, reactor) for each in listeners]
        self._channel = channel
        self._reactor = reactor
        self._beat_seconds = beat_seconds
        self._beat = LoopingCall(self._report)
        self._beat.clock = reactor
        self._sampling = LoopingCall(self._desk.sample)
        self._sampling.clock = reactor

    def startService(self) -> None:
        """Serve from now on."""
        super().startService()
        self._threads.start()
        self._site.doStart()
        for acceptor in self._acceptors:
            acceptor.start()
        self._reactor.addReader(_EndOfChannel(self._channel, self._reactor))
        self._reactor.callWhenRunning(self._beat.start, self._beat_seconds)
        self._reactor.callWhenRunning(self._sampling.start, MINUTE)

    def reload(self) -> None:
        """The parent starts another process with the new settings, and ends this one."""

    def stopService(self) -> Deferred[None]:
        """Accept no more, and answer what is on its way, for a moment at most."""
        super().stopService()
        for acceptor in self._acceptors:
            acceptor.close()
        return self._drained().addCallback(lambda _: self._close())

    def _drained(self) -> Deferred[None]:
        """Fires when nobody waits for an answer. On a connection that has just been accepted, a request is coming."""
        drained: Deferred[None] = Deferred()
        deadline = self._reactor.seconds() + _DRAIN_SECONDS

        def look() -> None:
            if not self._site.is_answering or self._reactor.seconds() > deadline:
                looking.stop()
                drained.callback(None)

        looking = LoopingCall(look)
        looking.clock = self._reactor
        looking.start(_SETTLE_SECONDS, now=False)
        return drained

    def _close(self) -> None:
        self._site.doStop()
        self.audit.close()  # a thread that still waits for a server ends with the process

    def _report(self) -> None:
        with suppress(OSError):  # the parent is busy, or gone: the end of the channel tells
            self._channel.send(_ALIVE)


def _access(settings: Settings) -> Access:
    """Who gets in. Raises SettingsError where the token can't be read."""
    file = settings.http.token_file
    return Access(read_token(file) if file else "", settings.http.user_header)


@implementer(IReadDescriptor)
class _EndOfChannel:
    """Stops *reactor* when the parent closes the *channel*, on purpose or by dying."""

    def __init__(self, channel: socket.socket, reactor: PosixReactorBase) -> None:
        channel.setblocking(False)
        self.fileno = channel.fileno
        self._channel = channel
        self._reactor = reactor

    def doRead(self) -> None:
        """Look whether it was closed; nothing is ever sent."""
        with suppress(BlockingIOError):
            self._channel.recv(1)
            self._reactor.removeReader(self)
            self._reactor.stop()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended."""

    def logPrefix(self) -> str:
        """What Twisted calls this."""
        return "channel"

"""The wiring: Settings -> a daemon that listens, decides, and can be told to read its settings again."""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure

from policyd import __version__
from policyd.audit import AuditLog, open_audit
from policyd.decide import Decider
from policyd.endpoint import Endpoint
from policyd.errors import ListenError, SettingsError, StoreError
from policyd.listening import clear_stale_socket, listen_error
from policyd.server import PolicyFactory
from policyd.settings import Settings
from policyd.store.connect import database_path
from policyd.store.lookup import Lookup


class PolicyService(Service):
    """The daemon, on *endpoints*. *load* gives the settings anew, for SIGHUP; *reactor* is Twisted's."""

    def __init__(
        self, settings: Settings, endpoints: Sequence[Endpoint], load: Callable[[], Settings], reactor: Any
    ) -> None:
        self._endpoints = endpoints
        self._load = load
        self._reactor = reactor
        self._ports: list[Any] = []
        self._settings = settings
        self._lookup = Lookup(database_path(settings.database))
        self.audit = open_audit(settings.audit, reactor)
        self.factory = PolicyFactory(Decider(settings, self._lookup), self.audit, reactor)

    def startService(self) -> None:
        """Open the database, then listen. Raises StoreError or ListenError, with nothing left listening."""
        self._lookup.begin()
        self._lookup.end()
        try:
            for endpoint in self._endpoints:
                self._ports.append(_listen(endpoint, self.factory, self._reactor))
                self.audit.noticed("listening", on=endpoint.text)
        except ListenError:
            for port, endpoint in zip(self._ports, self._endpoints, strict=False):  # as many as there are ports
                port.stopListening()
                if endpoint.path:
                    os.unlink(endpoint.path)  # Twisted would do it in a reactor that never runs now
            self.audit.close()
            raise
        super().startService()
        self.announce("started")

    def announce(self, event: str) -> None:
        """Log every effective setting."""
        self.audit.noticed(event, version=__version__, pid=os.getpid(), **_described(self._settings))

    def reload(self) -> None:
        """Take the settings anew; those that can't be taken are reported, and the old ones stay."""
        self._lookup.close()  # one connection to a file at a time; where it stays, it opens again by itself
        settings = reread(self._load, self._settings, self.audit)
        if settings is None:
            return
        lookup = Lookup(database_path(settings.database))
        audit = open_audit(settings.audit, self._reactor)
        audit.take_over(self.audit)
        self._settings, self._lookup, self.audit = settings, lookup, audit
        self.factory.decider, self.factory.audit = Decider(settings, lookup), self.audit
        self.announce("reloaded")

    def stopService(self) -> Deferred[None]:
        """Take no more connections, answer what is on its way, close."""
        super().stopService()
        stopped = [port.stopListening() for port in self._ports]
        done = DeferredList([each for each in (*stopped, self.factory.drain()) if each is not None])
        return done.addCallback(lambda _: self._close())

    def observe(self, event: LogEvent) -> None:
        """Twisted's own log: what is worth a warning goes to ours."""
        if event.get("log_level", LogLevel.info) >= LogLevel.warn:
            failure = event.get("log_failure")
            problem = failure.getTraceback() if failure else ""
            self.audit.warned(f"{formatEvent(event)} {problem}".strip())

    def _close(self) -> None:
        self.audit.noticed("stopped", pid=os.getpid())
        self.audit.close()
        self._lookup.close()


class HandedConnections:
    """Reads *channel*, on which the parent of several workers hands over connections, and gives them to *factory*.

    It is told how many were taken, and how many of them have ended. When it closes the channel, the reactor stops.
    Source: unix(7), SCM_RIGHTS; `policyd.workers`.
    """

    def __init__(self, channel: socket.socket, factory: PolicyFactory, reactor: Any) -> None:
        channel.setblocking(False)
        self.fileno = channel.fileno
        self._channel = channel
        self._factory = factory
        self._reactor = reactor
        self._taken = self._ended = 0
        factory.when_lost = self._end

    def doRead(self) -> None:
        """Take one connection."""
        try:
            octet, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
        except BlockingIOError:
            return
        except ConnectionResetError:
            octet, descriptors = b"", []
        if not octet:
            self._reactor.removeReader(self)
            self._reactor.stop()
            return
        self._taken += 1
        if descriptors:
            self._adopt(descriptors[0])
            self._tell()
        else:  # this process has as many as it may
            self._end()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended."""

    def logPrefix(self) -> str:
        """What Twisted calls this."""
        return "channel"

    def _adopt(self, descriptor: int) -> None:
        with socket.socket(fileno=descriptor) as connection:
            try:
                self._reactor.adoptStreamConnection(descriptor, connection.family, self._factory)
            except OSError:  # it has gone away meanwhile
                self._end()

    def _end(self) -> None:
        self._ended += 1
        self._tell()

    def _tell(self) -> None:
        try:
            self._channel.send(b"%d %d" % (self._taken, self._ended))
        except BlockingIOError:  # the parent is busy
            self._reactor.callLater(0.1, self._tell)
        except OSError:
            pass  # it is gone, as the end of the channel will tell


def check_database(settings: Settings) -> None:
    """Raises StoreError unless there is a database that can be read."""
    lookup = Lookup(database_path(settings.database))
    lookup.begin()
    lookup.close()


def reread(load: Callable[[], Settings], kept: Settings, audit: AuditLog) -> Settings | None:
    """The settings anew, but for those that only a restart changes; None, and a warning, where they can't be taken.

    This process must have no connection to the database.
    """
    try:
        settings = load()
        check_database(settings)
    except (SettingsError, StoreError) as error:
        audit.warned(f"the settings stay as they were: {error}")
        return None
    if settings.listen != kept.listen:
        audit.warned("listen is as it was; to change it, restart")
    if settings.workers != kept.workers:
        audit.warned("workers is as it was; to change it, restart")
    return attrs.evolve(settings, listen=kept.listen, workers=kept.workers)


def _listen(endpoint: Endpoint, factory: PolicyFactory, reactor: Any) -> Any:
    try:
        if endpoint.path:
            clear_stale_socket(endpoint.path)
            return reactor.listenUNIX(endpoint.path, factory, backlog=endpoint.backlog, mode=endpoint.mode)
        return reactor.listenTCP(endpoint.port, factory, backlog=endpoint.backlog, interface=endpoint.interface)
    except (CannotListenError, OSError) as error:
        raise listen_error(endpoint, error) from error


def _described(settings: Settings) -> dict[str, str]:
    """The effective settings, a word each."""
    described: dict[str, str] = {}
    for key, value in attrs.asdict(settings, recurse=False).items():
        if key == "listen":
            continue  # each endpoint is logged when it is listened on
        if key == "audit":
            described |= {f"audit.{name}": str(each) for name, each in attrs.asdict(value).items()}
        elif key == "reply":
            described |= {f"reply.{rule}": text for rule, text in value.items()}
        elif isinstance(value, (tuple, frozenset)):
            described[key] = " ".join(sorted(map(str, value)))
        else:
            described[key] = str(value).lower() if isinstance(value, bool) else str(value)
    return described

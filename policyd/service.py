"""The wiring: Settings -> a daemon that listens, decides, and can be told to read its settings again."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure

from policyd import __version__
from policyd.acceptor import Acceptor
from policyd.audit import AuditLog, open_audit
from policyd.decide import Decider
from policyd.errors import SettingsError, StoreError
from policyd.files import check_database as check_permissions
from policyd.files import owner_of
from policyd.limits import Admission
from policyd.listening import Listener, tell_of
from policyd.server import SWEEP_SECONDS, Patience, PolicyFactory
from policyd.settings import Settings
from policyd.store.database import Database
from policyd.store.lookup import Lookup
from policyd.systemd import Supervisor

# What the parent of several workers sends with a connection: take it; take it, and close another one for it. And by
# itself: tell which one that would be.
ADOPT, MAKE_ROOM, TELL = b"+", b"!", b"?"
_NOBODY = (4, 0)  # what is told where none would be closed

_TIDY_SECONDS = 5.0  # between two looks whether a command left something in the database's log
_HEARTBEAT_SECONDS = 5.0  # between two signs of life of a worker, at most


class PolicyService(Service):
    """The daemon, on *listeners*. *load* gives the settings anew, for SIGHUP; *reactor* is Twisted's.

    *supervisor* hears how it is: nobody does unless one is given.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        load: Callable[[], Settings],
        reactor: Any,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._listeners = listeners
        self._load = load
        self._reactor = reactor
        self._supervisor = supervisor or Supervisor()
        self._acceptors: list[Acceptor] = []
        self._admission: Admission | None = None  # where there are no listeners, others admit
        self._settings = settings
        self._lookup = Lookup(Database(settings.database))
        self.audit = open_audit(settings.audit, reactor)
        self.factory = PolicyFactory(Decider(settings, self._lookup), self.audit, reactor, _patience(settings))

    def startService(self) -> None:
        """Open the database, then take connections. Raises StoreError."""
        _check_place(Database(self._settings.database).path)
        self._lookup.begin()
        self._lookup.end()
        if self._listeners:
            self._admission = Admission(self._settings.max_connections, 0, self.audit)
            self._acceptors = [Acceptor(each, self.factory, self._admission, self._reactor) for each in self._listeners]
            tell_of(self._listeners, self.audit)
            warn_of_ways_past(self._settings, self.audit)
        super().startService()
        self._reactor.callLater(0, self._tell_started)  # when the reactor runs, and signals are seen to

    def _tell_started(self) -> None:
        self.announce("started")
        self._tell_ready()
        self._tidy()
        if self._supervisor.beat_seconds:
            self._beat()

    def announce(self, event: str) -> None:
        """Log every effective setting."""
        self.audit.noticed(event, version=__version__, pid=os.getpid(), **_described(self._settings))

    def reload(self) -> None:
        """Take the settings anew; those that can't be taken are reported, and the old ones stay."""
        self._supervisor.tell_reloading()
        self._take_settings()
        self._tell_ready()

    def _take_settings(self) -> None:
        self._lookup.close()  # one connection to a file at a time; where it stays, it opens again by itself
        settings = reread(self._load, self._settings, self.audit)
        if settings is None:
            return
        lookup = Lookup(Database(settings.database))
        audit = open_audit(settings.audit, self._reactor)
        audit.take_over(self.audit)
        self._settings, self._lookup, self.audit = settings, lookup, audit
        self.factory.decider, self.factory.audit = Decider(settings, lookup), self.audit
        self.factory.patience = _patience(settings)
        if self._admission is not None:
            self._admission.audit = self.audit
            self._admission.set_limit(settings.max_connections)
        self.announce("reloaded")

    def stopService(self) -> Deferred[None]:
        """Take no more connections, answer what is on its way, close."""
        super().stopService()
        self._supervisor.tell_stopping()
        for acceptor in self._acceptors:
            acceptor.close()
        return self.factory.drain().addCallback(lambda _: self._close())

    def observe(self, event: LogEvent) -> None:
        """Twisted's own log: what is worth a warning goes to ours."""
        if event.get("log_level", LogLevel.info) >= LogLevel.warn:
            failure = event.get("log_failure")
            problem = failure.getTraceback() if failure else ""
            self.audit.warned(f"{formatEvent(event)} {problem}".strip())

    def _tell_ready(self) -> None:
        where = " and ".join(each.endpoint.text for each in self._listeners)
        self._supervisor.tell_ready(f"answering on {where}")

    def _tidy(self) -> None:
        self._lookup.tidy()
        self._reactor.callLater(_TIDY_SECONDS, self._tidy)

    def _beat(self) -> None:
        self._supervisor.tell_alive()
        self._reactor.callLater(self._supervisor.beat_seconds, self._beat)

    def _close(self) -> None:
        if self._admission is not None:
            self._admission.end()
        self.audit.noticed("stopped", pid=os.getpid())
        self.audit.close()
        self._lookup.close()


class HandedConnections:
    """Reads *channel*, on which the parent of several workers hands over connections, and gives them to *factory*.

    It is told how many were taken, and how many of them have ended, also every *beat_seconds*, as a sign of life; and
    when it asks, which one would be closed for a new one. When it closes the channel, the reactor stops.
    Source: unix(7), SCM_RIGHTS; `policyd.workers`.
    """

    def __init__(self, channel: socket.socket, factory: PolicyFactory, reactor: Any, beat_seconds: float) -> None:
        channel.setblocking(False)
        self.fileno = channel.fileno
        self._channel = channel
        self._factory = factory
        self._reactor = reactor
        self._beat_seconds = beat_seconds
        self._taken = self._ended = 0
        self._is_asked = False  # which connection would be closed for a new one
        factory.when_lost = self._end
        reactor.callWhenRunning(reactor.callLater, 0, self._beat)  # once the service has told that it started

    def doRead(self) -> None:
        """Take one connection, or tell which one would be closed for it."""
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
        self._is_asked = self._is_asked or octet != ADOPT
        if octet == TELL:
            self._tell()
            return
        self._taken += 1
        if descriptors:
            self._take(descriptors[0], makes_room=octet == MAKE_ROOM)
        else:  # this process has as many as it may
            self._end()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended."""

    def logPrefix(self) -> str:
        """What Twisted calls this."""
        return "channel"

    def _take(self, descriptor: int, *, makes_room: bool) -> None:
        if makes_room and self._factory.connections and not self._factory.make_room():
            self._reactor.callLater(0, self._take, descriptor, makes_room=True)  # all have asked something just now
            return
        self._adopt(descriptor)
        self._tell()

    def _adopt(self, descriptor: int) -> None:
        with socket.socket(fileno=descriptor) as connection:
            try:
                self._reactor.adoptStreamConnection(descriptor, connection.family, self._factory)
            except OSError:  # it has gone away meanwhile
                self._end()

    def _beat(self) -> None:
        self._tell()
        self._reactor.callLater(self._beat_seconds, self._beat)

    def _end(self) -> None:
        self._ended += 1
        self._tell()

    def _tell(self) -> None:
        told = [self._taken, self._ended, *(self._first_to_go() if self._is_asked else ())]
        try:
            self._channel.send(b" ".join(b"%d" % number for number in told))
            self._is_asked = False
        except BlockingIOError:  # the parent is busy
            self._reactor.callLater(0.1, self._tell)
        except OSError:
            pass  # it is gone, as the end of the channel will tell

    def _first_to_go(self) -> tuple[int, int]:
        """The standing of the connection that would be closed for a new one, with a time that all processes share."""
        connection = self._factory.first_to_go()
        if connection is None:
            return _NOBODY
        place, since = connection.standing()
        return place, int(time.monotonic()) - (self._factory.tick - since) * SWEEP_SECONDS


def heartbeat_seconds(supervisor: Supervisor) -> float:
    """How often a worker gives its parent a sign of life."""
    return min(supervisor.beat_seconds or _HEARTBEAT_SECONDS, _HEARTBEAT_SECONDS)


def check_database(settings: Settings) -> None:
    """Raises StoreError unless there is a database that can be read, and that others can't write."""
    _check_place(Database(settings.database).path)
    lookup = Lookup(Database(settings.database))
    lookup.begin()
    lookup.close()


def warn_of_ways_past(settings: Settings, audit: AuditLog) -> None:
    """Log a warning where the settings leave a way to every mailbox on which nothing is ever refused.

    Without an origin, policyd has no opinion on a recipient without a domain; Postfix delivers it in its `myorigin`.
    """
    if not settings.origin:
        audit.warned(
            "no origin is set: mail to <bob> is let through",
            advice="set origin to what postconf -h myorigin says, and manage the address literals of this host",
        )


def _check_place(path: Path) -> None:
    """Root that stays root serves from a folder of root's only: SQLite opens by name what is in it."""
    check_permissions(path)
    with suppress(OSError):  # the opener tells
        if (owner := owner_of(path)) is not None:
            raise SettingsError(
                f"user: as root, policyd does not serve {path}, in a folder of {owner.user}'s; "
                f'set user = "{owner.user}" in the settings file'
            )


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
    if settings.user != kept.user:
        audit.warned("user is as it was; to change it, restart")
    if settings.group != kept.group:
        audit.warned("group is as it was; to change it, restart")
    return attrs.evolve(settings, listen=kept.listen, workers=kept.workers, user=kept.user, group=kept.group)


def _patience(settings: Settings) -> Patience:
    return Patience(settings.idle_seconds, settings.request_seconds)


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

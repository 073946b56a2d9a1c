"""The daemon as a service: it listens, answers, reads its settings again at SIGHUP, and waits for answers at a stop."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.posixbase import PosixReactorBase

from policyd import __version__
from policyd.audit import UNWATCHED, AuditLog, Watched, open_audit
from policyd.daemon.admission import Admission
from policyd.daemon.connection import Timeouts
from policyd.daemon.fast_twisted import missing_names
from policyd.daemon.listener import Acceptor, Listener, log_listening
from policyd.daemon.server import PolicyFactory
from policyd.daemon.systemd import Supervisor
from policyd.decide import Decider
from policyd.errors import SettingsError, StoreError, StoreMissingError
from policyd.files import check_permissions, owner_of
from policyd.settings import TABLES, Settings
from policyd.store.connection import Database
from policyd.store.lookup import Lookup

DRAIN_SECONDS = 5  # for requests that are on their way when the daemon stops; prefork.STOP_SECONDS is for all workers
_TIDY_SECONDS = 5.0  # between two looks whether a command left something in the database's log


class PolicyService(Service):
    """The daemon, on *listeners*. *load* reads the settings again, for SIGHUP; *reactor* is Twisted's.

    *supervisor*, if given, is notified of how it is. What it does is *watched*.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        load: Callable[[], Settings],
        reactor: PosixReactorBase,
        supervisor: Supervisor | None = None,
        watched: Watched = UNWATCHED,
    ) -> None:
        self._listeners = listeners
        self._load = load
        self._reactor = reactor
        self._supervisor = supervisor or Supervisor()
        self._acceptors: list[Acceptor] = []
        self._admission: Admission | None = None  # where there are no listeners, others admit
        self._settings = settings
        self._database = Database.to_answer_from(settings)
        self._lookup = Lookup(self._database)
        self._watched = watched
        self.audit = open_audit(settings.audit, reactor, watched)
        decider = Decider(settings, self._lookup)
        self.factory = PolicyFactory(decider, self.audit, reactor, _timeouts(settings), watched.counters)

    def startService(self) -> None:
        """Open the database, then take connections. Raises StoreError."""
        check_place(self._database.path)
        self._lookup.begin()
        self._lookup.end()
        if self._listeners:
            self._admission = Admission(self._settings.max_connections, 0, self.audit)
            self._acceptors = [Acceptor(each, self.factory, self._admission, self._reactor) for each in self._listeners]
            log_listening(self._listeners, self.audit)
            warn_of_ways_past(self._settings, self.audit)
        super().startService()
        self._reactor.callLater(0, self._report_start)  # when the reactor runs, and signals are seen to

    def _report_start(self) -> None:
        self.announce("started")
        if missing := missing_names(self._reactor):
            problem = "this Twisted is not as policyd knows it; answers take its public ways and are slower"
            self.audit.warned(problem, missing=" ".join(sorted(missing)))
        self._notify_ready()
        self._tidy()
        if self._supervisor.beat_seconds:
            self._beat()

    def announce(self, event: str) -> None:
        """Log every effective setting."""
        self.audit.noticed(event, _described(self._settings), version=__version__, pid=os.getpid())

    def reload(self) -> None:
        """Read the settings again; wrong ones are reported, and the old ones stay."""
        self._supervisor.notify_reloading()
        self._take_settings()
        self._notify_ready()

    def _take_settings(self) -> None:
        self._lookup.close()  # one connection to a file at a time; where it stays, it opens again by itself
        settings = reread(self._load, self._settings, self.audit)
        if settings is None:
            return
        database = Database.to_answer_from(settings)
        lookup = Lookup(database)
        audit = open_audit(settings.audit, self._reactor, self._watched)
        audit.take_over(self.audit)
        self._watched.counters.take_contexts(settings.insider_contexts)
        self._settings, self._database, self._lookup, self.audit = settings, database, lookup, audit
        self.factory.decider, self.factory.audit = Decider(settings, lookup), self.audit
        self.factory.timeouts = _timeouts(settings)
        if self._admission is not None:
            self._admission.audit = self.audit
            self._admission.set_limit(settings.max_connections)
        self.announce("reloaded")

    def stopService(self) -> Deferred[None]:
        """Take no more connections, answer what is on its way, for `DRAIN_SECONDS` at most, and close."""
        super().stopService()
        self._supervisor.notify_stopping()
        for acceptor in self._acceptors:
            acceptor.close()
        return self.factory.drain(DRAIN_SECONDS).addCallback(lambda _: self._close())

    def _notify_ready(self) -> None:
        where = " and ".join(each.endpoint.text for each in self._listeners)
        self._supervisor.notify_ready(f"answering on {where}")

    def _tidy(self) -> None:
        self._lookup.tidy()
        self.audit.count_waiting()
        self._reactor.callLater(_TIDY_SECONDS, self._tidy)

    def _beat(self) -> None:
        self._supervisor.notify_alive()
        self._reactor.callLater(self._supervisor.beat_seconds, self._beat)

    def _close(self) -> None:
        if self._admission is not None:
            self._admission.end()
        self.audit.noticed("stopped", pid=os.getpid())
        self.audit.close()
        self._lookup.close()


def need_database(settings: Settings) -> None:
    """Raises StoreError unless there is a database that can be read, and that others can't write."""
    database = Database.to_answer_from(settings)
    check_place(database.path)
    lookup = Lookup(database)
    try:
        lookup.begin()
    except StoreMissingError as error:
        if settings.replica is None:
            raise
        raise StoreMissingError(
            f"{settings.replica}: there is no replica yet; policyd serve makes it, without --stdio"
        ) from error
    finally:
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


def check_place(path: Path) -> None:
    """Root that stays root serves from a folder of root's only: SQLite opens by name what is in it."""
    check_permissions(path)
    with suppress(OSError):  # whoever opens it reports that
        if (owner := owner_of(path)) is not None:
            raise SettingsError(
                f"user: as root, policyd does not serve {path}, in a folder of {owner.user}'s; "
                f'set user = "{owner.user}" in the settings file'
            )


def reread(load: Callable[[], Settings], kept: Settings, audit: AuditLog) -> Settings | None:
    """The settings, read again, but for those that only a restart changes; None, and a warning, where they are wrong.

    This process must have no connection to the database.
    """
    try:
        settings = load()
        if settings.replica != kept.replica:
            audit.warned("replica is as it was; to change it, restart")
            settings = dataclasses.replace(settings, replica=kept.replica, database=kept.database)
        need_database(settings)
    except (SettingsError, StoreError) as error:
        audit.warned(f"the settings stay as they were: {error}")
        return None
    if settings.listen != kept.listen:
        audit.warned("listen is as it was; to change it, restart")
    if settings.workers != kept.workers:
        audit.warned("workers is as it was; to change it, restart")
    if settings.http.listen != kept.http.listen:
        audit.warned("http.listen is as it was; to change it, restart")
    if settings.http.refusals != kept.http.refusals:
        audit.warned("http.refusals is as it was; to change it, restart")
    if settings.user != kept.user:
        audit.warned("user is as it was; to change it, restart")
    if settings.group != kept.group:
        audit.warned("group is as it was; to change it, restart")
    http = dataclasses.replace(settings.http, listen=kept.http.listen, refusals=kept.http.refusals)
    return dataclasses.replace(
        settings, listen=kept.listen, workers=kept.workers, user=kept.user, group=kept.group, http=http
    )


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(settings.idle_seconds, settings.request_seconds)


def _described(settings: Settings) -> dict[str, str]:
    """The effective settings, a word each."""
    values: dict[str, object] = {key: getattr(settings, key) for key in TABLES[""]}
    if (database := Database.of(settings)).is_on_server:
        values["database"] = database  # without a password
    values |= {f"audit.{key}": getattr(settings.audit, key) for key in TABLES["audit"]}
    values |= {f"http.{key}": getattr(settings.http, key) for key in TABLES["http"] if key != "listen"}
    values |= {f"reply.{rule}": text for rule, text in settings.reply.items()}
    del values["listen"]  # each endpoint is logged when it is listened on
    described = {}
    for key, value in values.items():
        if isinstance(value, (tuple, frozenset)):
            described[key] = " ".join(sorted(map(str, value)))
        else:
            text = "" if value is None else str(value)
            described[key] = text.lower() if isinstance(value, bool) else text
    return described

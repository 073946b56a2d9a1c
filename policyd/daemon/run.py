"""Starts the daemon: settings, sockets, user, then one reactor, or several workers with a reactor each."""

import dataclasses
import gc
import importlib
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, cast

from policyd.address import normal_domain
from policyd.audit import UNWATCHED, AuditLog, open_audit
from policyd.daemon.admission import raise_descriptor_limit
from policyd.daemon.privileges import UMASK, become, identity_to_become
from policyd.daemon.systemd import find_supervisor, take_endpoints
from policyd.endpoint import NOT_GIVEN, Given, default_listen
from policyd.errors import PolicydError, SettingsError, install_line
from policyd.files import owner_of
from policyd.reply import read_ahead
from policyd.settings import WORKERS_LIMIT, AuditSettings, Settings
from policyd.store.connection import Database
from policyd.syslog import open_sink
from policyd.watching import WatchedProcesses

if TYPE_CHECKING:
    from twisted.internet.posixbase import PosixReactorBase
    from twisted.logger import LogEvent

    from policyd.daemon.listener import Listener
    from policyd.daemon.service import PolicyService
    from policyd.web.serve import WebService

_PARENTS = ("listen", "workers", "user", "group", "replica", "http")  # settings of which a worker takes no new value

_TOLD_BYTES = 1024  # of what is said of the replica

Load = Callable[[Given], Settings]


def serve(load: Load) -> None:
    """Answer Postfix until SIGTERM. *load* gives the settings, with the endpoints that systemd passed.

    Raises PolicydError where it can't start, with nothing left listening.
    """
    # Take from the environment what systemd passed, before Twisted or a child could take it for its own.
    load_settings = partial(load, take_endpoints(os.environ))
    supervisor = find_supervisor(os.environ)
    settings = load_settings()

    # Do what only root can: import what the daemon's user may not be able to read, and raise limits.
    identity = identity_to_become(settings.user, settings.group)
    serves_web = bool(settings.http.listen)
    _import_ahead(reads_all=identity is not None, follows=settings.replica is not None, serves_web=serves_web)
    from policyd.daemon.listener import listen_on
    from policyd.daemon.service import check_place, need_database

    os.umask(UMASK)
    raise_descriptor_limit(settings.max_connections + 2 * WORKERS_LIMIT)

    # Before anything listens, make sure that the user we become can read the tables. A new host copies them first.
    prepared = None
    with identity.acting() if identity else nullcontext():
        if settings.replica is not None and Database.of(settings).is_on_server:
            from policyd.replica.follower import prepare

            check_place(settings.replica)
            prepared = prepare(Database.of(settings), settings.replica, supervisor.notify_copying)
        need_database(settings)
        _need_token(settings)
    listeners = listen_on(settings.listen or default_listen(), identity, allow_remote=settings.allow_remote)
    web_listeners: list[Listener] = []
    try:
        web = settings.http.listen
        web_listeners = listen_on(web, identity, allow_remote=settings.allow_remote, setting="http.listen")

        # Give root up for good, and then answer.
        if identity is not None:
            become(identity)
        if settings.workers > 1 or settings.replica is not None or serves_web:
            from policyd.daemon.prefork import Parent

            watched = WatchedProcesses(settings) if serves_web else None
            Parent(
                settings,
                partial(_load_with_token, load_settings),
                partial(_work, load_settings, supervisor.beat_seconds, watched),
                supervisor,
                follow=partial(_follow, prepared) if settings.replica is not None else None,
                serve_web=partial(_serve_web, supervisor.beat_seconds, watched, web_listeners) if watched else None,
                watched=watched,
            ).run(listeners, web_listeners)
        else:
            from policyd.daemon.service import PolicyService

            reactor = _reactor()
            _run(PolicyService(settings, listeners, load_settings, reactor, supervisor), reactor)
    except PolicydError:
        for listener in [*listeners, *web_listeners]:
            listener.close()
        raise


def _load_with_token(load_settings: Callable[[], Settings]) -> Settings:
    """The settings, read again. Raises SettingsError, where they or the token for the pages can't be used."""
    settings = load_settings()
    _need_token(settings)
    return settings


def _need_token(settings: Settings) -> None:
    """Raises SettingsError where there shall be a token for the pages, and can't be read."""
    if settings.http.listen and settings.http.token_file is not None:
        from policyd.web.access import read_token

        read_token(settings.http.token_file)


def serve_stdio(load: Load) -> None:
    """Answer the one client on stdin and stdout until they are closed; for Postfix's spawn(8).

    Root becomes the owner of the database's folder, for good. Raises PolicydError, which is logged, too: nobody may
    read stderr.
    """
    load_settings = partial(load, NOT_GIVEN)
    audit = AuditSettings()
    try:
        settings = load_settings()
        audit = settings.audit
        _serve_stdio(settings, load_settings)
    except PolicydError as error:
        log = AuditLog(audit, open_sink(audit))
        log.warned(str(error))
        log.close()
        raise


def _serve_stdio(settings: Settings, load_settings: Callable[[], Settings]) -> None:
    from twisted.internet.stdio import StandardIO

    from policyd.daemon.service import PolicyService

    with suppress(FileNotFoundError):  # opening the database reports that
        identity = owner_of(Database.to_answer_from(settings).path)
        if identity is not None:
            _import_ahead(reads_all=True)
            become(identity)
    reactor = _reactor()
    service = PolicyService(settings, (), load_settings, reactor)
    if settings.replica is not None:
        from policyd.replica.status import why_outdated

        if told := why_outdated(settings.replica, int(time.time())):
            service.audit.warned(told)
    service.factory.when_empty = reactor.stop
    reactor.callWhenRunning(StandardIO, service.factory.buildProtocol(None))
    _run(service, reactor)


def _work(
    load_settings: Callable[[], Settings],
    beat_seconds: float,
    watched: WatchedProcesses | None,
    place: int,
    settings: Settings,
    channel: socket.socket,
) -> None:
    """Serve the connections that come through *channel*, in a process of its own, until it is closed."""
    from policyd.daemon.service import PolicyService
    from policyd.daemon.worker import DispatchedConnections

    def load() -> Settings:
        loaded = load_settings()
        keys = _PARENTS if loaded.replica == settings.replica else (*_PARENTS, "database")  # which go together
        return dataclasses.replace(loaded, **{key: getattr(settings, key) for key in keys})

    reactor = _reactor()
    seen = watched.worker(place, settings) if watched else UNWATCHED
    service = PolicyService(settings, (), load, reactor, watched=seen)
    reactor.addReader(DispatchedConnections(channel, service.factory, reactor, beat_seconds))
    _run(service, reactor, stops_at_signals=False)


def _follow(prepared: tuple[int, int] | None, settings: Settings, channel: socket.socket) -> None:
    """Keep this host's replica up to date, in a process of its own, until *channel* is closed."""
    from policyd.replica.follower import Follower

    def beat(told: str) -> bool:
        try:
            channel.send(told.encode("utf-8", "backslashreplace")[:_TOLD_BYTES])
        except BlockingIOError:  # the parent is busy
            pass
        except OSError:
            return False
        return True

    def is_doubted() -> bool:
        is_told = False
        with suppress(OSError):  # there is no more; or the parent has gone, as the next beat tells
            while channel.recv(1):
                is_told = True
        return is_told

    # What answers goes first, where whoever started this process allows it to say so.
    with suppress(OSError):
        os.nice(10)
    channel.setblocking(False)
    assert settings.replica is not None
    audit = open_audit(settings.audit)
    Follower(Database.of(settings), settings.replica, audit, beat, prepared, is_doubted).run()


def _serve_web(
    beat_seconds: float,
    watched: WatchedProcesses,
    listeners: "Sequence[Listener]",
    settings: Settings,
    channel: socket.socket,
) -> None:
    """Serve what is *watched*, in a process of its own, until *channel* is closed."""
    from policyd.daemon.worker import HEARTBEAT_SECONDS
    from policyd.web.serve import WebService

    # What answers goes first: whoever is to answer stops this process at once, and no slice of time keeps it waiting.
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    reactor = _reactor()
    beat_seconds = min(beat_seconds or HEARTBEAT_SECONDS, HEARTBEAT_SECONDS)
    service = WebService(settings, watched, listeners, channel, reactor, beat_seconds)
    _run(service, reactor, stops_at_signals=False)


def _run(service: "PolicyService | WebService", reactor: "PosixReactorBase", *, stops_at_signals: bool = True) -> None:
    """Run *service* until a signal, or its end of work, stops the reactor."""
    # What Twisted logs goes to our log.
    from twisted.logger import ILogObserver, globalLogBeginner

    globalLogBeginner.beginLoggingTo(
        [cast(ILogObserver, partial(_log_of_twisted, service))], redirectStandardIO=False, discardBuffer=True
    )

    # Signals wait until the reactor runs, and has its handlers.
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(service.reload))
    blocked = {signal.SIGHUP, signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    reactor.callLater(0, signal.pthread_sigmask, signal.SIG_UNBLOCK, blocked)

    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.callWhenRunning(_spare_collector)
    reactor.run(installSignalHandlers=stops_at_signals)


def _log_of_twisted(service: "PolicyService | WebService", event: "LogEvent") -> None:
    """Log what Twisted logs as a warning or an error."""
    from twisted.logger import LogLevel, formatEvent

    if event.get("log_level", LogLevel.info) >= LogLevel.warn:
        failure = event.get("log_failure")
        problem = failure.getTraceback() if failure else ""
        service.audit.warned(f"{formatEvent(event)} {problem}".strip())


def _reactor() -> "PosixReactorBase":
    from policyd.daemon.fast_twisted import make_reactor

    return make_reactor()


def _import_ahead(*, reads_all: bool, follows: bool = False, serves_web: bool = False) -> None:
    """Import what is needed later: the daemon's user need not be able to read where policyd is installed.

    The reactor itself is not made here, since processes can't share one. Raises SettingsError where what serves metrics
    and pages is not installed.
    """
    if serves_web:
        try:
            importlib.import_module("policyd.web.serve")
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"http.listen: metrics and pages need {error.name}, which is not installed; type: "
                f"{install_line('web')}, or take [http] out of the settings"
            ) from error
    names = ["encodings.idna", "twisted.internet.unix", "policyd.daemon.fast_twisted", "policyd.daemon.prefork"]
    for name in [*names, *(["policyd.replica.follower", "policyd.store.postgresql"] if follows else [])]:
        importlib.import_module(name)
    normal_domain("bücher.example")  # idna imports its tables for the first such domain
    if reads_all:
        read_ahead()


def _spare_collector() -> None:
    """Have Python look for garbage seldom: an answer leaves none, and what was made at the start stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)

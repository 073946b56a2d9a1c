"""`policyd serve`: the daemon."""

import gc
import importlib
import os
import select
import signal
import socket
import sys
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import click

from policyd.address import normal_domain
from policyd.audit import AuditLog
from policyd.cli.command import Command, Invocation, invocation
from policyd.endpoint import default_listen
from policyd.errors import PolicydError
from policyd.files import owner_of
from policyd.limits import raise_descriptor_limit
from policyd.listening import Listener, listen_on
from policyd.privileges import UMASK, Identity, become, identity_to_become
from policyd.reply import read_ahead
from policyd.setting import WORKERS_LIMIT
from policyd.settings import AuditSettings, Settings
from policyd.syslog import open_sink
from policyd.systemd import Supervisor, find_supervisor, take_endpoints

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command("serve", cls=Command)
@click.option(
    "--listen",
    metavar="ENDPOINT",
    multiple=True,
    help="Where to listen, instead of the setting: unix:/path[:mode=660] or tcp:PORT:interface=127.0.0.1.",
)
@click.option(
    "--workers", metavar="N|auto", help="How many processes answer, instead of the setting; auto is one each processor."
)
@click.option("--stdio", is_flag=True, help="Answer on stdin and stdout until they are closed, for Postfix's spawn(8).")
def command(listen: tuple[str, ...], workers: str | None, stdio: bool) -> None:
    """Answer Postfix, in the foreground, until SIGTERM. SIGHUP reads the settings again.

    \b
    Example: policyd serve --listen tcp:10040:interface=127.0.0.1
    """
    call = invocation()
    call.listen, call.workers = listen, workers
    if not stdio:
        _run(call)
        return
    if workers is not None:
        raise click.UsageError("--stdio serves one connection, with one process; leave --workers out.")
    try:
        _run_on_stdio(call)
    except PolicydError as error:
        audit = call.settings.audit if "settings" in vars(call) else AuditSettings()
        log = AuditLog(audit, open_sink(audit))
        log.warned(str(error))
        log.close()
        raise


def _run(call: Invocation) -> None:
    """Listen, be the user that the settings name, and serve until told to stop."""
    call.given = take_endpoints(os.environ)
    supervisor = find_supervisor(os.environ)
    settings = call.settings
    identity = identity_to_become(settings.user, settings.group)
    _import_ahead(identity)
    from policyd.service import check_database

    os.umask(UMASK)
    raise_descriptor_limit(settings.max_connections + 2 * WORKERS_LIMIT)  # root may raise the hard one, too
    with identity.acting() if identity else nullcontext():
        check_database(settings)  # before anything listens
    listeners = listen_on(settings.listen or default_listen(), identity, allow_remote=settings.allow_remote)
    try:
        if identity is not None:
            become(identity)
        _serve_on(listeners, call, supervisor)
    except PolicydError:
        for listener in listeners:
            listener.close()
        raise


def _serve_on(listeners: "Sequence[Listener]", call: Invocation, supervisor: Supervisor) -> None:
    from policyd.service import PolicyService
    from policyd.workers import Parent

    if call.settings.workers > 1:
        Parent(call.settings, call.load_settings, partial(_work, call, supervisor), supervisor).run(listeners)
        return
    reactor = _reactor()
    _serve(PolicyService(call.settings, listeners, call.load_settings, reactor, supervisor), reactor)


def _work(call: Invocation, supervisor: Supervisor, settings: Settings, channel: socket.socket) -> None:
    """Serve the connections that come through *channel*, in a process of its own, until it is closed."""
    from policyd.service import HandedConnections, PolicyService, heartbeat_seconds

    def load() -> Settings:
        kept = {key: getattr(settings, key) for key in ("listen", "workers", "user", "group")}  # the parent's
        return attrs.evolve(call.load_settings(), **kept)

    reactor = _reactor()
    service = PolicyService(settings, (), load, reactor)
    reactor.addReader(HandedConnections(channel, service.factory, reactor, heartbeat_seconds(supervisor)))
    _serve(service, reactor, stops_at_signals=False)


def _run_on_stdio(call: Invocation) -> None:
    """Serve the one client on stdin and stdout. Root becomes the owner of the database's folder, for good."""
    from twisted.internet.stdio import StandardIO

    from policyd.service import PolicyService
    from policyd.store.database import Database

    with suppress(FileNotFoundError):  # the opener tells
        identity = owner_of(Database(call.settings.database).path)
        if identity is not None:
            _import_ahead(identity)
            become(identity)
    reactor = _reactor()
    service = PolicyService(call.settings, (), call.load_settings, reactor)
    service.factory.when_empty = reactor.stop
    protocol = service.factory.buildProtocol(None)
    reactor.callWhenRunning(StandardIO, protocol)
    _serve(service, reactor)


def _import_ahead(identity: Identity | None) -> None:
    """Import what is needed later: *identity* need not be able to read where policyd is installed.

    The reactor itself is not made here, since processes can't share one.
    """
    for name in ("encodings.idna", "twisted.internet.unix", "policyd.workers"):
        importlib.import_module(name)
    _reactor_module()
    normal_domain("bücher.example")  # idna imports its tables for the first such domain
    if identity is not None:
        read_ahead()


def _reactor() -> Any:
    """Twisted's, made now if there is none: as an import would, but from what is imported already."""
    if "twisted.internet.reactor" not in sys.modules:
        _reactor_module().install()
    return sys.modules["twisted.internet.reactor"]


def _reactor_module() -> Any:
    """What makes the reactor: ours, which is epoll's, or Twisted's choice where there is no epoll."""
    return importlib.import_module("policyd.reactor" if hasattr(select, "epoll") else "twisted.internet.default")


def _serve(service: Any, reactor: Any, *, stops_at_signals: bool = True) -> None:
    _log_twisted(service)
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(service.reload))
    kept_back = {signal.SIGHUP, signal.SIGTERM, signal.SIGINT}  # until the reactor runs, and has its handlers
    signal.pthread_sigmask(signal.SIG_BLOCK, kept_back)
    reactor.callLater(0, signal.pthread_sigmask, signal.SIG_UNBLOCK, kept_back)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.callWhenRunning(_spare_collector)
    reactor.run(installSignalHandlers=stops_at_signals)


def _spare_collector() -> None:
    """What is there at the start stays, and what an answer makes goes with it: garbage is seldom to be looked for."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _log_twisted(service: Any) -> None:
    from twisted.logger import globalLogBeginner

    globalLogBeginner.beginLoggingTo([service.observe], redirectStandardIO=False, discardBuffer=True)

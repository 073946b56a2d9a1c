"""`policyd serve`: the daemon."""

import signal
from typing import Any

import click

from policyd.audit import AuditLog
from policyd.cli.command import Command, Invocation, invocation
from policyd.endpoint import default_listen
from policyd.errors import PolicydError
from policyd.settings import AuditSettings
from policyd.syslog import open_sink


@click.command("serve", cls=Command)
@click.option(
    "--listen",
    metavar="ENDPOINT",
    multiple=True,
    help="Where to listen, instead of the setting: unix:/path[:mode=660] or tcp:PORT:interface=127.0.0.1.",
)
@click.option("--stdio", is_flag=True, help="Answer on stdin and stdout until they are closed, for Postfix's spawn(8).")
def command(listen: tuple[str, ...], stdio: bool) -> None:
    """Answer Postfix, in the foreground, until SIGTERM. SIGHUP reads the settings again.

    \b
    Example: policyd serve --listen tcp:10040:interface=127.0.0.1
    """
    call = invocation()
    call.listen = listen
    if not stdio:
        _run(call)
        return
    try:
        _run_on_stdio(call)
    except PolicydError as error:
        audit = call.settings.audit if "settings" in vars(call) else AuditSettings()
        AuditLog(audit, open_sink(audit)).warned(str(error))
        raise


def _run(call: Invocation) -> None:
    """Listen, and serve until told to stop."""
    from policyd.service import PolicyService

    reactor = _reactor()
    settings = call.settings
    _serve(PolicyService(settings, settings.listen or default_listen(), call.load_settings, reactor), reactor)


def _run_on_stdio(call: Invocation) -> None:
    """Serve the one client on stdin and stdout."""
    from twisted.internet.stdio import StandardIO

    from policyd.service import PolicyService

    reactor = _reactor()
    service = PolicyService(call.settings, (), call.load_settings, reactor)
    service.factory.when_empty = reactor.stop
    protocol = service.factory.buildProtocol(None)
    reactor.callWhenRunning(StandardIO, protocol)
    _serve(service, reactor)


def _reactor() -> Any:
    """Twisted's, installed as it is imported."""
    from twisted.internet import reactor

    return reactor


def _serve(service: Any, reactor: Any) -> None:
    _log_twisted(service)
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(service.reload))
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()


def _log_twisted(service: Any) -> None:
    from twisted.logger import globalLogBeginner

    globalLogBeginner.beginLoggingTo([service.observe], redirectStandardIO=False, discardBuffer=True)

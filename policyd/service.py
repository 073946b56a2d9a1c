"""The wiring: Settings -> a daemon that listens, decides, and can be told to read its settings again."""

import os
import socket
import stat
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError
from twisted.logger import LogEvent, LogLevel, formatEvent

from policyd import __version__
from policyd.audit import open_audit
from policyd.decide import Decider
from policyd.endpoint import Endpoint
from policyd.errors import ListenError, SettingsError, StoreError
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
        self.audit = open_audit(settings.audit)
        self.factory = PolicyFactory(Decider(settings, self._lookup).decide, self.audit, reactor)

    def startService(self) -> None:
        """Open the database, then listen. Raises StoreError or ListenError, with nothing left listening."""
        self._lookup.has_moved()
        try:
            for endpoint in self._endpoints:
                self._ports.append(_listen(endpoint, self.factory, self._reactor))
                self.audit.noticed("listening", on=endpoint.text)
        except ListenError:
            for port, endpoint in zip(self._ports, self._endpoints, strict=False):  # as many as there are ports
                port.stopListening()
                if endpoint.path:
                    os.unlink(endpoint.path)  # Twisted would do it in a reactor that never runs now
            raise
        super().startService()
        self.announce("started")

    def announce(self, event: str) -> None:
        """Log every effective setting."""
        self.audit.noticed(event, version=__version__, pid=os.getpid(), **_described(self._settings))

    def reload(self) -> None:
        """Take the settings anew; those that can't be taken are reported, and the old ones stay."""
        try:
            settings = self._load()
            lookup = Lookup(database_path(settings.database))
            self._lookup.close()  # one connection to a file at a time; where it stays, it opens again by itself
            lookup.has_moved()
        except (SettingsError, StoreError) as error:
            self.audit.warned(f"the settings stay as they were: {error}")
            return
        if settings.listen != self._settings.listen:
            self.audit.warned("listen is as it was; to change it, restart")
            settings = attrs.evolve(settings, listen=self._settings.listen)
        self._lookup.close()
        self.audit.close()
        self._settings, self._lookup, self.audit = settings, lookup, open_audit(settings.audit)
        self.factory.decide, self.factory.audit = Decider(settings, lookup).decide, self.audit
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


def _listen(endpoint: Endpoint, factory: PolicyFactory, reactor: Any) -> Any:
    try:
        if endpoint.path:
            _clear_stale_socket(endpoint.path)
            return reactor.listenUNIX(endpoint.path, factory, backlog=endpoint.backlog, mode=endpoint.mode)
        return reactor.listenTCP(endpoint.port, factory, backlog=endpoint.backlog, interface=endpoint.interface)
    except (CannotListenError, OSError) as error:
        cause = getattr(error, "socketError", error)
        reason = getattr(cause, "strerror", None) or str(cause)
        raise ListenError(f"can't listen on {endpoint.text}: {reason}; see the setting listen") from error


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

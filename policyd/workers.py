"""The parent of several workers: it listens, hands each connection to one of them, and keeps them alive.

Left to themselves, processes that accept from one socket share it badly: Postfix keeps a connection for long, and
most of them end up with whoever woke first. So the parent accepts, and the worker with the fewest connections gets
each one. It decides nothing, and sees no octet of a request. When it closes a worker's channel, on purpose or by
dying, that worker stops.
"""

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence

from policyd.audit import open_audit
from policyd.endpoint import Endpoint
from policyd.errors import ListenError
from policyd.listening import open_listener
from policyd.service import check_database, reread
from policyd.settings import Settings
from policyd.worker import HANDLED, Worker

STOP_SECONDS = 8  # for the workers to end by themselves; they give their connections 5, and the audit 1
AUDIT_SECONDS = 0.1  # between two looks whether syslog takes what waits for it

Work = Callable[[Settings, socket.socket], None]  # serves the connections from the channel until it is closed


class Parent:
    """The process that the administrator sees: `settings.workers` workers, each of which runs *work*.

    *load* gives the settings anew, for SIGHUP.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings], work: Work) -> None:
        self._settings = settings
        self._load = load
        self._work = work
        self._audit = open_audit(settings.audit)
        self._listeners: list[socket.socket] = []
        self._workers = [Worker() for _ in range(settings.workers)]
        self._waiting: list[socket.socket] = []  # accepted, and with no worker yet
        self._ended = 0
        self._is_stopping = False
        self._signals, self._signal_sink = socket.socketpair()  # a signal is an octet here, its number

    def run(self, endpoints: Sequence[Endpoint]) -> None:
        """Serve until SIGTERM. Raises StoreError or ListenError, with nothing left listening."""
        check_database(self._settings)
        try:
            for endpoint in endpoints:
                self._listeners.append(open_listener(endpoint))
                self._audit.noticed("listening", on=endpoint.text)
        except ListenError:
            self._stop_listening()
            self._audit.close()
            raise
        self._catch_signals()
        while not self._is_stopping:
            for worker in self._workers:
                if not worker.pid and worker.due <= time.monotonic():
                    worker.start(self._live)
            self._turn(AUDIT_SECONDS if self._audit.flush() else None)
        self._stop()
        self._audit.noticed("stopped", pid=os.getpid())
        self._audit.close()

    def _catch_signals(self) -> None:
        self._signals.setblocking(False)
        self._signal_sink.setblocking(False)
        signal.set_wakeup_fd(self._signal_sink.fileno())
        for number in HANDLED:
            signal.signal(number, lambda *_: None)

    def _live(self, channel: socket.socket) -> None:
        """What a worker does, with nothing left open that is the parent's."""
        for each in (self._signals, self._signal_sink, *self._listeners):
            each.close()
        for connection in [*self._waiting, *(each for worker in self._workers for each in worker.close())]:
            connection.close()
        try:
            self._work(self._settings, channel)
        except Exception as error:  # noqa: BLE001 - the parent's stack is no place for it to go
            known = getattr(error, "exit_status", None)
            audit = open_audit(self._settings.audit)  # what waits in the parent's is the parent's
            audit.warned(f"a worker can't go on: {error if known else repr(error)}")
            audit.close()
            os._exit(known or 70)
        os._exit(0)

    def _turn(self, timeout: float | None = None) -> None:
        """Wait until something happens, and see to it."""
        channels = {worker.channel: worker for worker in self._workers if worker.channel}
        _, free, _ = select.select([], channels, [], 0)
        self._hand_on([channels[each] for each in free])
        if timeout is None and (dues := [worker.due for worker in self._workers if not worker.pid]):
            timeout = max(0.0, min(dues) - time.monotonic())
        sources = [self._signals, *channels, *(self._listeners if free else ())]
        readable, _, _ = select.select(sources, [] if free else channels, [], timeout)
        for source in readable:
            if source is self._signals:
                self._see_to_signals()
            elif source in channels:
                self._waiting += channels[source].listen()
            else:
                self._accept(source)

    def _accept(self, listener: socket.socket) -> None:
        try:
            self._waiting.append(listener.accept()[0])
        except (BlockingIOError, ConnectionAbortedError):
            pass
        except OSError:
            time.sleep(0.05)  # no descriptors left in the system: it is no use to ask at once

    def _hand_on(self, workers: list[Worker]) -> None:
        """Give each connection that waits to that one of *workers* with the fewest; what none takes goes on waiting."""
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            if not any(worker.hand(connection) for worker in sorted(workers, key=lambda each: each.connections)):
                self._waiting.append(connection)

    def _see_to_signals(self) -> None:
        numbers = set(self._signals.recv(4096))
        if numbers & {signal.SIGTERM, signal.SIGINT}:
            self._is_stopping = True
        if signal.SIGHUP in numbers and not self._is_stopping:
            self._reload()
        if signal.SIGCHLD in numbers:
            for worker in self._workers:
                pid, how = worker.pid, worker.bury()
                if how:
                    self._waiting += worker.listen()
                if how and not self._is_stopping:
                    self._ended += 1
                    self._audit.warned(f"a worker ended: {how}", pid=pid, ended=self._ended, restart_in=worker.wait)

    def _reload(self) -> None:
        """Take the settings anew, and have the workers do so; they hear nothing of settings that can't be taken."""
        settings = reread(self._load, self._settings, self._audit)
        if settings is None:
            return
        audit = open_audit(settings.audit)
        audit.take_over(self._audit)
        self._settings, self._audit = settings, audit
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signal.SIGHUP)

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            path = listener.getsockname() if listener.family == socket.AF_UNIX else ""
            listener.close()
            if path:
                os.unlink(path)
        self._listeners.clear()

    def _stop(self) -> None:
        """Have the workers answer what is on its way; kill those that don't end."""
        self._stop_listening()
        self._hand_on(self._workers)
        for worker in self._workers:
            if worker.channel:
                worker.channel.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + STOP_SECONDS
        while any(worker.pid for worker in self._workers) and (left := deadline - time.monotonic()) > 0:
            self._turn(left)
        for worker in self._workers:
            if worker.pid:
                self._audit.warned("a worker did not stop and was killed", pid=worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
                worker.bury(0)

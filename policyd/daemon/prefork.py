"""The parent of several workers: it listens, dispatches each connection to one of them, and keeps them alive.

Left to themselves, processes that accept from one socket share it badly: Postfix keeps a connection for long, and
most of them end up with whoever woke first. So the parent accepts, and the worker with the fewest connections gets
each one. It decides nothing, and sees no byte of a request. When it closes a worker's channel, on purpose or by
dying, that worker stops. It is one file, because each kind of child is started, heard, replaced and ended in the same
turn of one loop.
"""

import math
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from policyd.audit import UNWATCHED, open_audit
from policyd.counters import Cell
from policyd.daemon.admission import QUIET_SECONDS, Admission
from policyd.daemon.child import HANDLED, Child, FollowerChild, HelperChild, WebChild
from policyd.daemon.listener import Listener, log_listening
from policyd.daemon.service import DRAIN_SECONDS, need_database, reread, warn_of_ways_past
from policyd.daemon.systemd import Supervisor
from policyd.daemon.worker import ADOPT, HEARTBEAT_SECONDS, MAKE_ROOM, REPORT, UNANSWERED
from policyd.errors import reason_of
from policyd.settings import Settings
from policyd.watching import WatchedProcesses

AT_ONCE = 64  # connections accepted before others get their turn
GIVING_WAY_AT_ONCE = 8  # connections that wait for others to be closed
AUDIT_SECONDS = 0.1  # between two looks whether syslog takes what waits for it
HUNG_SECONDS = 30  # for a worker that reports nothing, where no watchdog says otherwise
STOP_SECONDS = DRAIN_SECONDS + 3  # for workers to end by themselves: their connections, and then what waits for syslog

_ASKED_SECONDS = 1.0  # for so long it is believed which connection a worker would close

Source = socket.socket | Listener
Work = Callable[[Settings, socket.socket], None]  # serves the connections from the channel until it is closed
PlacedWork = Callable[[int, Settings, socket.socket], None]  # the same at one of the workers' places, from 0


class Worker(Child):
    """A place for a worker.

    The parent sends descriptors through its channel; the worker reports how many it has taken,
    and how many of those connections have ended. A connection that it has not taken is still open here: if this worker
    dies, another one gets it.

    `first_to_go` says which connection the worker would close for a new one: a Standing, with its time in seconds as
    time.monotonic() counts. Of all workers, the one with the least closes its connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first_to_go: tuple[int, int] | None = None  # None until it has reported it
        self.is_unanswered = False  # the tables could not answer, and nobody has asked why yet
        self._asked_at = 0.0  # 0 where it has not been asked, as time.monotonic() counts
        self._taken = self._ended = 0
        self._dispatched: deque[socket.socket] = deque()  # not taken yet

    @property
    def connections(self) -> int:
        """How many it has."""
        return len(self._dispatched) + self._taken - self._ended

    def start(self, live: Callable[[socket.socket], None]) -> None:
        """Fork a process that runs *live* with its end of the channel, and never returns from it."""
        self._taken = self._ended = 0
        self.first_to_go, self._asked_at = None, 0.0
        super().start(live)

    def dispatch(self, connection: socket.socket, *, makes_room: bool = False) -> bool:
        """Give it *connection*, and return whether that went; a worker that is ending takes nothing.

        With *makes_room*, the worker first closes another connection, and then reports which would be next.
        """
        try:
            if self.channel is None:
                return False
            socket.send_fds(self.channel, [MAKE_ROOM if makes_room else ADOPT], [connection.fileno()])
        except OSError:
            return False
        self._dispatched.append(connection)
        if makes_room:
            self.first_to_go, self._asked_at = None, time.monotonic()
        return True

    def ask(self) -> None:
        """Ask it which connection it would close, unless it was asked a moment ago."""
        now = time.monotonic()
        if self.channel is None or now - self._asked_at < _ASKED_SECONDS:
            return
        self.first_to_go = None
        try:
            self.channel.send(REPORT)
            self._asked_at = now
        except OSError:
            pass  # it is busy, or ending: it is asked again

    def read_channel(self) -> list[socket.socket]:
        """Read its reports. Returns the connections that it has not taken, once it has ended."""
        while self.channel is not None:
            try:
                report = self.channel.recv(64)
            except BlockingIOError:
                break
            except ConnectionResetError:  # it has died; what it reported before comes next
                continue
            if not report:
                return self.close()
            if report == UNANSWERED:
                self.is_unanswered = True
                continue

            # Connections are taken in the order in which they were dispatched; then they are the worker's own.
            self.has_reported, self.missed_beats = True, 0
            taken, self._ended, *first_to_go = map(int, report.split())
            if first_to_go:
                self.first_to_go = (first_to_go[0], first_to_go[1])
            for _ in range(taken - self._taken):
                self._dispatched.popleft().close()
            self._taken = taken
        return []

    def close(self) -> list[socket.socket]:
        """Dispatch nothing more to it; returns the connections that it has not taken."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
            self._taken = self._ended = 0  # whatever it had ends with it
        left = [*self._dispatched]
        self._dispatched.clear()
        return left


class Parent:
    """The process that the administrator sees: `settings.workers` workers, each of which runs *work*.

    *load* reads the settings again, for SIGHUP. *supervisor* is notified once every worker serves. *follow*, if given,
    keeps this host's replica up to date, and *serve_web* serves what all processes do, which is *watched* then, each
    in one more process.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        work: PlacedWork,
        supervisor: Supervisor,
        *,
        follow: Work | None = None,
        serve_web: Work | None = None,
        watched: WatchedProcesses | None = None,
    ) -> None:
        self._settings = settings
        self._load = load
        self._work = work
        self._supervisor = supervisor
        self._processes = watched
        self._watched = watched.parent() if watched else UNWATCHED
        self._audit = open_audit(settings.audit, watched=self._watched)
        self._listeners: Sequence[Listener] = ()
        self._web_listeners: Sequence[Listener] = ()
        self._admission = Admission(settings.max_connections, settings.workers, self._audit)
        self._workers = [Worker() for _ in range(settings.workers)]
        self._follower = FollowerChild() if follow else None
        self._told = ""  # of the replica, to systemd
        self._waiting: list[socket.socket] = []  # accepted, and with no worker yet
        self._ended = 0
        self._is_ready = False  # until every worker has served once
        self._is_stopping = False
        self._beat_seconds = min(supervisor.beat_seconds or HEARTBEAT_SECONDS, HEARTBEAT_SECONDS)
        self._hung_seconds = supervisor.watchdog_seconds or HUNG_SECONDS
        self._helpers: list[tuple[HelperChild, Work]] = []
        if self._follower and follow:
            self._helpers.append((self._follower, follow))
        if serve_web:
            self._helpers.append((WebChild(self._hung_seconds), serve_web))
        self._next_beat = 0.0  # as time.monotonic() counts
        self._signals, self._signal_sink = socket.socketpair()  # a signal is a byte here, its number

    def run(self, listeners: Sequence[Listener], web_listeners: Sequence[Listener] = ()) -> None:
        """Serve on *listeners*, and what is watched on *web_listeners*, until SIGTERM, and close them.

        Raises StoreError.
        """
        # Refuse to start without tables.
        need_database(self._settings)
        self._listeners, self._web_listeners = listeners, web_listeners
        log_listening(listeners, self._audit)
        log_listening(web_listeners, self._audit, "http")
        warn_of_ways_past(self._settings, self._audit)
        self._catch_signals()
        self._count_settings()

        # Start the workers, and replace those that end; all else happens in a turn.
        works = [(worker, partial(self._work, place)) for place, worker in enumerate(self._workers)]
        children: list[tuple[Child, Work]] = [*works, *self._helpers]
        while not self._is_stopping:
            for child, work in children:
                if not child.pid and child.due <= time.monotonic():
                    self._start(child, work)
            self._turn()
            if not self._is_ready and all(worker.has_reported for worker in self._workers):
                self._is_ready = True
                self._notify_ready()

        # SIGTERM.
        self._stop()
        self._audit.noticed("stopped", pid=os.getpid())
        self._audit.close()
        signal.set_wakeup_fd(-1)  # a child that was killed may end only now, when nobody waits for it

    def _catch_signals(self) -> None:
        self._signals.setblocking(False)
        self._signal_sink.setblocking(False)
        signal.set_wakeup_fd(self._signal_sink.fileno())
        for number in HANDLED:
            signal.signal(number, lambda *_: None)

    def _start(self, child: Child, work: Work) -> None:
        try:
            child.start(partial(self._be_child, work, isinstance(child, WebChild)))
        except OSError as error:  # no descriptors, no memory: the others go on
            child.due = time.monotonic() + 1
            self._audit.warned(f"a process can't be started: {reason_of(error)}")

    def _be_child(self, work: Work, serves_web: bool, channel: socket.socket) -> None:
        """Run *work* in a process of its own; never returns."""
        # Close what is the parent's: a connection must end when its own process closes it.
        for listener in [*self._listeners, *(() if serves_web else self._web_listeners)]:
            listener.leave()
        self._signals.close()
        self._signal_sink.close()
        for connection in [*self._waiting, *(each for worker in self._workers for each in worker.close())]:
            connection.close()
        for helper, _ in self._helpers:
            if helper.channel:
                helper.channel.close()

        # An error ends this process with its exit status, and never runs on into the parent's code.
        try:
            work(self._settings, channel)
        except Exception as error:  # noqa: BLE001 - it must not rise into the parent's code
            known = getattr(error, "exit_status", None)
            audit = open_audit(self._settings.audit)  # what waits in the parent's is the parent's
            audit.warned(f"a process can't go on: {error if known else repr(error)}")
            audit.close()
            os._exit(known or 70)
        os._exit(0)

    def _turn(self, most: float = math.inf) -> None:
        """Wait until something happens, *most* seconds at most, and handle it."""
        # Dispatch the connections that wait to the workers whose channels can be written.
        channels = {worker.channel: worker for worker in self._workers if worker.channel}
        _, free = _wait([], [*channels], 0)
        self._dispatch_waiting([channels[each] for each in free])

        # Accept more only if a worker can take it and nothing waits; then handle whatever has happened.
        listeners = self._listeners if free and not self._waiting else ()
        told = {helper.channel: helper for helper, _ in self._helpers if helper.channel}
        sources: list[Source] = [self._signals, *told, *channels, *listeners]
        readable, _ = _wait(sources, [] if free else [*channels], self._timeout(most))
        for source in readable:
            if isinstance(source, Listener):
                self._accept(source)
            elif source is self._signals:
                self._handle_signals()
            elif source in told:
                self._hear_helper(told[source])
            elif source in channels:  # and not closed meanwhile
                self._hear_worker(channels[source])

        # Now and then, look whether all are alive.
        self._count_connections()
        if time.monotonic() >= self._next_beat:
            self._beat()

    def _timeout(self, most: float) -> float:
        """For how many seconds nothing has to be done, *most* at most."""
        children = [*self._workers, *(helper for helper, _ in self._helpers)]
        dues = [child.due for child in children if not child.pid and not self._is_stopping]
        timeout = min([*dues, self._next_beat]) - time.monotonic()
        if not self._admission.check_over():
            timeout = min(timeout, QUIET_SECONDS)
        if self._audit.flush():
            timeout = min(timeout, AUDIT_SECONDS)
        return max(0.0, min(most, timeout))

    def _accept(self, listener: Listener) -> None:
        """Accept the connections that wait: where their queue is full, Postfix waits a second before it tries again."""
        for _ in range(AT_ONCE):
            if len(self._waiting) >= GIVING_WAY_AT_ONCE and not self._has_room(len(self._waiting)):
                return
            try:
                connection = listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._watched.counters.add(Cell.CONNECTIONS_REFUSED)
                self._admission.ran_short(error)
                time.sleep(0.05)  # to ask again at once would be all that it does
                return
            self._watched.counters.add(Cell.CONNECTIONS_ACCEPTED)
            self._waiting.append(connection)

    def _has_room(self, more: int = 0) -> bool:
        """Whether there may be one connection beside those of the workers and *more*."""
        return self._admission.has_room(more + sum(worker.connections for worker in self._workers))

    def _dispatch_waiting(self, workers: list[Worker]) -> None:
        """Give each connection that waits to that one of *workers* with the fewest; what none takes goes on waiting.

        Where there are as many as may be, it goes to the worker that closes the one idle for longest.
        """
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            if self._is_stopping or self._has_room():
                by_number = sorted(workers, key=lambda each: each.connections)
                is_taken = any(worker.dispatch(connection) for worker in by_number)
            else:
                is_taken = self._dispatch_for_another(connection, workers)
            if not is_taken:
                self._waiting.append(connection)

    def _dispatch_for_another(self, connection: socket.socket, workers: list[Worker]) -> bool:
        """Whether one of *workers* was given *connection*, to close another one for it.

        All are asked first which connection they would close. A worker that has not answered for a while is left out.
        """
        # All that are alive must have answered.
        asked = [worker for worker in workers if not worker.missed_beats] or workers
        for worker in asked:
            worker.ask()
        answers = [(worker.first_to_go, worker) for worker in asked if worker.first_to_go is not None]
        if not answers or len(answers) < len(asked):
            return False

        # The worker that would close the first one to go gets the new connection.
        _, worker = min(answers, key=lambda each: each[0])
        if not worker.dispatch(connection, makes_room=True):
            return False
        self._admission.gave_way()
        return True

    def _handle_signals(self) -> None:
        numbers = set(self._signals.recv(4096))
        if numbers & {signal.SIGTERM, signal.SIGINT}:
            self._is_stopping = True
        if signal.SIGHUP in numbers and not self._is_stopping:
            self._reload()
        if signal.SIGCHLD in numbers:
            for worker in self._workers:
                pid, how = worker.pid, worker.reap()
                if how:
                    self._waiting += worker.read_channel()
                if how and not self._is_stopping:
                    self._ended += 1
                    self._watched.counters.add(Cell.WORKER_RESTARTS)
                    self._audit.warned(f"a worker ended: {how}", pid=pid, ended=self._ended, restart_in=worker.wait)
            for helper, _ in self._helpers:
                if (how := helper.reap()) and not self._is_stopping:
                    self._audit.warned(f"the {helper.name} ended: {how}", restart_in=helper.wait)

    def _hear_worker(self, worker: Worker) -> None:
        """Read its reports; where the tables could not answer, the one that follows is to look at the replica."""
        self._waiting += worker.read_channel()
        if worker.is_unanswered:
            worker.is_unanswered = False
            if self._follower is not None:
                self._follower.doubt()

    def _hear_helper(self, helper: HelperChild) -> None:
        """Read what it says; tell systemd what is new of the replica."""
        helper.read_channel()
        if helper is self._follower and helper.told != self._told and self._is_ready:
            self._told = helper.told
            self._supervisor.notify_status(self._status())

    def _notify_ready(self) -> None:
        self._supervisor.notify_ready(self._status())

    def _status(self) -> str:
        where = " and ".join(listener.endpoint.text for listener in self._listeners)
        number = len(self._workers)
        told = f"; {self._told}" if self._told else ""
        return f"{f'{number} workers answer' if number > 1 else 'answering'} on {where}{told}"

    def _beat(self) -> None:
        """Report to systemd that this process lives, and kill workers that have not reported for too long.

        Beats are counted, not seconds: if this process slept, as in a machine that was halted, so did they.
        """
        self._next_beat = time.monotonic() + self._beat_seconds
        self._supervisor.notify_alive()
        for worker in self._workers:
            worker.missed_beats += bool(worker.pid)
            if worker.missed_beats * self._beat_seconds > self._hung_seconds and not self._is_stopping:
                worker.missed_beats = 0
                self._audit.warned("a worker hung and was killed", pid=worker.pid)
                worker.kill()
        for helper, _ in self._helpers:
            helper.missed_beats += bool(helper.pid)
            if helper.missed_beats * self._beat_seconds > helper.hung_seconds:
                helper.missed_beats = 0
                self._audit.warned(f"the {helper.name} hung and was killed", pid=helper.pid)
                helper.kill()
        self._audit.count_waiting()

    def _count_connections(self) -> None:
        counters = self._watched.counters
        counters.set(Cell.CONNECTIONS, len(self._waiting) + sum(worker.connections for worker in self._workers))
        counters.set(Cell.CONNECTIONS_LIMIT, self._admission.limit)
        counters.set(Cell.WORKERS, sum(bool(worker.pid) for worker in self._workers))

    def _count_settings(self) -> None:
        """Have it seen which settings are in force; first of all the names of contexts, before a worker looks."""
        if self._processes is not None:
            self._processes.take_settings(self._settings)

    def _reload(self) -> None:
        """Read the settings again, and have the workers do so, unless they are wrong: then the old ones stay."""
        self._supervisor.notify_reloading()
        self._take_settings()
        if self._is_ready:
            self._notify_ready()

    def _take_settings(self) -> None:
        settings = reread(self._load, self._settings, self._audit)
        if settings is None:
            return

        # The new audit goes on with the lines that wait in the old one.
        audit = open_audit(settings.audit, watched=self._watched)
        audit.take_over(self._audit)
        self._settings, self._audit = settings, audit
        self._admission.audit = self._audit
        self._admission.set_limit(settings.max_connections)

        # The helpers begin anew with them; each worker reads them by itself.
        self._count_settings()
        for helper, _ in self._helpers:
            helper.restart()
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signal.SIGHUP)

    def _stop(self) -> None:
        """Have the workers answer what is on its way; kill those that don't end."""
        # Listen no more; what was accepted is still dispatched.
        self._supervisor.notify_stopping()
        for listener in [*self._listeners, *self._web_listeners]:
            listener.close()
        self._listeners = self._web_listeners = ()
        self._admission.end()
        self._dispatch_waiting(self._workers)

        for helper, _ in self._helpers:
            helper.kill()

        # The end of the channel stops a worker, once it has answered.
        for worker in self._workers:
            if worker.channel:
                worker.channel.shutdown(socket.SHUT_WR)

        # Those that do not end in time are killed.
        deadline = time.monotonic() + STOP_SECONDS
        while any(worker.pid for worker in self._workers) and (left := deadline - time.monotonic()) > 0:
            self._turn(left)
        for worker in self._workers:
            if worker.pid:
                self._audit.warned("a worker did not stop and was killed", pid=worker.pid)
                worker.kill()
                worker.reap(0)


def _wait(
    readers: Sequence[Source], writers: Sequence[socket.socket], timeout: float
) -> tuple[list[Source], list[socket.socket]]:
    """Those of *readers* that can be read and of *writers* that can be written; select(2) ends at descriptor 1023."""
    poll = select.poll()
    for each in {*readers, *writers}:
        poll.register(each, (each in readers and select.POLLIN) | (each in writers and select.POLLOUT))
    happened = dict(poll.poll(math.ceil(timeout * 1000)))
    ends = select.POLLHUP | select.POLLERR
    readable = [each for each in readers if happened.get(each.fileno(), 0) & (select.POLLIN | ends)]
    return readable, [each for each in writers if happened.get(each.fileno(), 0) & (select.POLLOUT | ends)]

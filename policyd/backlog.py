"""Lines that wait for their sink: in order, bounded, and gone as soon as it takes them."""

import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from policyd.syslog import Sink

LINES = 10_000  # some seconds of the busiest mail, minutes of others': longer than a syslog daemon takes to restart
CHARACTERS = 4 << 20  # what it may cost in memory where lines are long; that many of the usual ones are 3 MiB
RETRY_SECONDS = 0.1  # between two looks for a sink that isn't there
SILENT_SECONDS = 1.0  # until it is told that a sink has taken no line at all since it was opened
STUCK_SECONDS = 30.0  # and one that has taken some before; a restart takes less
CLOSE_SECONDS = 1.0  # for what waits when the process ends

_WITH_EACH = 4  # lines that go before a new one: more than come, or a sink that keeps up would never catch up
_AT_ONCE = 200  # lines in one turn of the reactor, about a millisecond


class Line(NamedTuple):
    """A line that waits: said when, and how many lines are missing if it never goes."""

    severity: int
    text: str
    said_at: float
    worth: int


class Backlog:
    """A place before *sink*: what that doesn't take at once waits here.

    With Twisted's *reactor* the lines leave by themselves; without one, with the next line, `flush` and `close`.
    *tell_stuck* is called once when none has gone for some time, though there are some.
    """

    def __init__(self, sink: Sink, reactor: Any = None, tell_stuck: Callable[[], None] = lambda: None) -> None:
        self._sink = sink
        self._reactor = reactor
        self._tell_stuck = tell_stuck
        self._has_taken = False  # any line
        self._stuck_since = 0.0  # as time.monotonic() counts; 0 while lines go, or none waits
        self._is_told = False  # that it is stuck
        self._stuck_timer: Any = None
        self._waiting: deque[Line] = deque()
        self._characters = 0
        self._is_full = False  # from when it is, until it is half empty: one gap is better than a thousand
        self._next_look = 0.0  # for a sink that isn't there, as time.monotonic() counts
        self._timer: Any = None
        self._watched = -1  # a duplicate: the sink may close its own at any time, and open another under its number

    def send(self, severity: int, text: str, worth: int = 1) -> bool:
        """Whether the line went or waits; it doesn't where too many do. *worth* lines are missing where it is lost."""
        if self._waiting:
            self._drain(_WITH_EACH)
        if not self._waiting and self._sink.send(severity, text):
            self._has_taken = True
            return True
        if len(self._waiting) >= LINES or self._characters + len(text) > CHARACTERS:
            self._is_full = True
        if self._is_full:
            return False
        self._waiting.append(Line(severity, text, time.time(), worth))
        self._characters += len(text)
        self._see_whether_stuck()
        self._watch()
        return True

    def _see_whether_stuck(self) -> None:
        """Tell, once, that no line has gone for some time."""
        if not self._waiting or self._is_told:
            return
        now = time.monotonic()
        self._stuck_since = self._stuck_since or now
        left = self._stuck_since + (STUCK_SECONDS if self._has_taken else SILENT_SECONDS) - now
        if left <= 0:
            self._is_told = True
            self._tell_stuck()
        elif self._reactor is not None and self._stuck_timer is None:
            self._stuck_timer = self._reactor.callLater(left, self._look_whether_stuck)

    def _look_whether_stuck(self) -> None:
        self._stuck_timer = None
        self._see_whether_stuck()

    def flush(self) -> bool:
        """Send what goes now; whether lines still wait."""
        self._drain(_AT_ONCE)
        self._see_whether_stuck()
        return bool(self._waiting)

    def settle(self) -> None:
        """Wait until all lines are gone, a second at most. A command doesn't wait for a syslog that isn't there."""
        deadline = time.monotonic() + CLOSE_SECONDS
        before, self._next_look = -1, 0.0
        while self.flush() and (left := deadline - time.monotonic()) > 0:
            descriptor, is_stuck = self._sink.fileno(), len(self._waiting) == before
            before = len(self._waiting)
            if not is_stuck and descriptor >= 0:
                poll = select.poll()
                poll.register(descriptor, select.POLLOUT)
                poll.poll(left * 1000)
            elif is_stuck and descriptor < 0 and self._reactor is None:
                break
            elif is_stuck:  # it isn't there, or it is writable and takes none
                time.sleep(min(left, RETRY_SECONDS))

    def close(self) -> int:
        """Let go of the sink; how many lines are lost."""
        self._unwatch()
        if self._stuck_timer:
            self._stuck_timer.cancel()
            self._stuck_timer = None
        self._sink.close()
        return sum(line.worth for line in self._waiting)

    def take_over(self, former: "Backlog") -> None:
        """Put what waits in *former*, which is closed, before all lines of this one."""
        former.close()
        self._waiting.extend(former._waiting)
        self._characters += former._characters
        self._is_full = former._is_full
        self._see_whether_stuck()
        self._watch()

    def fileno(self) -> int:
        """What the reactor watches."""
        return self._watched

    def logPrefix(self) -> str:
        """What Twisted calls this."""
        return "audit"

    def doWrite(self) -> None:
        """The sink takes lines again. Where it takes none after all, a look now and then must do."""
        self._unwatch()
        before = len(self._waiting)
        self._drain(_AT_ONCE)
        self._watch(is_ready=len(self._waiting) < before)

    def connectionLost(self, _reason: object) -> None:
        """What was watched is of no use any more, and the reactor has let go of it; the next line finds out why."""
        self._stop_watching()
        self._watch(is_ready=False)

    def _drain(self, most: int) -> None:
        """Send the oldest lines, *most* of them."""
        if not self._waiting or time.monotonic() < self._next_look:
            return
        for _ in range(min(most, len(self._waiting))):
            oldest = self._waiting[0]
            if not self._sink.send(oldest.severity, oldest.text, oldest.said_at):
                self._next_look = time.monotonic() + RETRY_SECONDS if self._sink.fileno() < 0 else 0.0
                break
            self._waiting.popleft()
            self._characters -= len(oldest.text)
            self._has_taken, self._stuck_since, self._is_told = True, 0.0, False
        if len(self._waiting) <= LINES // 2 and self._characters <= CHARACTERS // 2:
            self._is_full = False

    def _watch(self, *, is_ready: bool = True) -> None:
        """Have the reactor call when a line may go; where there is nothing to wait for, after a while."""
        if self._reactor is None or self._watched >= 0 or self._timer or not self._waiting:
            return
        try:
            if is_ready and self._sink.fileno() >= 0:
                self._watched = os.dup(self._sink.fileno())
                self._reactor.addWriter(self)
                return
        except OSError:  # no descriptors left
            self._stop_watching()
        self._timer = self._reactor.callLater(RETRY_SECONDS, self._look)

    def _unwatch(self) -> None:
        if self._watched >= 0:
            self._reactor.removeWriter(self)
            self._stop_watching()
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _stop_watching(self) -> None:
        if self._watched >= 0:
            os.close(self._watched)
            self._watched = -1

    def _look(self) -> None:
        self._timer, self._next_look = None, 0.0
        self._drain(_AT_ONCE)
        self._watch()

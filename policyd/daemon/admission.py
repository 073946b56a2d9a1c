"""Which connections are let in: no more at a time than the settings allow, with one warning when there are too many."""

import resource
import time
from collections.abc import Callable

from policyd.audit import AuditLog
from policyd.errors import reason_of

QUIET_SECONDS = 5.0  # without another case, what was warned of is over
_OTHER_DESCRIPTORS = 48  # the database, the log, listening sockets, and what comes and goes


class RepeatedWarning:
    """A warning about what happens again and again: one line when it begins, one with a count when it is over.

    *warn_over* writes the second, for that number of times.
    """

    def __init__(self, warn_over: Callable[[int], None]) -> None:
        self._warn_over = warn_over
        self._count = 0
        self._last = 0.0

    def happened(self, now: float) -> bool:
        """It happened; returns whether for the first time."""
        self._count += 1
        self._last = now
        return self._count == 1

    def check_over(self, now: float) -> bool:
        """Whether it is over at *now*; then the second line is written, if there was a first."""
        if self._count and now - self._last < QUIET_SECONDS:
            return False
        self.end()
        return True

    def end(self) -> None:
        """It is over."""
        count, self._count = self._count, 0
        if count:
            self._warn_over(count)


class Admission:
    """Lets in *limit* connections at a time, fewer where there are no descriptors for them.

    `audit` may be replaced at any time. With *workers*, each has a channel. Time is as *now* counts.
    """

    def __init__(self, limit: int, workers: int, audit: AuditLog, now: Callable[[], float] = time.monotonic) -> None:
        self.audit = audit
        self._others = _OTHER_DESCRIPTORS + workers
        self._now = now
        self._full = RepeatedWarning(lambda count: self.audit.warned("connections gave way to new ones", count=count))
        self._short = RepeatedWarning(lambda _: self.audit.warned("connections are accepted again"))
        self.set_limit(limit)

    def set_limit(self, limit: int) -> None:
        """Let in *limit* from now on, or as many as there can be descriptors for, with a warning."""
        descriptors = raise_descriptor_limit(limit + self._others)
        self.limit = min(limit, max(1, descriptors - self._others))
        if self.limit < limit:
            self.audit.warned(
                "too few file descriptors for max_connections",
                max_connections=limit,
                descriptors=descriptors,
                taken=self.limit,
            )

    def has_room(self, connections: int) -> bool:
        """Whether there may be one more than *connections*; else one of them has to give way."""
        return connections < self.limit

    def gave_way(self) -> None:
        """A connection was closed in favour of a new one."""
        if self._full.happened(self._now()):
            self.audit.warned("too many connections; idle ones give way", limit=self.limit)

    def ran_short(self, error: OSError) -> None:
        """A connection could not be accepted, for lack of descriptors or memory; it waits."""
        if self._short.happened(self._now()):
            self.audit.warned(f"connections wait, they can't be accepted: {reason_of(error)}")

    def check_over(self) -> bool:
        """Whether everything that was warned of is over; what is over is logged."""
        now = self._now()
        return all([self._full.check_over(now), self._short.check_over(now)])

    def end(self) -> None:
        """Log what is over now, since the daemon stops."""
        self._full.end()
        self._short.end()


def raise_descriptor_limit(wanted: int) -> int:
    """Let this process and its children open *wanted* files at a time, or as many as may be; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((wanted, max(wanted, hard)), (hard, hard)):  # the first needs root where it raises the hard one
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            break
        if hard == resource.RLIM_INFINITY:
            limits = (wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except (ValueError, OSError):
            continue
        soft = limits[0]
    return wanted if soft == resource.RLIM_INFINITY else soft

"""What is watched of the daemon's processes: the counters, now and minute by minute, and the refusals."""

import time

from policyd.audit import Watched
from policyd.counters import Cell, CounterPage
from policyd.minutes import Minutes
from policyd.model import Mode
from policyd.refusals import RefusalRing
from policyd.settings import Settings


class WatchedProcesses:
    """Shared memory for as many workers as *settings* have and their parent; made before any of them is forked."""

    def __init__(self, settings: Settings) -> None:
        self._parent = settings.workers
        self.counters = CounterPage(settings.workers + 1, settings.insider_contexts)
        self.refusals = RefusalRing(settings.workers, settings.http.refusals)
        self.minutes = Minutes()

    def worker(self, place: int, settings: Settings) -> Watched:
        """What the worker at *place*, from 0, writes to."""
        return Watched(self.counters.at(place, settings.insider_contexts), self.refusals.at(place))

    def parent(self) -> Watched:
        """What the parent writes to; it decides nothing."""
        return Watched(self.counters.at(self._parent))

    def take_settings(self, settings: Settings) -> None:
        """Have it seen which settings are in force from now on; for the parent, before a worker reads them."""
        self.counters.add_contexts(settings.insider_contexts)
        row = self.counters.at(self._parent)
        row.set(Cell.SETTINGS_LOADED, int(time.time()))
        row.set(Cell.IS_ENFORCING, settings.mode is Mode.ENFORCE)

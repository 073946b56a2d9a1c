"""Which worlds a question can have met: the administrator's commands in time, and where a hang-up is no defect."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

from tests.oracle.model import Request
from tests.soaking.expected import World, action

_KEPT_SECONDS = 30.0  # longer than any client waits for an answer


@dataclass
class Spell:
    """A world, the command that made it, and when that was: from its start to its return."""

    world: World
    command: str
    began: float
    ended: float = inf


class Timeline:
    """The worlds one after the other. A command's start and its return are moments of `time.monotonic`.

    A question that was sent after a command had returned must meet its world, or a later one. One that met a new
    world proves that this is in force: whoever asks from then on must meet it, too.
    """

    def __init__(self, world: World) -> None:
        self._lock = threading.Lock()
        self._spells = [Spell(world, "the start", 0.0, 0.0)]
        self._troubles: list[list[float]] = []  # from, to: when the daemon may hang up

    @property
    def world(self) -> World:
        """The latest."""
        return self._spells[-1].world

    @contextmanager
    def changing(self, world: World, command: str) -> Iterator[None]:
        """The block makes *world*; it is in force at its end, and at no time before."""
        spell = Spell(world, command, time.monotonic())
        with self._lock:
            while len(self._spells) > 1 and self._spells[1].ended < spell.began - _KEPT_SECONDS:
                self._spells.pop(0)
            self._spells.append(spell)
        yield
        with self._lock:
            spell.ended = min(spell.ended, time.monotonic())

    def withdraw(self) -> bool:
        """In a block of `changing`: there will be no such world. False if somebody has met it already."""
        with self._lock:
            return self._spells.pop().ended == inf

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """In the block, the daemon may hang up."""
        lasting = [time.monotonic(), inf]
        with self._lock:
            self._troubles = [each for each in self._troubles if each[1] > lasting[0] - _KEPT_SECONDS]
            self._troubles.append(lasting)
        yield
        lasting[1] = time.monotonic()

    def may_hang_up(self, since: float, until: float) -> bool:
        """Whether a connection may have been closed between these moments."""
        with self._lock:
            possible = self._possible(since, until)
            troubles = any(began <= until and ended >= since for began, ended in self._troubles)
        return troubles or any(each.world.is_away for each in possible)

    def differs(self, question: Request, got: str, since: tuple[float, float], until: tuple[float, float]) -> str:
        """What is wrong with *got*, sent and received at these moments (monotonic and Unix time); "" for nothing."""
        with self._lock:
            possible = self._possible(since[0], until[0])
        seconds = {int(since[1]), int(until[1])}
        meeting = [any(action(each.world, question, now) == got for now in seconds) for each in possible]
        if True not in meeting:
            wanted = [f"{action(each.world, question, int(since[1]))!r} since {each.command}" for each in possible]
            late = f"asked {since[0] - possible[0].ended:.6f} s after it"
            return f"{question}: got {got!r}, expected {' or '.join(wanted)}; {late}"
        first = meeting.index(True)
        if first:
            with self._lock:
                possible[first].ended = min(possible[first].ended, until[0])
        return ""

    def _possible(self, since: float, until: float) -> list[Spell]:
        """The worlds that a question could meet which was under way between these moments."""
        over = [at for at, spell in enumerate(self._spells) if spell.ended <= since]
        first = over[-1] if over else 0
        return [each for each in self._spells[first:] if each.began <= until]

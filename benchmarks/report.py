"""Figures as tables in reStructuredText, ready for README.rst; each row is printed as soon as it is known."""

import os
import platform
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

WIDTHS = (54, 10, 10, 7)
BORDER = " ".join("=" * width for width in WIDTHS)


@dataclass(frozen=True, slots=True)
class Pair:
    """A figure of several runs: the floor's, and beside each the one that was measured right after it."""

    what: str
    floor: Sequence[float]
    ours: Sequence[float]

    @property
    def ratio(self) -> float:
        """The median of the ratios, each of two neighbours in time: what slows the machine, slows both."""
        return median(ours / floor for floor, ours in zip(self.floor, self.ours, strict=True) if floor)


def print_machine(runs: int) -> None:
    """Print what the figures are from."""
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, Linux {platform.release()}"
    busy = f"load average {os.getloadavg()[0]:.1f} before"
    print(f"{os.cpu_count()} cores, {versions}, {busy}; medians of {runs}\n", flush=True)


def print_pairs(pairs: Iterable[Pair]) -> None:
    """Print a row for each of *pairs*."""
    print_rows(
        ("Figure", "floor", "measured", "ratio"),
        ((each.what, shown(median(each.floor)), shown(median(each.ours)), shown(each.ratio)) for each in pairs),
    )


def print_rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    print(BORDER, _row(head), BORDER, sep="\n", flush=True)
    for row in rows:
        print(_row(row), flush=True)
    print(f"{BORDER}\n", flush=True)


def shown(figure: float) -> str:
    """*figure* with as many digits as mean something."""
    return f"{figure:,.0f}".replace(",", " ") if figure >= 100 else f"{figure:#.3g}".rstrip(".")


def _row(cells: Sequence[str]) -> str:
    return " ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()

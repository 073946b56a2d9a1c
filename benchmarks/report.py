"""Figures as tables in reStructuredText, ready for README.rst; each row is printed as soon as it is known."""

import os
import platform
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

WIDTH = 10
FIRST_WIDTH = 54

_Measured = TypeVar("_Measured")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of several runs: the floor's, and beside each the one that was measured right after it.

    `before` has those of the edition before, where that is asked, and can be.
    """

    what: str
    floor: Sequence[float]
    ours: Sequence[float]
    before: Sequence[float] = ()


def ratio(figures: Sequence[float], others: Sequence[float]) -> float | None:
    """The median of the ratios, each of two neighbours in time: what slows the machine, slows both. None for none."""
    ratios = [figure / other for figure, other in zip(figures, others, strict=bool(others)) if other]
    return median(ratios) if ratios else None


def in_turn(runs: int, measures: Sequence[Callable[[], _Measured]]) -> list[list[_Measured]]:
    """What each of *measures* gives, *runs* times.

    They are called one after the other, every second time the other way round: so none is always the first.
    """
    found: list[list[_Measured]] = [[] for _ in measures]
    for number in range(runs):
        for measure, kept in list(zip(measures, found, strict=True))[:: -1 if number % 2 else 1]:
            kept.append(measure())
    return found


def print_machine(runs: int) -> None:
    """Print what the figures are from."""
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, Linux {platform.release()}"
    busy = f"load average {os.getloadavg()[0]:.1f} before"
    print(f"{os.cpu_count()} cores, {versions}, {busy}; medians of {runs}\n", flush=True)


def print_figures(figures: Iterable[Figure], *, has_before: bool = False) -> None:
    """Print a row for each of *figures*, with what was *before*, too."""
    head = ("Figure", "floor", "before", "measured", "of floor", "of before")
    columns = [number for number, name in enumerate(head) if has_before or "before" not in name]
    print_rows([head[each] for each in columns], ([_cells(figure)[each] for each in columns] for figure in figures))


def _cells(figure: Figure) -> tuple[str, ...]:
    medians = [median(each) if each else None for each in (figure.floor, figure.before, figure.ours)]
    ratios = [ratio(figure.ours, each) for each in (figure.floor, figure.before)]
    return (figure.what, *(shown(each) for each in (*medians, *ratios)))


def print_rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    border = _row(["=" * FIRST_WIDTH, *["=" * WIDTH] * (len(head) - 1)])
    print(border, _row(head), border, sep="\n", flush=True)
    for row in rows:
        print(_row(row), flush=True)
    print(f"{border}\n", flush=True)


def shown(figure: float | None) -> str:
    """*figure* with as many digits as mean something; a dash for none."""
    if figure is None:
        return "–"
    return f"{figure:,.0f}".replace(",", " ") if figure >= 100 else f"{figure:#.3g}".rstrip(".")


def _row(cells: Sequence[str]) -> str:
    first, *others = cells
    return " ".join([first.ljust(FIRST_WIDTH), *(cell.ljust(WIDTH) for cell in others)]).rstrip()

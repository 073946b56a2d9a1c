"""The last refusals that the daemon's processes keep, narrowed and by pages, and as a table for a spreadsheet."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from policyd.address import fold
from policyd.admin.history import name_filter
from policyd.printable import printable
from policyd.refusals import Refused
from policyd.timestamps import show_local
from policyd.transfer.cells import guarded

WOULD, SPOKEN = "would", "spoken"  # the refusals that were only logged, in monitor mode, and the others
LOOKED_AT = 100_000  # refusals, for one page
PIECE_CHARACTERS, PIECE_REFUSALS = 65_536, 10_000  # of a table: what ends a piece of it, whichever comes first

Wanted = Callable[[Refused], bool]

# What each refusal has, by the names of the audit where it has one; `id` is either of the two that Postfix gives.
COLUMNS: Mapping[str, Callable[[Refused], str]] = {
    "time": lambda refused: show_local(int(refused.at)),
    "action": lambda refused: refused.decision.action,
    "would": lambda refused: "REJECT" if refused.decision.would else "",
    "sender": lambda refused: refused.decision.request.sender or "<>",
    "recipient": lambda refused: refused.decision.request.recipient,
    "login": lambda refused: refused.decision.request.sasl_username,
    "client": lambda refused: f"{refused.decision.request.client_name}[{refused.decision.request.client_address}]",
    "context": lambda refused: refused.decision.request.policy_context,
    "rule": lambda refused: refused.decision.rule,
    "entry": lambda refused: str(refused.decision.entry or ""),
    "mailbox": lambda refused: refused.decision.mailbox,
    "by": lambda refused: refused.decision.by,
    "reason": lambda refused: refused.decision.reason,
    "text": lambda refused: refused.decision.text,
    "queue_id": lambda refused: refused.decision.request.queue_id,
    "instance": lambda refused: refused.decision.request.instance,
}
# The columns that words narrow; the others have few values, or a filter of their own.
NARROWED = (
    *("sender", "recipient", "login", "client", "context"),
    *("rule", "mailbox", "by", "reason", "text", "queue_id", "instance"),
)


class Position(NamedTuple):
    """Behind which refusal a page begins: that of `at`, in Unix seconds, and of so many at the same time, `same`."""

    at: float
    same: int


class Page(NamedTuple):
    """Some refusals, the newest first; `next` is where the next page begins, None where there is none."""

    refusals: list[Refused]
    next: Position | None


def wanted(
    words: Mapping[str, str], *, since: float | None = None, until: float | None = None, spoken: str = ""
) -> Wanted:
    """Whether a refusal is one of those that are asked for.

    *words* are by the name of the column, of `NARROWED`: each must be in it, in any case, or be like it as a glob; one
    behind a minus must not. *since* and *until* are in Unix seconds. *spoken* is `WOULD`, `SPOKEN`, or "" for both.
    """
    conditions = [
        (COLUMNS[name], name_filter(word.removeprefix("-")), not word.startswith("-"))
        for name, text in words.items()
        for word in text.split()
        if word != "-"
    ]

    def is_wanted(refused: Refused) -> bool:
        return (
            (since is None or refused.at >= since)
            and (until is None or refused.at <= until)
            and (not spoken or refused.decision.would is (spoken == WOULD))
            and all(is_like(column(refused)) is expected for column, is_like, expected in conditions)
        )

    return is_wanted


def texts_in(words: Mapping[str, str]) -> list[str]:
    """What stands, folded, in the values of each refusal that is `wanted` for these *words*; of a glob, its pieces."""
    return [fold(word) for text in words.values() for word in text.split() if not word.startswith("-")]


def page_of(
    newest: Iterable[Refused],
    is_wanted: Wanted,
    behind: Position | None,
    *,
    limit: int,
    room: int,
    weigh: Callable[[Refused], int],
) -> Page:
    """The wanted ones of *newest*, *limit* of them at most, which come *behind* a position, if that is given.

    There are fewer where together they *weigh* more than *room*, but at least one; and where `LOOKED_AT` were looked
    at.
    """
    found: list[Refused] = []
    last: Position | None = None
    weight = looked = 0
    for refused in newest:
        # Where this one is, among those of the same time.
        same = last.same + 1 if last is not None and last.at == refused.at else 1
        last = Position(refused.at, same)
        if behind is not None and (refused.at, -same) >= (behind.at, -behind.same):
            continue

        # It is on the page, unless that is full.
        looked += 1
        if is_wanted(refused):
            weight += weigh(refused)
            if found and weight > room:
                return Page(found, _before(last))
            found.append(refused)
        if len(found) == limit or looked == LOOKED_AT:
            return Page(found, last)
    return Page(found, None)


def as_csv(newest: Iterable[Refused], is_wanted: Wanted) -> Iterator[bytes]:
    """The wanted ones of *newest* as csv in UTF-8, with a header, in pieces.

    A piece is full with `PIECE_CHARACTERS`, or a line more, and ends where `PIECE_REFUSALS` were looked at: it may be
    empty. What doesn't print is written as a code, and what a spreadsheet would run has a `'` in front.
    """
    piece = io.StringIO("\ufeff", newline="")  # by which a spreadsheet knows UTF-8
    piece.seek(0, io.SEEK_END)
    table = csv.writer(piece, lineterminator="\r\n")
    table.writerow(COLUMNS)
    looked = 0
    for refused in newest:
        looked += 1
        if is_wanted(refused):
            table.writerow([guarded(printable(column(refused))) for column in COLUMNS.values()])
        if piece.tell() >= PIECE_CHARACTERS or looked == PIECE_REFUSALS:
            yield piece.getvalue().encode()
            piece.seek(0)
            piece.truncate()
            looked = 0
    yield piece.getvalue().encode()


def _before(position: Position) -> Position:
    """The position just before the refusal at *position*, so that a page behind it begins with that one."""
    return Position(position.at, position.same - 1)

"""A table of a million refusals goes to whoever reads it piece by piece, however slowly; in memory, with a clock."""

from collections.abc import Iterable

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IPushProducer

from policyd.admin.refused import PIECE_CHARACTERS, PIECE_REFUSALS, as_csv
from policyd.audit_lines import LoggedDecision
from policyd.model import Request
from policyd.refusals import Refused
from policyd.web.context import BusyError
from policyd.web.http import ANSWER_SECONDS
from policyd.web.pages.page import Streamed
from policyd.web.threaded import ThreadedPages
from tests.web.http_peer import Peer, Transport, World

KEPT = 12_000
BUFFER_BYTES = 65_536  # what Twisted keeps for a peer before it asks for no more


class SlowTransport(Transport):
    """As a real one: it asks for no more while much of what was written has not been read."""

    most_held = 0

    def write(self, data: bytes) -> None:
        super().write(data)
        held = len(self.value())
        self.most_held = max(self.most_held, held)
        if held > BUFFER_BYTES and self.producer is not None:
            IPushProducer(self.producer).pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:  # noqa: N802 - Twisted's name
        self.write(b"".join(data))

    def read(self) -> bytes:
        """All that was written, which the peer reads now."""
        held = bytes(self.value())
        self.clear()
        if self.producer is not None:
            IPushProducer(self.producer).resumeProducing()
        return held


class InTurn:
    """Runs what is called at once; as if too many waited, once it *is_busy*."""

    is_busy = False

    def call(self, function, *values):
        """What `Threads` does."""
        if self.is_busy:
            called: Deferred[object] = Deferred()
            called.errback(BusyError())
            return called
        return maybeDeferred(function, *values)


class Table:
    """The only page: all refusals, of which it counts those that were looked at; *fails_at* one of them."""

    def __init__(self, is_wanted=lambda _: True, fails_at=KEPT):
        self.looked = 0
        self._is_wanted = is_wanted
        self._fails_at = fails_at

    def answer(self, _path, _form):
        """What a `Desk` does."""
        return Streamed("text/csv; charset=utf-8", as_csv(self._refusals(), self._is_wanted))

    def _refusals(self):
        for number in range(KEPT):
            self.looked += 1
            if number == self._fails_at:
                raise KeyError("bob@example.com")
            request = Request(sender=f"s{number}@a.example")
            decision = LoggedDecision(request, "REJECT", False, "restricted-recipient", None, "", "", "", "")
            yield Refused(1_800_000_000.0 - number, decision)


@pytest.fixture
def threads():
    return InTurn()


class Reader(Peer):
    """Asks for the table, and reads only when it is told to."""

    _transport: SlowTransport
    transport_class = SlowTransport

    def begin(self, method="POST"):
        """Ask for it."""
        self.send(f"{method} /refusals.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        return self

    def read(self):
        """What has come since."""
        raw = self._transport.read()
        self._see_end()
        return raw


def served(table, threads):
    """A site with nothing but the *table*."""
    return World(ThreadedPages(table, threads))


def body_of(raw: bytes) -> bytes:
    """The body of an answer in chunks, which must be whole."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            assert rest == b"\r\n"
            return body
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


def test_a_reader_has_no_more_in_memory_than_a_piece_beyond_what_it_reads(threads):
    """Each of many readers would have the whole of it there, for as long as it takes to read."""
    table = Table()
    reader = Reader(served(table, threads)).begin()
    row = 60  # bytes, at least
    assert 0 < table.looked <= (BUFFER_BYTES + PIECE_CHARACTERS) / row

    # A piece is made for each that is read, and none in between.
    raw, read = b"", 0
    while piece := reader.read():
        assert table.looked <= min(KEPT, read + 3 * PIECE_CHARACTERS / row)
        read += piece.count(b"\r\n")
        raw += piece
    rows = body_of(raw).decode("utf-8-sig").split("\r\n")
    assert (len(rows), rows[-2].count("s11999@a.example"), rows[-1]) == (KEPT + 2, 1, "")
    assert reader._transport.most_held < BUFFER_BYTES + 2 * PIECE_CHARACTERS
    assert not reader.is_closed


def test_where_few_are_wanted_the_reactor_has_its_turn_in_between(threads):
    """A thread that looks through a million at once would let nobody else's page be made meanwhile."""
    pieces = [*as_csv(Table()._refusals(), lambda refused: refused.decision.request.sender == "s11999@a.example")]
    assert [each.count(b"\r\n") for each in pieces] == [1, 1]  # the header after so many, and what was wanted
    assert PIECE_REFUSALS < KEPT < 2 * PIECE_REFUSALS


def test_who_leaves_has_nothing_made_any_more(threads):
    """A browser tab that is closed must not cost a look at all refusals."""
    table = Table()
    reader = Reader(served(table, threads)).begin()
    looked = table.looked
    reader.leave()
    reader._transport.read()
    assert table.looked == looked < KEPT


def test_who_reads_goes_on_and_who_reads_nothing_is_cut(threads):
    """On a slow line it takes as long as it takes; a peer that has gone without a word holds nothing for long."""
    world = served(Table(), threads)
    reader = Reader(world).begin()
    for _ in range(5):
        world.clock.advance(ANSWER_SECONDS - 1)
        assert reader.read()
        assert not reader.is_closed
    world.clock.advance(ANSWER_SECONDS)
    assert reader.is_aborted


def test_a_table_of_which_nothing_can_be_made_is_a_defect_of_ours(threads):
    """And not a browser that waits."""
    reader = Reader(served(Table(fails_at=0), threads)).begin()
    assert reader.answers()[0].status == 500


def test_a_table_that_breaks_off_can_be_told_from_a_whole_one(threads):
    """No end of the last chunk: the download has failed, and the log says where."""
    world = served(Table(fails_at=5_000), threads)
    reader = Reader(world).begin()
    raw = b""
    while piece := reader.read():
        raw += piece
    assert reader.is_aborted
    assert not raw.endswith(b"0\r\n\r\n")
    (line,) = world.lines
    assert "please report that a page could not be made: KeyError" in line
    assert "bob" not in line


def test_where_too_many_ask_it_is_cut_and_no_defect(threads):
    """Nothing is wrong with us; and a whole table it is not."""
    world = served(Table(), threads)
    reader = Reader(world).begin()
    threads.is_busy = True
    reader.read()
    assert reader.is_aborted
    assert world.lines == []


def test_only_its_head_costs_no_look(threads):
    """Nothing of it is sent."""
    table = Table()
    reader = Reader(served(table, threads)).begin("HEAD")
    (answer,) = reader.answers(to_head=True)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert table.looked == 0

"""Several dozen smtpd processes at work, each on a kept connection, and a probe for the moment after a command."""

import threading
import time
from contextlib import suppress
from random import Random

from tests.oracle.model import Request
from tests.soaking.questions import question as random_question
from tests.soaking.record import Record
from tests.soaking.timeline import Timeline
from tests.support.fake_smtpd import FakeSmtpd, HungUpError, OutOfStepError, request

PACES = (0.04, 0.1, 0.1, 2.0)  # seconds between two questions, at most: a flood, a usual day, a night
_RETRY_SECONDS = 0.1  # before a new connection; Postfix waits for a second


class Smtpd:
    """One smtpd process: a kept connection to the daemon at *path*; each answer is checked."""

    def __init__(self, path: str, timeline: Timeline, record: Record) -> None:
        self._path = path
        self._timeline = timeline
        self._record = record
        self._connection: FakeSmtpd | None = None
        self._used = 0.0  # when it was last known to be open

    def ask(self, question: Request) -> bool:
        """Ask, and as Postfix does, a second time after a hang-up. Whether there was an answer."""
        number = self.begin(question)
        if number and self.end(question, number):
            return True
        time.sleep(_RETRY_SECONDS)
        number = self.begin(question)
        return bool(number and self.end(question, number))

    def begin(self, question: Request) -> int:
        """Send all of *question* but its end, on a new connection if need be. Its number; 0 if it can't be sent."""
        if self._connection is not None and self._connection.has_answer():
            self._must_be_closed()
        if self._connection is None and not self._connect():
            return 0
        assert self._connection is not None
        number = self._record.number()
        self._bytes = request(instance=f"n{number}", **question._asdict())
        try:
            self._connection.send(self._bytes[:-1])
        except OutOfStepError as error:
            self._lost(f"{question}: {error}", isinstance(error, HungUpError), number)
            return 0
        return number

    def end(self, question: Request, number: int) -> bool:
        """Send the last byte, and check the answer. Whether there was one."""
        assert self._connection is not None
        sent = time.monotonic(), time.time()
        try:
            if self._connection.has_answer():  # it has been closed meanwhile
                self._connection.must_hang_up()
                raise HungUpError("the server hung up on half a request")
            self._connection.send(self._bytes[-1:])
            action = self._connection.read_reply()
        except (OutOfStepError, TimeoutError) as error:
            self._lost(f"{question}: {error}", isinstance(error, HungUpError), number)
            return False
        received = time.monotonic(), time.time()
        self._used = received[0]
        self._record.answered(number, action)
        if differs := self._timeline.differs(question, action, sent, received):
            self._record.differ(f"n{number}: {differs}")
        return True

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> bool:
        self._used = time.monotonic()
        try:
            self._connection = FakeSmtpd(self._path)
        except BlockingIOError:  # the queue of new connections is full for a moment
            return False
        except OSError as error:
            self._lost(f"no connection: {error}", True)
            return False
        return True

    def _must_be_closed(self) -> None:
        assert self._connection is not None
        try:
            self._connection.must_hang_up()
        except OutOfStepError as error:
            self._lost(str(error), False)
        else:
            self._lost("a kept connection was closed", True)

    def _lost(self, how: str, is_closed: bool, number: int = 0) -> None:
        self._record.hung_up(number)
        self.close()
        now = time.monotonic()
        if not is_closed or not self._timeline.may_hang_up(self._used, now):
            self._record.differ(f"{how} (n{number}, within {now - self._used:.3f} s)")


class Load:
    """*count* smtpds, each in a thread of its own, which asks at random by *seed*. `pace` may be changed."""

    def __init__(self, path: str, timeline: Timeline, record: Record, count: int, seed: str) -> None:
        self._path, self._timeline, self._record = path, timeline, record
        self.pace = PACES[1]
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(Random(f"{seed} {number}"),)) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each finish its question, and close."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, random: Random) -> None:
        smtpd = Smtpd(self._path, self._timeline, self._record)
        try:
            while not self._is_over.is_set():
                smtpd.ask(random_question(random))
                if random.random() < 0.01:  # Postfix's own end of a connection
                    smtpd.close()
                self._is_over.wait(random.random() * self.pace)
        except Exception as error:  # noqa: BLE001 - a thread that dies in silence would check nothing
            self._record.differ(f"the load itself failed: {error!r}")
        finally:
            smtpd.close()


class Probe:
    """Some connections of the administrator's own, for questions that begin before a command and end just after."""

    def __init__(self, path: str, timeline: Timeline, record: Record, count: int) -> None:
        self._smtpds = [Smtpd(path, timeline, record) for _ in range(count)]
        self._begun: list[tuple[Smtpd, Request, int]] = []

    def begin(self, random: Random, about: str) -> None:
        """Send half of the questions, all but the last byte."""
        self._begun = []
        for smtpd in self._smtpds[::2]:
            question = random_question(random, about)
            if number := smtpd.begin(question):
                self._begun.append((smtpd, question, number))

    def end(self, random: Random, about: str) -> None:
        """Send what is missing, then whole questions: all of them must meet what is in force now."""
        begun, self._begun = self._begun, []
        for smtpd, question, number in begun:
            smtpd.end(question, number)
        for smtpd in self._smtpds[1::2]:
            smtpd.ask(random_question(random, about))

    def close(self) -> None:
        """Close the connections."""
        for smtpd in self._smtpds:
            with suppress(OSError):
                smtpd.close()

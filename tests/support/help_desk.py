"""The pages on a small site: tables with a history, refusals, counters, and a clock that stands still."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Lock
from zlib import crc32

from policyd.admin.session import Session, open_session
from policyd.audit import AuditLog
from policyd.counters import Cell, CounterPage
from policyd.minutes import Minutes
from policyd.model import OUTSIDE, Action, Decision, Domain, Receive, Request, Rule
from policyd.refusals import RefusalRing
from policyd.settings import AuditSettings, HttpSettings, Settings
from policyd.store.edit import EntryTerms, RestrictionTerms, need_group, need_mailbox
from policyd.web.pages.desk import TABLE, Desk
from policyd.web.pages.page import Reply, Streamed
from policyd.web.pages.sources import Sources
from tests.support.kept_lines import KeptLines
from tests.support.parties import party, party_set

ANN = "root(sudo:ann)"
NOW = int(datetime(2026, 11, 25, 10, 0).astimezone().timestamp())
SET = int(datetime(2026, 11, 3, 10, 0).astimezone().timestamp())
END = int(datetime(2026, 12, 31, 23, 59, 59).astimezone().timestamp())
REFUSED = Decision(
    Action.REJECT,
    Rule.RESTRICTED_RECIPIENT,
    "5.7.1 This mailbox does not take mail from this sender: internal mailbox",
    "internal mailbox",
    mailbox="bob",
    is_refused=True,
    by="mailbox",
)
MONITORED = REFUSED._replace(action=Action.DUNNO, mailbox="carol", by="group:crew", reason="")
PERMITTED = Decision(Action.DUNNO, Rule.DEFAULT, mailbox="dora")


class Place:
    """A help desk's pages in *folder*, whose clock is at `now`; `ask` and `get` are what a browser does."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.settings = replace(
            Settings(
                database=f"sqlite:///{folder}/policyd.db",
                audit=AuditSettings(syslog="none"),
                http=HttpSettings(doctor_file=folder / "doctor.json"),
            ),
            **settings,  # type: ignore[arg-type]  # as a test names them
        )
        self.now = NOW
        self.counters = CounterPage(1)
        self.refusals = RefusalRing(1, 1000)
        self.minutes = Minutes()
        self.lock = Lock()
        sources = Sources(self.settings, self.counters, self.refusals, self.minutes, self.lock)
        self.desk = Desk(sources, lambda: self.now)
        self.counters.at(0).set(Cell.WORKERS, 1)

    @property
    def session(self) -> Session:
        """The way to the tables."""
        return open_session(self.settings)

    def decide(self, request: Request, decision: Decision, at: float) -> None:
        """Have the daemon decide so at that time, in Unix seconds."""
        self.counters.at(0).decided(request, decision, 0.0001)
        if decision.is_refused:
            kept, ring = KeptLines(), self.refusals.at(0)
            AuditLog(AuditSettings(), kept).decided(request, decision, 0.1)
            ring.add(at, kept.lines[0].encode("utf-8", "backslashreplace")[: ring.line_bytes])

    def get(self, path: str) -> Reply:
        """The reply to a GET."""
        return self._page(path, {})

    def post(self, path: str, **form: str) -> Reply:
        """The reply to a form."""
        return self._page(path, form)

    def text(self, path: str, form: Mapping[str, str] | None = None) -> str:
        """The page, in Unicode."""
        return self._page(path, form or {}).body.decode("utf-8")

    def table(self, **form: str) -> Streamed:
        """The refusals that the form asks for, as a file."""
        answered = self.desk.answer(TABLE, form)
        assert isinstance(answered, Streamed)
        return answered

    def _page(self, path: str, form: Mapping[str, str]) -> Reply:
        answered = self.desk.answer(path, form)
        assert isinstance(answered, Reply)
        return answered


def make_place(folder: Path, **settings: object) -> Place:
    """A site where bob is internal, alice has left, and the crew receives from its own domains until the year ends."""
    place = Place(folder, **settings)
    with place.session.changing(ANN, SET, may_create=True) as made:
        edit = made.edit
        edit.add_domain(Domain("example.com"))
        for name in ("alice", "bob", "carol", "dora"):
            edit.add_mailbox(name, [f"{name}@example.com"], "")
        edit.add_address("bob", "robert@example.com")
        bob = need_mailbox(edit.queries, "bob")
        edit.restrict(bob, RestrictionTerms(Receive.INSIDERS, party_set("joe@a.example"), "internal mailbox", END))
    with place.session.changing("root", SET + 86400) as made:
        edit = made.edit
        edit.block_sender(party("alice"), OUTSIDE, EntryTerms(party_set("@partner.example"), reason="left the company"))
        edit.block_sender(party("@.bulk.example"), party("bob"), EntryTerms(until=END, comment="asked for by Bob"))
        edit.add_group("crew")
        edit.join(need_group(edit.queries, "crew"), [party("carol"), party("bob")])
        edit.restrict(need_group(edit.queries, "crew"), RestrictionTerms(Receive.DOMAIN, until=END))
    for number in reversed(range(40)):
        place.decide(mail(f"eve{number}@a.example", "bob@example.com"), REFUSED, NOW - 60 * number)
    place.decide(mail("news@shop.example", "carol@example.com"), MONITORED, NOW - 30)
    place.decide(mail("joe@a.example", "dora@example.com"), PERMITTED, NOW - 20)
    return place


def mail(sender: str, recipient: str, **others: str) -> Request:
    """A request at RCPT."""
    given = {
        "instance": f"1d2f.{crc32(sender.encode('utf-8', 'replace')):x}.0",
        "queue_id": "4XyZ0B1cJ2z9",
        "client_name": "mx.a.example",
        "client_address": "203.0.113.7",
        "policy_context": "inbound",
    }
    return Request("RCPT", sender=sender, recipient=recipient, **{**given, **others})

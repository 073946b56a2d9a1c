"""Random tables, exported as maps into a real Postfix: it answers as policyd, but for what the export tells."""

import copy
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from policyd.admin.exporting import export_tables
from policyd.admin.session import Session as Tables
from policyd.settings import AuditSettings
from tests.oracle.edited import EditedAnswerer, the_edited_product
from tests.oracle.model import ANYONE, OUTSIDE, Answer, Request, Settings, World, answer, find, fold
from tests.oracle.worlds import HOME, LOCALS, NAMES, NOW, build, tables

from .authentication import authentication
from .instance import Postfix
from .replies import ACCEPTED
from .smtp import OUTSIDE as STRANGER
from .smtp import Session
from .test_native_maps import MAIN_CF, install

pytestmark = pytest.mark.postfix

SETTINGS = Settings(origin=HOME, insider_networks=["127.0.0.0/8", "10.0.0.0/8"])
MANAGED = (HOME, "customer.example", "strasse.example", "alias.example")
SENDERS = [
    "",
    "alice",
    *(f"{local}@{domain}" for local in LOCALS for domain in MANAGED),
    *(f"{local}@{domain}" for local in ("alice", "joe") for domain in ("partner.example", "mail.partner.example")),
    "x@sub.example.com",
    "BOB+x@Example.COM",
    "bob+list+x@example.com",
    "info+x@alias.example",
    "joe+x@partner.example",
    "x@xn--bcher-kva.example",
    "prvs=12ab=alice@example.com",
]
RECIPIENTS = [
    "bob",
    *(f"{local}@{domain}" for local in LOCALS for domain in (*MANAGED, "xn--bcher-kva.example", "partner.example")),
    *(f"nobody@{domain}" for domain in MANAGED),
    *(f"postmaster@{domain}" for domain in (*MANAGED, "partner.example")),
    "POSTMASTER+x@alias.example",
    "Alice+x@Example.COM.",
    "bob+list+x@customer.example",
    "carol+x@alias.example",
    "x@sub.example.com",
    "IMCEAEX-_O=ORG_CN=ALICE@example.com",
    "IMCEASMTP-bob+40example+2Ecom@alias.example",
    "prvs=12ab=carol@customer.example",
]
CLIENTS = [(STRANGER, ""), ("10.1.2.3", "")] + [
    (STRANGER, login)
    for login in (*NAMES, "ALICE", "ghost", *(f"{local}@{domain}" for local in LOCALS for domain in MANAGED[:2]))
]


@pytest.fixture(scope="module")
def native(folder: Path) -> Iterator[Postfix]:
    """A Postfix that knows nothing of policyd; each connection to it finds the maps as they are then."""
    (folder / "worlds").mkdir()
    instance = Postfix(folder / "worlds", ("export",))
    instance.write_main()  # for postmap
    with the_edited_product(SETTINGS) as nothing:
        said = install(exported(nothing)[0], instance.config)
    instance.write_main(MAIN_CF, *said)
    patient = [f"smtpd_{each}_error_limit = 1000000" for each in ("soft", "hard")]
    instance.write_master(instance.service("export", "n", "max_use = 1", *patient))
    with authentication(instance.queue / "private" / "auth"):
        try:
            instance.start()
            yield instance
        finally:
            instance.stop()


def exported(policyd: EditedAnswerer) -> tuple[str, Counter[str]]:
    """The maps of the tables, and what the export counted as left out."""
    target = policyd.commands.folder / "exported"
    outcome = export_tables(Tables(policyd.commands.store, AuditSettings(syslog="none")), "postfix", target, NOW)
    return target.read_text(), outcome.lost


def as_the_export_says(world: World) -> World:
    """*world* without what the first comment of an export says that maps can't express."""
    said = copy.deepcopy(world)
    said.settings.origin = ""  # no map knows what a login without a domain is an address of
    restrictions = [each.restriction for each in said.mailboxes.values()]
    restrictions += [each.restriction for each in said.groups.values()]
    for restriction in (*restrictions, *(each.restriction for each in said.domains.values())):
        restriction.accepted = []
        restriction.receive = "nobody" if restriction.receive == "domain" else restriction.receive
    said.entries = [entry for entry in said.entries if is_carried(entry.who, entry.to)]
    for entry in said.entries:
        entry.except_recipients, entry.except_senders = [], []
    return said


def is_carried(who: str, to: str) -> bool:
    """Whether the maps have such an entry."""
    return to in (ANYONE, OUTSIDE) and who != ANYONE


NOBODY = "ghost@nowhere.invalid"  # whom no table knows, and no pattern matches


def is_refused_by_maps(world: World, request: Request) -> bool:
    """Whether maps that do what the export says refuse *request*."""
    if is_wrapped(request.recipient) and as_maps_hear(world, request).recipient.rpartition("@")[2] in world.domains:
        return True
    found = answer_of_maps(world, request)
    if found.rule == "always-accepted":  # who is blocked to anyone does not reach the postmaster either
        found = answer_of_maps(world, request._replace(recipient="", protocol_state="MAIL"))
    return found.action == "REJECT"


def answer_of_maps(world: World, request: Request) -> Answer:
    """What maps that do what the export says answer, for all that they know of *request*."""
    said, heard = as_the_export_says(world), as_maps_hear(world, request)
    if heard.sasl_username == NOBODY:  # of a login that is no mailbox's, only an entry about its very address is there
        about_it = copy.copy(said)
        its = [each for each in spellings_of_login(world, request.sasl_username) if "@" in each]
        about_it.entries = [each for each in said.entries if each.who in its]
        found = answer(about_it, heard._replace(sasl_username=request.sasl_username), NOW)
        if found.rule == "blocked-sender":
            return found
    return answer(said, heard, NOW)


def as_maps_hear(world: World, request: Request) -> Request:
    """*request* as it is to who knows only what the export says that maps know of it."""
    login, sender = request.sasl_username, request.sender
    if login and not is_known_login(world, login):
        login = NOBODY
    if sender.startswith("prvs="):
        sender = f"ghost@{sender.rpartition('@')[2]}"
    recipient = request.recipient
    recipient = recipient if "@" in recipient or not recipient else f"{recipient}@{HOME}"
    sender = sender if "@" in sender or not sender else f"{sender}@{HOME}"
    return request._replace(sasl_username=login, sender=sender, recipient=recipient)


def is_known_login(world: World, login: str) -> bool:
    """Whether it is a mailbox's name without blanks, or one of its addresses, in an alias domain, too."""
    known = {fold(mailbox.name) for mailbox in world.mailboxes.values() if " " not in mailbox.name}
    return fold(login) in known or find(world, login).mailbox in filter(
        None, map(world.holder, spellings_of_login(world, login))
    )


def spellings_of_login(world: World, login: str) -> list[str]:
    """A login as it is compared, and in the domain that its own stands for."""
    local, _, domain = fold(login).rpartition("@")
    return [fold(login), f"{local}@{world.target(domain)}"] if domain in world.domains else [fold(login)]


def is_wrapped(recipient: str) -> bool:
    """Whether a recipient holds another address."""
    return recipient.lower().startswith(("imcea", "prvs=")) or any(each in recipient for each in "%!")


def must_be_counted(world: World, request: Request, decision: Answer, lost: Counter[str]) -> None:
    """What policyd refuses and the maps let through: a blocked sender who is left out, or of whom they hear nothing."""
    assert decision.rule == "blocked-sender"
    said = as_the_export_says(world)
    said.settings.origin = world.settings.origin
    if answer(said, request, NOW).action == "REJECT":  # the maps have the entry, and hear less of who it is
        login = request.sasl_username
        assert lost["login"] or not world.mailboxes.get(fold(login)) or not is_blocked(said, fold(login))
        return
    left_out = [entry for entry in world.entries if not is_carried(entry.who, entry.to) and not ended(entry.until)]
    assert decision.entry in {f"{entry.who} to {entry.to}".casefold() for entry in left_out}
    assert lost["blocked sender"] >= len(left_out)


def is_blocked(world: World, mailbox: str) -> bool:
    """Whether the entry for a mailbox itself stands in *world*."""
    return any(entry.who == mailbox for entry in world.entries if not ended(entry.until))


def ended(until: int | None) -> bool:
    """Whether that has passed when the export is made."""
    return until is not None and until <= NOW


def must_be_said(world: World, request: Request, decision: Answer, lost: Counter[str]) -> None:
    """What policyd lets through and the maps refuse: for an exception or an accepted sender, which are counted."""
    if is_wrapped(request.recipient) or decision.rule == "always-accepted":  # said, and not counted
        return
    said = answer_of_maps(world, request)
    match said.rule:
        case "blocked-sender":
            assert lost["except"]
        case "restricted-recipient":
            assert lost["accept"] or lost["receive = domain"]
        case _:
            raise AssertionError(said)


def questions(data: st.DataObject) -> list[Request]:
    """Every combination of some clients and logins, senders and recipients."""
    clients = data.draw(st.lists(st.sampled_from(CLIENTS), min_size=5, max_size=8, unique=True))
    senders = data.draw(st.lists(st.sampled_from(SENDERS), min_size=5, max_size=8, unique=True))
    recipients = data.draw(st.lists(st.sampled_from(RECIPIENTS), min_size=5, max_size=8, unique=True))
    return [
        Request(sender, recipient, login, address)
        for (address, login), sender, recipient in itertools.product(clients, senders, recipients)
    ]


def ask(postfix: Postfix, asked: list[Request]) -> list[str]:
    """The replies of Postfix, one for each."""
    replies: list[str] = []
    for (address, login), of_client in itertools.groupby(asked, lambda each: (each.client_address, each.sasl_username)):
        with Session(postfix.port["export"]) as session:
            session.pretend(address, "client.example.net", login)
            for sender, of_sender in itertools.groupby(of_client, lambda each: each.sender):
                replies += session.ask_all(sender, [each.recipient for each in of_sender])
    return replies


@pytest.mark.parametrize("worlds", [3, pytest.param(40, marks=pytest.mark.full)])
def test_maps_of_random_tables_answer_as_policyd_but_for_what_the_export_says(native: Postfix, worlds: int) -> None:
    """Whoever leaves policyd behind loses no mail, and opens no mailbox, that he was not told of."""
    seen: Counter[str] = Counter()

    @settings(max_examples=worlds, suppress_health_check=[*HealthCheck], deadline=None)
    @given(data=st.data())
    def compare(data: st.DataObject) -> None:
        made = data.draw(tables())
        with the_edited_product(SETTINGS) as policyd:
            built = build(policyd, SETTINGS, made.commands)
            text, lost = exported(policyd)
            install(text, native.config)
            asked = questions(data)
            for request, reply in zip(asked, ask(native, asked), strict=True):
                decision = built.ask(request)
                is_refused, was_refused = reply != ACCEPTED, decision.action == "REJECT"
                note(f"{request}: {reply} / {decision}")
                assert reply == ACCEPTED or reply.startswith("554 5.")
                assert is_refused is is_refused_by_maps(built.world, request)
                if was_refused and not is_refused:
                    must_be_counted(built.world, request, decision, lost)
                if is_refused and not was_refused:
                    must_be_said(built.world, request, decision, lost)
                seen[f"{decision.rule}, and the maps {'refuse' if is_refused else 'let through'}"] += 1

    compare()
    print(f"{seen.total()} answers compared: {dict(seen)}")  # noqa: T201 - what a long run has seen

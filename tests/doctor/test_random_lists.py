"""Restriction lists that nobody has seen: what doctor says of each service is compared with what a real Postfix does.

One Postfix has many services, each with lists of its own or those of main.cf. To each comes mail that is to be
refused, whoever sends it: what passes must be told, and what does not pass must not be called a hole.
"""

import random
import shutil
import smtplib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from policyd.doctor.examination import Examination
from policyd.doctor.placement import diagnose_placement
from policyd.doctor.postconf import Instance, read_instance
from policyd.endpoint import default_listen
from policyd.settings import Settings, load_settings
from tests.postfix.authentication import authentication
from tests.postfix.daemon import USER, Daemon
from tests.postfix.instance import Postfix, missing_for_postfix
from tests.postfix.smtp import Session
from tests.support.places import OPEN_PLACE
from tests.support.randomised import a_seed
from tests.support.required import give_up

LISTS = ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
RELAY = "smtpd_relay_restrictions"
ASK = "check_policy_service unix:policyd/policyd.sock"
CHECKS = (
    ASK,
    "check_policy_service { unix:policyd/policyd.sock, timeout=5s, { default_action = 451 4.3.5 away } }",
    "Check_Policy_Service { unix:policyd/policyd.sock, policy_context=inbound }",
)
CLASSES = {
    "asked": ASK,
    "asked_late": f"permit_mynetworks, {ASK}",
    "lan": "permit_mynetworks",
    "nothing": "sleep 0",
    "both": "lan, asked",
    "never": "warn_if_reject asked",
}
WORDS = (
    *("permit_mynetworks", "permit_sasl_authenticated", "permit_auth_destination", "PERMIT_MYNETWORKS", "permit"),
    *("reject_non_fqdn_recipient", "reject_unauth_destination", "reject_unlisted_recipient", "defer_if_permit"),
    *("warn_if_reject reject", "warn_if_reject reject_unauth_destination", "sleep 0", "reject"),
)
ASKED_FOR_BOB = "check_recipient_access inline:{bob@example.com=asked}"
TABLES = (
    "check_recipient_access inline:{bob@example.com=OK}",
    ASKED_FOR_BOB,
    "check_recipient_access inline:{ann@example.com=OK}",
    "check_sender_access inline:{x@far.example=permit_mynetworks}",
    "check_client_access inline:{192.0.2=OK}",
    "check_helo_access inline:{nobody.example=REJECT}",
    "check_recipient_access inline:{example.com=DUNNO}",
    "inline:{bob@example.com=OK}",
)
# What says that mail passes which is to be refused; of the last nobody knows whom its table lets through.
HOLES = {"check-missing", "check-overridden", "check-after-permit", "check-wrong-stage", "check-warn-only"}
DOUBTS = {"check-after-access", "check-conditional"}
CLIENTS = (
    ("203.0.113.7", ""),
    ("10.0.0.5", ""),  # which is in mynetworks
    ("203.0.113.8", "carol@example.com"),
    ("10.0.0.5", "carol@example.com"),
)
RECIPIENTS = (["bob@example.com"], ["alice@example.com", "bob@example.com"])


def restrictions(dice: random.Random) -> str:
    """A list: a few words of any kind, and perhaps the check."""
    words = [dice.choice(WORDS) for _ in range(dice.randint(0, 2))]
    words += [dice.choice([*CLASSES]) for _ in range(dice.choice((0, 0, 1)))]
    words += [dice.choice(TABLES) for _ in range(dice.choice((0, 0, 0, 1)))]
    words += [f"{dice.choice(('', '', '', '', 'warn_if_reject '))}{dice.choice(CHECKS)}"] * dice.choice((0, 1, 1))
    dice.shuffle(words)
    return dice.choice((", ", " ")).join(words)


def parameters(dice: random.Random, count: int) -> dict[str, str]:
    """Some lists, and what else says when they are looked at."""
    chosen = {f"smtpd_{name}_restrictions": restrictions(dice) for name in dice.sample(LISTS, count)}
    if RELAY in chosen:
        # Where neither this list nor the next has it in reach, smtpd does not start.
        chosen[RELAY] = f"reject_unauth_destination {chosen[RELAY]}"
    switches = ("smtpd_delay_reject", "smtpd_relay_before_recipient_restrictions")
    return chosen | {name: "no" for name in switches if dice.random() < 0.2}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place that every user can reach."""
    if reason := missing_for_postfix():
        give_up("POSTFIX", reason)
    made = Path(tempfile.mkdtemp(prefix="policyd-", dir=OPEN_PLACE))
    made.chmod(0o755)
    shutil.chown(made, USER)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def make(folder: Path, dice: random.Random, services: int) -> Postfix:
    """A Postfix with random lists in main.cf and at each of its services."""
    postfix = Postfix(folder, [f"door{number}" for number in range(services)])
    main = {
        RELAY: "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination",
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_restriction_classes": ", ".join(CLASSES),
        **CLASSES,
        **parameters(dice, 2),
    }
    postfix.write_main(*(f"{name} = {value}" for name, value in main.items()))
    postfix.write_master(
        *(
            postfix.service(door, "n", *(f"{name} = {value}" for name, value in parameters(dice, 2).items()))
            for door in postfix.port
        )
    )
    return postfix


def passes(port: int, client: tuple[str, str], recipients: list[str]) -> bool:
    """Whether mail from *client* reaches bob, who takes none."""
    try:
        session = Session(port)
    except smtplib.SMTPConnectError:
        return False  # the lists are looked at when a client connects, and refuse everybody
    with session:
        if not session.greet_as(client[0], "client.far.example", client[1]).startswith("250"):
            return False
        if not session.mail("x@far.example").startswith("250"):
            return False
        replies = [session.rcpt(each) for each in recipients]
        if not replies[-1].startswith("250"):
            return False
        said = session.command("DATA")
        return said.startswith("354") and session.command_bytes(b"Subject: x\r\n\r\nx\r\n.").startswith("250")


def takes_mail(port: int) -> bool:
    """Whether anybody gets mail in to alice, who takes it from everybody."""
    return any(passes(port, client, ["alice@example.com"]) for client in CLIENTS)


def told(instance: Instance, settings: Settings, service: str) -> set[str]:
    """The codes of what doctor says of *service*."""
    examined = Examination(instance, settings, settings.listen or default_listen())
    return {each.code for each in diagnose_placement(examined) if each.about.startswith(f"{service}/inet")}


@pytest.mark.postfix
@pytest.mark.parametrize(
    ("number", "services"), [(0, 3), *(pytest.param(number, 12, marks=pytest.mark.full) for number in range(1, 9))]
)
def test_what_passes_is_what_doctor_says(folder: Path, number: int, services: int) -> None:
    """Who is told that all is well looks no further; who is told of a hole that is none trusts it no more."""
    dice = random.Random(a_seed() + number)
    postfix = make(folder, dice, services)
    place = postfix.queue / "policyd"
    place.mkdir()
    shutil.chown(place, USER, "postfix")
    place.chmod(0o2750)
    daemon = Daemon(folder, place / "policyd.sock", {})
    daemon.command("domain", "add", "example.com")
    for name in ("alice", "bob"):
        daemon.command("mailbox", "add", name, f"{name}@example.com")
    daemon.command("mailbox", "restrict", "bob", "--receive", "nobody")
    wrong = []
    with ExitStack() as stack:
        stack.enter_context(authentication(postfix.queue / "private" / "auth"))
        stack.callback(daemon.stop)
        daemon.start()
        stack.callback(postfix.stop)
        postfix.start()
        instance, settings = read_instance(postfix.config), load_settings(daemon.config)
        for service in instance.smtpd:
            codes = told(instance, settings, service.endpoint)
            port = int(service.endpoint.rpartition(":")[2])
            through = [
                (client, len(recipients))
                for client in CLIENTS
                for recipients in RECIPIENTS
                if passes(port, client, recipients)
            ]
            is_told = not codes.isdisjoint(HOLES | DOUBTS)
            lists = {name: service.values[f"smtpd_{name}_restrictions"] for name in LISTS}
            is_for_all = not any(ASKED_FOR_BOB in value for value in lists.values())  # and not for bob alone
            # What refuses or defers all mail, for whatever reason, does not show that there is no hole.
            is_alarm = not through and is_for_all and codes & HOLES and takes_mail(port)
            if is_alarm or (through and not is_told):
                wrong.append((through, codes, service.overrides, lists))
    assert not wrong, "\n\n".join(map(str, wrong))

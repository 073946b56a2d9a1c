"""Random maps, in a real Postfix and imported: policyd refuses nobody whom the map lets through, nor the other way.

Each map is at a door of its own. Only what was counted as wrong, or as skipped, may be answered differently. A failure
prints its seed; `POLICYD_SEED` plays it again.
"""

import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from policyd.decide import Decider
from policyd.model import Decision, Request
from policyd.settings import load_settings
from policyd.store.lookup import Lookup
from tests.support.command_line import CommandLine, command_line
from tests.support.few import few
from tests.support.randomised import a_seed
from tests.support.waiting import LIMIT_SECONDS

from .instance import Postfix
from .smtp import OUTSIDE
from .test_native_maps import DOMAINS_ALONE, session_at

pytestmark = pytest.mark.postfix

SEED = a_seed()
SENDER_MAPS, RECIPIENT_MAPS, VIRTUAL_MAPS = 20, 6, 8

# Managed is the last one.
DOMAINS = ("a.example", "b.a.example", "c.b.a.example", "d.example", "own.example")
LOCALS = ("u", "v", "u+x", "u+y")
REFUSALS = ("REJECT", "reject 5.7.1", "550 5.7.1", "554")
ANSWERS = ("OK", "DUNNO", "ok", "permit", "RELAY", "12", "HOLD", "PREPEND X-Seen: yes", "WARN watch")
UNCERTAIN = ("450 4.7.1 later", "DEFER later", "my_class", "reject_unknown_sender_domain, permit", "DISCARD")
MAIN_CF = """
smtpd_relay_restrictions = check_recipient_access static:OK, reject
smtpd_restriction_classes = my_class
my_class = reject
smtpd_reject_unlisted_recipient = yes
"""
USUAL = "parent_domain_matches_subdomains = smtpd_access_maps"


class Door(NamedTuple):
    """A map at a door of Postfix: its text, the parameters of the door, and how it is imported."""

    name: str
    text: str
    parameters: tuple[str, ...]
    options: tuple[str, ...]


def sender_map(chance: random.Random, number: int) -> Door:
    """An access(5) map of senders, with exceptions, and exceptions from those, in any order."""
    is_alone = chance.random() < 0.4
    lines: list[str] = []
    for _ in range(chance.randint(2, 9)):
        kind = chance.random()
        domain = chance.choice(DOMAINS)
        if kind < 0.4:
            key = f"{chance.choice(LOCALS)}@{domain}"
        elif kind < 0.8:
            key = f".{domain}" if is_alone and chance.random() < 0.5 else domain
        else:
            key = chance.choice(["u@", "v@", "u+x@", "<>"])
        key = key.upper() if chance.random() < 0.1 else key
        values = REFUSALS if chance.random() < 0.5 else UNCERTAIN if chance.random() < 0.15 else ANSWERS
        value = chance.choice(values)
        # After a status code alone, Postfix before 3.12 says the text of the row that it read before.
        if value in REFUSALS and (value.endswith("5.7.1") or chance.random() < 0.9):
            value += f" line{len(lines) + 1}"
        lines.append(f"{key}{chance.choice([' ', chr(9)])}{value}")
    if is_alone and not any(line.startswith(".") for line in lines):
        lines.append(".nowhere.example DUNNO")
    name = f"senders{number}"
    check = f"smtpd_recipient_restrictions = check_sender_access $default_database_type:{{folder}}/{name}"
    return Door(
        name,
        "\n".join(lines) + "\n",
        ("smtpd_sender_restrictions =", DOMAINS_ALONE if is_alone else USUAL, check),
        ("--into", "blocked"),
    )


def recipient_map(chance: random.Random, number: int) -> Door:
    """A map of valid recipients, whose values mean nothing."""
    domain, name = f"r{number}.example", f"recipients{number}"
    value = chance.choice(["x", "OK", "na", "anything", "-", "1", f"{domain}/u/", f"{domain}/u", "/var/mail/u"])
    keys = [f"{each}@{domain}" for each in chance.sample(LOCALS, chance.randint(1, 3))]
    keys += [f"@{domain}"] if chance.random() < 0.3 else []
    chance.shuffle(keys)
    text = "".join(f"{key}\t{value}\n" for key in keys)
    parameters = (f"virtual_mailbox_maps = $default_database_type:{{folder}}/{name}",)
    return Door(name, text, parameters, ("--into", "mailboxes", "--add-domains"))


def virtual_map(chance: random.Random, number: int) -> Door:
    """A map of virtual(5): aliases, several targets, chains, circles, catch-alls, and an alias domain."""
    domain, alias, name = f"v{number}.example", f"w{number}.example", f"virtual{number}"
    locals_ = chance.sample(LOCALS, chance.randint(1, 4))
    lines = [f"{domain} anything", f"{alias} anything"]
    for local in locals_:
        targets = [f"{chance.choice(locals_)}@{domain}", "out@outside.example", local.partition("+")[0]]
        lines.append(f"{local}@{domain} {', '.join(chance.sample(targets, chance.choice([1, 1, 2])))}")
    lines += [f"{local}@{alias} {chance.choice(locals_)}@{domain}" for local in chance.sample(LOCALS, 1)]
    targets = [f"@{domain}", f"{locals_[0]}@{domain}", "@outside.example"]
    lines += [f"@{alias} {chance.choice(targets)}"] if chance.random() < 0.6 else []
    lines += [f"@{domain} {locals_[0]}@{domain}"] if chance.random() < 0.15 else []
    lines += [f"s@{domain} |/bin/false"] if chance.random() < 0.2 else []
    chance.shuffle(lines)
    parameters = (f"virtual_alias_maps = $default_database_type:{{folder}}/{name}", "smtpd_recipient_restrictions =")
    return Door(name, "\n".join(lines) + "\n", parameters, ())


def all_doors() -> list[Door]:
    """The maps of this run."""
    chance = random.Random(SEED)
    doors = [sender_map(chance, number) for number in range(SENDER_MAPS)]
    doors += [recipient_map(chance, number) for number in range(RECIPIENT_MAPS)]
    return doors + [virtual_map(chance, number) for number in range(VIRTUAL_MAPS)]


@pytest.fixture(scope="module")
def doors() -> dict[str, Door]:
    """The maps by the names of their doors."""
    return {door.name: door for door in all_doors()}


@pytest.fixture(scope="module")
def native(folder: Path, doors: dict[str, Door]) -> Iterator[Postfix]:
    """A Postfix with a door for each map."""
    (folder / "random").mkdir()
    instance = Postfix(folder / "random", [*doors])
    virtual = ", ".join(f"v{number}.example, w{number}.example" for number in range(VIRTUAL_MAPS))
    mailboxes = ", ".join(f"r{number}.example" for number in range(RECIPIENT_MAPS))
    instance.write_main(MAIN_CF, f"virtual_alias_domains = {virtual}", f"virtual_mailbox_domains = {mailboxes}")
    for door in doors.values():
        (instance.config / door.name).write_text(door.text)
        made = ["postmap", "-c", str(instance.config), str(instance.config / door.name)]
        subprocess.run(
            made, capture_output=True, timeout=LIMIT_SECONDS, check=True
        )  # of keys that are there twice, it warns
    instance.write_master(
        *(
            instance.service(door.name, "n", *(each.format(folder=instance.config) for each in door.parameters))
            for door in doors.values()
        )
    )
    try:
        instance.start()
        yield instance
    finally:
        instance.stop()


def wrong_lines(stderr: str, name: str) -> set[int]:
    """The lines that are said to be wrong."""
    found = re.findall(rf"{name}:(\d+): (.*)", stderr)
    return {int(number) for number, said in found if not said.endswith("this line is skipped")}


def imported(policyd: CommandLine, native: Postfix, door: Door) -> tuple[set[int], str]:
    """Import the map of *door*: the lines that are wrong, and all that is said."""
    policyd.run("domain add own.example --unlisted accept")
    ended = policyd.ends(f"-v import {native.config / door.name} --format postfix {' '.join(door.options)}")
    is_of_use = "nothing in it is of use" not in ended.err  # as where everybody is let through: then it ends with 1
    assert ended.status in ((0, 65) if is_of_use else (1,)), (door.text, ended)
    return wrong_lines(ended.err, door.name), ended.out + ended.err


@contextmanager
def deciding(policyd: CommandLine) -> Iterator[Callable[[str, str], Decision]]:
    """What policyd decides about a stranger's mail: sender and recipient in."""
    decider, now = Decider(load_settings(policyd.settings), lookup := Lookup(policyd.store)), int(time.time())

    def decide(sender: str, recipient: str) -> Decision:
        try:
            return decider.decide(Request("RCPT", client_address=OUTSIDE, sender=sender, recipient=recipient), now)
        finally:
            decider.end()

    try:
        yield decide
    finally:
        lookup.close()


@pytest.mark.parametrize("number", few(range(SENDER_MAPS), *range(8)))
def test_a_map_of_senders_is_what_it_is_in_postfix(native: Postfix, doors: dict[str, Door], number: int) -> None:
    """No letter is refused that the map lets through, and none let through that it refuses, but by wrong rows."""
    door = doors[f"senders{number}"]
    senders = [
        "",
        *(f"{local}@{domain}" for local in (*LOCALS, "w") for domain in (*DOMAINS, "e.d.example", "z.example")),
    ]
    with command_line() as policyd:
        wrong, said = imported(policyd, native, door)
        with deciding(policyd) as decide, session_at(native, door.name, OUTSIDE) as session:
            for sender in senders:
                reply = session.ask("x@other.example", sender)
                decision = decide(sender, "x@other.example")
                told = (f"POLICYD_SEED={SEED}", door.text, said, sender, reply, decision.text)
                if decision.is_refused:
                    assert reply.startswith("5"), told
                elif reply.startswith("5"):
                    assert is_left_out(door, reply, wrong), told


def is_left_out(door: Door, reply: str, wrong: set[int]) -> bool:
    """Whether *reply* comes from a line that is wrong, or of whose kind policyd has nothing."""
    lines = door.text.splitlines()
    if found := re.search(r"line(\d+)", reply):
        return int(found[1]) in wrong
    silent = [number for number, line in enumerate(lines, 1) if re.search(r"(?i)reject|5\d\d|my_class", line)]
    return any(number in wrong or "reject_unknown" in lines[number - 1] for number in silent)


@pytest.mark.parametrize("number", range(RECIPIENT_MAPS))
def test_a_map_of_recipients_lists_whom_it_lists_in_postfix(
    native: Postfix, doors: dict[str, Door], number: int
) -> None:
    """Whoever is valid is let through, and nobody else."""
    compare_recipients(native, doors[f"recipients{number}"], [f"r{number}.example"])


@pytest.mark.parametrize("number", range(VIRTUAL_MAPS))
def test_a_virtual_map_lists_whom_it_lists_in_postfix(native: Postfix, doors: dict[str, Door], number: int) -> None:
    """Aliases, catch-alls and alias domains are known here as there; wrong rows let more through, and refuse nobody."""
    compare_recipients(native, doors[f"virtual{number}"], [f"v{number}.example", f"w{number}.example"])


def compare_recipients(native: Postfix, door: Door, domains: list[str]) -> None:
    """Ask for everybody in *domains*."""
    with command_line() as policyd:
        wrong, said = imported(policyd, native, door)
        with deciding(policyd) as decide, session_at(native, door.name, OUTSIDE) as session:
            for recipient in (f"{local}@{domain}" for local in (*LOCALS, "s", "w") for domain in domains):
                reply = session.ask(recipient)
                decision = decide("carol@outside.example", recipient)
                told = (f"POLICYD_SEED={SEED}", door.text, said, recipient, reply, decision.text)
                if decision.is_refused:
                    # An alias domain has the addresses of the other one: what leads nowhere bounces later in Postfix.
                    leads_nowhere = f"@{recipient.rpartition('@')[2]} @" in door.text
                    assert reply.startswith("5") or leads_nowhere, told
                elif reply.startswith("5"):
                    assert wrong, told

"""The administrator's commands at random, each with the world that it makes."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from tests.soaking.expected import ANYONE, OUTSIDE, Block, Box, World
from tests.soaking.questions import DOMAINS, NAMES, PATTERNS


@dataclass(frozen=True)
class Typed:
    """A command's words, the world after it, and a mailbox that it is about, if any."""

    words: list[str]
    world: World
    about: str = ""


def choose(random: Random, world: World, file: Path) -> Typed:
    """A command that can be done in *world*; what is imported is written to *file*."""
    while True:
        typed = random.choice(_CHOICES)(random, world.copy(), file)
        if typed is not None:
            return typed


def _restrict(random: Random, world: World, _file: Path) -> Typed | None:
    name = random.choice([*world.boxes])
    receive, reason, until = random.choice(["insiders", "nobody"]), _reason(random), _until(random)
    accepted = frozenset(random.sample(PATTERNS, random.randrange(3)))
    if not accepted:  # not said: as it was
        accepted = world.boxes[name].accepted
        said = []
    else:
        said = [word for each in sorted(accepted) for word in ("--accept", each)]
    world.boxes[name] = Box(receive, reason, until, accepted)
    words = ["mailbox", "restrict", name, "--receive", receive, "--reason", reason, *said, *_until_words(until)]
    return Typed(words, world, name)


def _lift(random: Random, world: World, _file: Path) -> Typed | None:
    restricted = [name for name, box in world.boxes.items() if box.receive != "anyone"]
    if not restricted:
        return None
    names = random.sample(restricted, min(len(restricted), random.randint(1, 3)))
    for name in names:
        world.boxes[name] = Box()
    return Typed(["mailbox", "lift", *names], world, names[0])


def _accept(random: Random, world: World, _file: Path) -> Typed | None:
    name, pattern = random.choice([*world.boxes]), random.choice(PATTERNS)
    box = world.boxes[name]
    if box.receive == "anyone":
        return None
    verb = "unaccept" if pattern in box.accepted else "accept"
    world.boxes[name] = replace(box, accepted=box.accepted ^ {pattern})
    return Typed(["mailbox", verb, name, pattern], world, name)


def _block(random: Random, world: World, _file: Path) -> Typed | None:
    sender = random.choice([*world.boxes, *PATTERNS])
    to = random.choice([OUTSIDE, ANYONE, random.choice([*world.boxes])])
    domain = {OUTSIDE: "@partner.example", ANYONE: "@example.com"}.get(to, "m1@")
    allowed = frozenset({domain} if random.random() < 0.4 else ())
    reason, until = _reason(random), _until(random)
    said = [word for each in allowed for word in ("--except", each)]
    before = [each for each in world.blocks if (each.sender, each.to) == (sender, to)]
    if before and not allowed:  # not said: as it was
        allowed = before[0].allowed
    world.block(Block(sender, to, reason, until, allowed))
    words = ["sender", "block", sender, "--to", to, "--reason", reason, *said, *_until_words(until)]
    return Typed(words, world, sender if sender in world.boxes else "")


def _unblock(random: Random, world: World, _file: Path) -> Typed | None:
    if not world.blocks:
        return None
    entry, is_whole = random.choice(world.blocks), random.random() < 0.5
    world.blocks = [
        each for each in world.blocks if each.sender != entry.sender or not (is_whole or each.to == entry.to)
    ]
    words = ["sender", "unblock", entry.sender, *([] if is_whole else ["--to", entry.to])]
    return Typed(words, world, entry.sender if entry.sender in world.boxes else "")


def _rename(random: Random, world: World, _file: Path) -> Typed | None:
    """Away from the names that the questions know, and back."""
    name = random.choice([*world.boxes])
    new = name.removesuffix("-renamed") if name.endswith("-renamed") else f"{name}-renamed"
    if new in world.boxes:
        return None
    world.rename(name, new)
    return Typed(["mailbox", "rename", name, new], world, name.removesuffix("-renamed"))


def _add_or_remove_address(random: Random, world: World, _file: Path) -> Typed | None:
    address = f"{random.choice(NAMES)}@{random.choice(DOMAINS)}"
    about = address.partition("@")[0]
    if address in world.addresses:
        del world.addresses[address]
        return Typed(["address", "remove", address], world, about)
    if address.partition("@")[2] not in world.domains:
        return None
    name = random.choice([*world.boxes])
    world.addresses[address] = name
    return Typed(["address", "add", name, address], world, about)


def _add_or_remove_mailbox(random: Random, world: World, _file: Path) -> Typed | None:
    name = random.choice(NAMES)
    if name in world.boxes and len(world.boxes) > 4:
        world.remove(name)
        return Typed(["mailbox", "remove", name, "--yes"], world, name)
    address = f"{name}@example.com"
    if name in world.boxes or address in world.addresses:
        return None
    world.boxes[name] = Box()
    world.addresses[address] = name
    return Typed(["mailbox", "add", name, address], world, name)


def _set_domain(random: Random, world: World, _file: Path) -> Typed | None:
    name = random.choice([*world.domains])
    world.domains[name] = "accept" if world.domains[name] == "reject" else "reject"
    return Typed(["domain", "set", name, "--unlisted", world.domains[name]], world)


def _add_or_remove_domain(_random: Random, world: World, _file: Path) -> Typed | None:
    name = DOMAINS[1]
    if name not in world.domains:
        world.domains[name] = "reject"
        return Typed(["domain", "add", name], world)
    del world.domains[name]
    world.addresses = {each: holder for each, holder in world.addresses.items() if not each.endswith(f"@{name}")}
    return Typed(["domain", "remove", name, "--yes"], world)


def _import(random: Random, world: World, file: Path) -> Typed | None:
    """Some mailboxes and one blocked sender, in one changeset."""
    names = random.sample([*world.boxes], min(3, len(world.boxes)))
    rows: list[dict[str, object]] = []
    for name in names:
        reason = _reason(random)
        world.boxes[name] = Box("nobody", reason, 0, frozenset())
        fields: dict[str, object] = {"receive": "nobody", "reason": reason, "until": None, "accept": []}
        rows.append({"kind": "mailbox", "name": name, **fields})
    reason = _reason(random)
    world.block(Block(names[0], ANYONE, reason, 0, frozenset()))
    fields = {"reason": reason, "until": None, "except": []}
    rows.append({"kind": "blocked", "sender": names[0], "to": ANYONE, **fields})
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return Typed(["import", str(file), "--format", "jsonl"], world, names[0])


def _reason(random: Random) -> str:
    return random.choice([f"reason {random.randrange(10**6)}"] * 9 + ["again and again"])


def _until(random: Random) -> int:
    """An end that comes while the soak runs, or none: 0."""
    return int(time.time()) + random.randint(20, 60) if random.random() < 0.2 else 0


def _until_words(until: int) -> list[str]:
    said = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(until)) if until else "never"
    return ["--until", said]


_CHOICES: list[Callable[[Random, World, Path], Typed | None]] = [
    *[_restrict, _lift, _block, _unblock] * 3,
    *(_accept, _rename, _add_or_remove_address, _add_or_remove_mailbox, _set_domain, _add_or_remove_domain, _import),
]

"""The administrator's commands at random, each with the world that it makes: `tests/oracle/commands.py` says which."""

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from tests.oracle import commands
from tests.oracle.model import ANYONE, NULL_SENDER, OUTSIDE, Entry, Restriction, fold, is_pattern
from tests.soaking.expected import World
from tests.soaking.questions import DOMAINS, GROUPS, NAMES, PATTERNS

_MOST_ENTRIES = 16  # with more of them, nearly everything would be blocked


@dataclass(frozen=True)
class Typed:
    """A command's words, the world after it, and a mailbox that it is about, if any."""

    words: list[str]
    world: World
    about: str = ""


Words = list[str]


def choose(random: Random, world: World, file: Path) -> Typed:
    """A command that can be done in *world*; what is imported is written to *file*."""
    while True:
        wanted = world.copy()
        choice = random.choice(_CHOICES)
        words = choice(random, wanted)
        if not words:
            continue
        try:
            if choice is _import:
                return Typed(_write_rows(random, wanted, words, file), wanted, words[0])
            commands.run(wanted, shlex.join(words))
        except commands.RefusedError:
            continue
        return Typed(words, wanted, _about(random, world, words))


def _about(random: Random, world: World, words: Words) -> str:
    """A mailbox that was in the group which the command is about; else the first that it names, if any."""
    noun, _, name, *_ = words
    held = [each for each in world.mailboxes if noun == "group" and fold(name) in world.groups_of(each)]
    named = [word.partition("@")[0] for word in words]
    known = [each.removesuffix("-renamed") for each in (random.choice(held) if held else "", *named)]
    return next((each for each in known if each in NAMES), "")


# --- Restrictions


def _restrict(random: Random, world: World) -> Words:
    noun, name, _ = _one_of_a_kind(random, world)
    receive = random.choice(["insiders", "domain", "nobody"])
    said = [word for each in _senders(random, world, random.randrange(3)) for word in ("--accept", each)]
    return [noun, "restrict", name, "--receive", receive, "--reason", _reason(random), *said, *_until(random)]


def _lift(random: Random, world: World) -> Words:
    restricted = [each for each in _restrictions(world) if each[2].receive != _nothing(each[0])]
    if not restricted:
        return []
    noun, first, _ = random.choice(restricted)
    others = [name for other, name, _ in restricted if other == noun and name != first]
    return [noun, "lift", first, *random.sample(others, min(len(others), random.randrange(3)))]


def _accept(random: Random, world: World) -> Words:
    """Somebody more, or less, where that would do something."""
    noun, name, restriction = _one_of_a_kind(random, world)
    if restriction.receive == ANYONE:
        return []
    (sender,) = _senders(random, world, 1)
    return [noun, "unaccept" if commands.party_of(world, sender) in restriction.accepted else "accept", name, sender]


def _open(random: Random, world: World) -> Words:
    return ["mailbox", "open", random.choice(_mailboxes(world)), *_until(random)]


def _restrictions(world: World) -> list[tuple[str, str, Restriction]]:
    """What can be restricted: a noun and a name."""
    mailboxes = [("mailbox", each.name, each.restriction) for each in world.mailboxes.values()]
    groups = [("group", each.name, each.restriction) for each in world.groups.values()]
    domains = [("domain", name, each.restriction) for name, each in world.domains.items() if not each.alias_of]
    return mailboxes + groups + domains


def _one_of_a_kind(random: Random, world: World) -> tuple[str, str, Restriction]:
    """Groups and domains as often as mailboxes, though there are few: they are lifted less often."""
    every = _restrictions(world)
    noun = random.choice(["mailbox", "group", "group", "domain"])
    return random.choice([each for each in every if each[0] == noun] or every)


def _nothing(noun: str) -> str:
    return "inherit" if noun == "mailbox" else ANYONE


def _mailboxes(world: World) -> list[str]:
    return [each.name for each in world.mailboxes.values()]


def _groups(world: World) -> list[str]:
    return [f"group:{each.name}" for each in world.groups.values()]


def _senders(random: Random, world: World, count: int) -> list[str]:
    kinds = [[random.choice(_mailboxes(world))], [*_groups(world)[:2]], random.sample(PATTERNS, 2), ["@example.com"]]
    return [random.choice(random.choice([kind for kind in kinds if kind])) for _ in range(count)]


# --- Blocked senders


def _block(random: Random, world: World) -> Words:
    if len(world.entries) >= _MOST_ENTRIES:
        return []
    who = random.choice([random.choice(_mailboxes(world)), random.choice(PATTERNS), *_groups(world)[:2], ANYONE])
    some = [random.choice(_mailboxes(world)), *_groups(world)[:1], random.choice(PATTERNS[:-1])]
    to = random.choice(some if who == ANYONE else [OUTSIDE, ANYONE, *some])
    said = ["--except", random.choice(_recipients(random, world, to))] if random.random() < 0.4 else []
    said += ["--except-sender", _exempt(random, world, who)] if random.random() < 0.4 else []
    return ["sender", "block", who, "--to", to, "--reason", _reason(random), *said, *_until(random)]


def _recipients(random: Random, world: World, to: str) -> list[str]:
    """Exceptions that some recipient of an entry *to* these matches, and not every one; the others are refused."""
    if to == OUTSIDE:
        return ["@partner.example", "m3@"]
    if to == ANYONE:
        return ["@example.com", "m1@", random.choice(_mailboxes(world)), *_groups(world)[:1]]
    if to.startswith("group:"):
        return ["m1@", "@example.com", random.choice(_mailboxes(world))]
    if to == "m1@":
        return ["@example.com", "@partner.example"]
    return ["m7@"] if not is_pattern(to) or to.startswith("@") else ["m2+x@example.net"]


def _exempt(random: Random, world: World, who: str) -> str:
    """A sender that an entry of *who* may leave alone."""
    sender = random.choice([*_mailboxes(world), *_groups(world), "@partner.example", NULL_SENDER])
    return random.choice(_mailboxes(world)) if is_pattern(who) else sender


def _unblock(random: Random, world: World) -> Words:
    if not world.entries:
        return []
    entry, is_whole = random.choice(world.entries), random.random() < 0.5
    return ["sender", "unblock", entry.who, *([] if is_whole else ["--to", entry.to])]


def _except(random: Random, world: World) -> Words:
    """Of one entry, one exception more or less."""
    if not world.entries:
        return []
    entry: Entry = random.choice(world.entries)
    to, is_less = ["--to", entry.to], random.random() < 0.5
    if is_less and entry.except_recipients:
        return ["sender", "unexcept", entry.who, random.choice(entry.except_recipients), *to]
    if is_less and entry.except_senders:
        return ["sender", "unexcept", entry.who, "--except-sender", random.choice(entry.except_senders), *to]
    if random.random() < 0.5:
        return ["sender", "except", entry.who, "--except-sender", _exempt(random, world, entry.who), *to]
    return ["sender", "except", entry.who, random.choice(_recipients(random, world, entry.to)), *to]


# --- Mailboxes and groups


def _rename(random: Random, world: World) -> Words:
    """Away from the names that the questions know, and back."""
    noun, name = random.choice([("mailbox", each) for each in _mailboxes(world)] + _group_names(world))
    return [noun, "rename", name, name.removesuffix("-renamed") if name.endswith("-renamed") else f"{name}-renamed"]


def _group_names(world: World) -> list[tuple[str, str]]:
    return [("group", each.name) for each in world.groups.values()]


def _add_or_remove_address(random: Random, world: World) -> Words:
    address = f"{random.choice(NAMES)}@{random.choice(DOMAINS)}"
    return ["address", "remove", address] if world.holder(address) else _address_add(random, world, address)


def _address_add(random: Random, world: World, address: str) -> Words:
    return ["address", "add", random.choice(_mailboxes(world)), address]


def _add_or_remove_mailbox(random: Random, world: World) -> Words:
    name = random.choice(NAMES)
    if name in world.mailboxes:
        return ["mailbox", "remove", name, "--yes"] if len(world.mailboxes) > 4 else []
    return ["mailbox", "add", name, f"{name}@example.com"]


def _add_or_remove_group(random: Random, world: World) -> Words:
    name = random.choice(GROUPS)
    if fold(name) in world.groups:
        return ["group", "remove", name, "--yes"] if random.random() < 0.3 else []
    return ["group", "add", name, *random.sample(_mailboxes(world), 4), *_groups(world)[:1]]


def _join_or_leave(random: Random, world: World) -> Words:
    if not world.groups:
        return []
    group = random.choice([*world.groups.values()])
    member = random.choice([*_mailboxes(world), *_groups(world)])
    verb = "leave" if commands.party_of(world, member) in group.members else "join"
    return ["group", verb, group.name, member]


# --- Domains


def _set_unlisted(random: Random, world: World) -> Words:
    name = random.choice([name for name, domain in world.domains.items() if not domain.alias_of])
    return ["domain", "set", name, "--unlisted", "accept" if world.domains[name].unlisted == "reject" else "reject"]


def _set_alias(_random: Random, world: World) -> Words:
    """The second domain becomes an alias domain of the first, or is none any more."""
    first, second = DOMAINS
    is_alias = second in world.domains and world.domains[second].alias_of
    return ["domain", "set", second, *(["--no-alias"] if is_alias else ["--alias-of", first])]


def _add_or_remove_domain(random: Random, world: World) -> Words:
    first, second = DOMAINS
    if second in world.domains:
        return ["domain", "remove", second, "--yes"]
    return ["domain", "add", second, *random.choice([[], ["--alias-of", first]])]


# --- Import


def _import(random: Random, world: World) -> Words:
    """The names of some mailboxes, which are then restricted; the first is blocked."""
    return random.sample(_mailboxes(world), min(3, len(world.mailboxes)))


def _write_rows(random: Random, world: World, names: Words, file: Path) -> Words:
    """Rows that do in one changeset what commands do one by one in *world*."""
    rows: list[dict[str, object]] = []
    for name in names:
        reason = _reason(random)
        said = ["--receive", "nobody", "--reason", reason, "--until", "never"]
        commands.run(world, shlex.join(["mailbox", "restrict", name, *said]))
        rows.append({"kind": "mailbox", "name": name, "receive": "nobody", "reason": reason, "until": None})
    reason = _reason(random)
    said = ["--to", ANYONE, "--reason", reason, "--until", "never"]
    commands.run(world, shlex.join(["sender", "block", names[0], *said]))
    rows.append({"kind": "blocked", "sender": names[0], "to": ANYONE, "reason": reason, "until": None})
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return ["import", str(file), "--format", "jsonl"]


# --- Options


def _reason(random: Random) -> str:
    return random.choice([f"reason {random.randrange(10**6)}"] * 9 + ["again and again"])


def _until(random: Random) -> Words:
    """An end that comes while the soak runs, or none. It is always said: what has ended would lose it otherwise."""
    if random.random() < 0.8:
        return ["--until", "never"]
    end = datetime.fromtimestamp(int(time.time()) + random.randint(20, 60), UTC)
    return ["--until", end.strftime("%Y-%m-%dT%H:%M:%SZ")]


_CHOICES: list[Callable[[Random, World], Words]] = [
    *[_restrict, _lift, _block, _unblock] * 3,
    *[_add_or_remove_group, _join_or_leave, _accept, _except] * 2,
    *(_open, _rename, _add_or_remove_address, _add_or_remove_mailbox),
    *(_set_unlisted, _set_alias, _add_or_remove_domain, _import),
]

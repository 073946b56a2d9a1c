"""What the commands of policyd mean for a `World`: a plain reading of the command line.

It takes the commands that make tables, with the options that decide, and refuses what can't be: unknown names,
addresses outside of managed domains, chains of alias domains, circles of groups. It refuses less than policyd does.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tests.oracle.model import (
    ANYONE,
    OUTSIDE,
    Domain,
    Entry,
    Group,
    Mailbox,
    Restriction,
    World,
    fold,
    is_pattern,
    normal_domain,
)


class RefusedError(Exception):
    """A command that changes nothing, because it can't be meant."""


@dataclass
class Given:
    """The options of a command; None is one that isn't given."""

    unlisted: str | None = None
    alias_of: str | None = None
    no_alias: bool = False
    yes: bool = False
    receive: str | None = None
    accept: list[str] | None = None
    reason: str | None = None
    until: str | None = None
    to: str | None = None
    except_: list[str] | None = None
    except_sender: list[str] | None = None
    comment: str | None = None


Command = Callable[[World, list[str], Given], None]
COMMANDS: dict[tuple[str, str], Command] = {}


def moment(text: str) -> int:
    """A moment in Unix seconds; it has to say its time zone."""
    found = datetime.fromisoformat(text)
    assert found.tzinfo, f"{text}: which time zone?"
    return int(found.timestamp())


def parse(line: str) -> tuple[str, str, list[str], Given]:
    """The noun, the verb, the words and the options of a command."""
    noun, verb, *rest = shlex.split(line)
    words, given = [], Given()
    while rest:
        word = rest.pop(0)
        name = word.removeprefix("--").replace("-", "_")
        if not word.startswith("--"):
            words.append(word)
        elif name in ("no_alias", "yes"):
            setattr(given, name, True)
        elif name in ("accept", "except", "except_sender"):
            name = "except_" if name == "except" else name
            setattr(given, name, [*(getattr(given, name) or []), rest.pop(0)])
        else:
            assert name in vars(given), f"the model has no {word}: {line}"
            setattr(given, name, rest.pop(0))
    return noun, verb, words, given


def run(world: World, line: str) -> None:
    """Do what *line*, typed after `policyd`, says. Raises RefusedError, and then nothing was changed."""
    noun, verb, words, given = parse(line)
    assert (noun, verb) in COMMANDS, f"the model has no command {noun} {verb}"
    COMMANDS[noun, verb](world, words, given)


def _command(noun: str, verb: str) -> Callable[[Command], Command]:
    def keep(function: Command) -> Command:
        COMMANDS[noun, verb] = function
        return function

    return keep


def _demand(is_so: object, problem: str) -> None:
    if not is_so:
        raise RefusedError(problem)


# --- Parties and addresses, in normal form


def party_of(world: World, text: str) -> str:
    """A party in normal form; a mailbox or a group must be there."""
    if text in (ANYONE, OUTSIDE) or text == "<>":
        return text
    if "@" in text:
        return pattern_of(text)
    if text.lower().startswith("group:"):
        name = fold(text[len("group:") :])
        _demand(name in world.groups, f"no group {name}")
        return f"group:{name}"
    _demand(fold(text) in world.mailboxes, f"no mailbox {text}")
    return fold(text)


def pattern_of(text: str) -> str:
    """A pattern, or an address, in normal form."""
    local, _, domain = text.rpartition("@")
    local = local[1:-1] if local.startswith('"') else local
    dot, domain = ("." if domain.startswith(".") and not local else ""), domain.removeprefix("." if not local else "")
    return f"{fold(local)}@{dot}{normal_domain(domain) if domain else ''}"


def _parties(world: World, texts: list[str] | None) -> list[str] | None:
    """The parties of an option, None where it isn't given."""
    return None if texts is None else _with([], [party_of(world, text) for text in texts])


def _new_address(world: World, text: str) -> str:
    address = pattern_of(text)
    _demand(address.rpartition("@")[2] in world.domains, f"{address} is in no managed domain")
    _demand(not world.holder(address), f"{address} is taken")
    return address


def _primary_first(addresses: list[str]) -> list[str]:
    """The first one, which is the primary, and the others by their letters: if it goes, the next is the primary."""
    return addresses[:1] + sorted({*addresses[1:]} - {*addresses[:1]})


def _restriction(world: World, noun: str, name: str) -> Restriction:
    if noun == "domain":
        _demand(normal_domain(name) in world.domains, f"{name} is not managed")
        domain = world.domains[normal_domain(name)]
        _demand(not domain.alias_of, f"{name} is an alias domain")
        return domain.restriction
    holders = world.mailboxes if noun == "mailbox" else world.groups
    _demand(fold(name) in holders, f"no {noun} {name}")
    return holders[fold(name)].restriction


# --- Restrictions: of mailboxes, groups and domains alike


def _restrict(noun: str) -> None:
    @_command(noun, "restrict")
    def restrict(world: World, names: list[str], given: Given) -> None:
        accepted = _parties(world, given.accept)
        for restriction in [_restriction(world, noun, name) for name in names]:
            is_new = restriction.receive in ("inherit", ANYONE)
            if is_new:  # reason and end of what was opened go with it
                restriction.reason, restriction.until = "", None
            restriction.receive = given.receive or ("insiders" if is_new else restriction.receive)
            restriction.accepted = restriction.accepted if accepted is None else accepted
            _terms(restriction, given)

    @_command(noun, "lift")
    def lift(world: World, names: list[str], given: Given) -> None:
        for restriction in [_restriction(world, noun, name) for name in names]:
            restriction.receive, restriction.reason = "inherit" if noun == "mailbox" else ANYONE, ""
            restriction.until, restriction.accepted = None, []

    @_command(noun, "accept")
    def accept(world: World, words: list[str], given: Given) -> None:
        restriction = _restriction(world, noun, words[0])
        restriction.accepted = _with(restriction.accepted, [party_of(world, each) for each in words[1:]])

    @_command(noun, "unaccept")
    def unaccept(world: World, words: list[str], given: Given) -> None:
        restriction = _restriction(world, noun, words[0])
        restriction.accepted = _less(restriction.accepted, [party_of(world, each) for each in words[1:]])


def _terms(changed: Restriction | Entry, given: Given) -> None:
    changed.reason = changed.reason if given.reason is None else given.reason
    if given.until is not None:
        changed.until = None if given.until == "never" else moment(given.until)


def _with(held: list[str], more: list[str]) -> list[str]:
    return [*dict.fromkeys([*held, *more])]


def _less(held: list[str], gone: list[str]) -> list[str]:
    _demand({*gone} <= {*held}, "it is not in the list")
    return [each for each in held if each not in gone]


for _noun in ("domain", "group", "mailbox"):
    _restrict(_noun)


@_command("mailbox", "open")
def _open(world: World, names: list[str], given: Given) -> None:
    for restriction in [_restriction(world, "mailbox", name) for name in names]:
        # Whom a restriction accepts goes with it; what a mailbox accepts that has none stays.
        restriction.accepted = restriction.accepted if restriction.receive in ("inherit", ANYONE) else []
        restriction.receive, restriction.reason, restriction.until = ANYONE, "", None
        _terms(restriction, given)


# --- Domains


@_command("domain", "add")
def _domain_add(world: World, words: list[str], given: Given) -> None:
    (name,) = (normal_domain(word) for word in words)
    _demand(name not in world.domains, f"{name} is managed")
    if given.alias_of:
        _demand_target(world, normal_domain(given.alias_of))
    world.domains[name] = Domain(given.unlisted or "reject", normal_domain(given.alias_of or ""))


@_command("domain", "set")
def _domain_set(world: World, words: list[str], given: Given) -> None:
    (name,) = (normal_domain(word) for word in words)
    _demand(name in world.domains, f"{name} is not managed")
    domain = world.domains[name]
    if given.alias_of:
        target = normal_domain(given.alias_of)
        _demand_target(world, target)
        _demand(name != target, "a domain is no alias of itself")
        _demand(all(each.alias_of != name for each in world.domains.values()), f"{name} has alias domains")
        _demand(domain.restriction.receive == ANYONE and not domain.restriction.accepted, f"{name} is restricted")
        domain.alias_of, domain.unlisted = target, "reject"
    if given.no_alias:
        domain.alias_of = ""
    domain.unlisted = given.unlisted or domain.unlisted


def _demand_target(world: World, target: str) -> None:
    _demand(target in world.domains and not world.domains[target].alias_of, f"{target} can be nobody's target")


@_command("domain", "remove")
def _domain_remove(world: World, words: list[str], given: Given) -> None:
    (name,) = (normal_domain(word) for word in words)
    _demand(name in world.domains, f"{name} is not managed")
    _demand(all(each.alias_of != name for each in world.domains.values()), f"{name} has alias domains")
    for mailbox in world.mailboxes.values():
        left = [address for address in mailbox.addresses if not address.endswith(f"@{name}")]
        _demand(given.yes or left == mailbox.addresses, f"{name} has addresses")
        mailbox.addresses = left
    del world.domains[name]


# --- Mailboxes and groups


@_command("mailbox", "add")
def _mailbox_add(world: World, words: list[str], given: Given) -> None:
    name = words[0]
    _demand(fold(name) not in world.mailboxes, f"there is a mailbox {name}")
    addresses = [_new_address(world, text) for text in words[1:]]
    world.mailboxes[fold(name)] = Mailbox(name, _primary_first(addresses))


@_command("address", "add")
def _address_add(world: World, words: list[str], given: Given) -> None:
    _demand(fold(words[0]) in world.mailboxes, f"no mailbox {words[0]}")
    addresses = [_new_address(world, text) for text in words[1:]]
    mailbox = world.mailboxes[fold(words[0])]
    mailbox.addresses = _primary_first([*mailbox.addresses, *addresses])


@_command("address", "remove")
def _address_remove(world: World, words: list[str], given: Given) -> None:
    addresses = [pattern_of(word) for word in words]
    _demand(all(world.holder(address) for address in addresses), "nobody has it")
    for address in addresses:
        world.mailboxes[world.holder(address)].addresses.remove(address)


@_command("group", "add")
def _group_add(world: World, words: list[str], given: Given) -> None:
    name, *members = words
    _demand(fold(name) not in world.groups, f"there is a group {name}")
    parties = [party_of(world, member) for member in members]
    world.groups[fold(name)] = Group(name, _with([], parties))


@_command("group", "join")
def _group_join(world: World, words: list[str], given: Given) -> None:
    name, members = fold(words[0]), [party_of(world, word) for word in words[1:]]
    _demand(name in world.groups, f"no group {name}")
    group = world.groups[name]
    above = {f"group:{each}" for each in {name} | world.groups_of(f"group:{name}")}
    _demand(not above & {*members}, "a circle of groups")
    group.members = _with(group.members, members)


@_command("group", "leave")
def _group_leave(world: World, words: list[str], given: Given) -> None:
    name, members = fold(words[0]), [party_of(world, word) for word in words[1:]]
    _demand(name in world.groups, f"no group {name}")
    world.groups[name].members = _less(world.groups[name].members, members)


@_command("mailbox", "rename")
def _mailbox_rename(world: World, words: list[str], given: Given) -> None:
    old, new = fold(words[0]), fold(words[1])
    _demand(old in world.mailboxes and (new == old or new not in world.mailboxes), "it can't be called that")
    mailbox = world.mailboxes.pop(old)
    mailbox.name = words[1]
    world.mailboxes[new] = mailbox
    _replace_party(world, old, [new])


@_command("group", "rename")
def _group_rename(world: World, words: list[str], given: Given) -> None:
    old, new = fold(words[0]), fold(words[1])
    _demand(old in world.groups and (new == old or new not in world.groups), "it can't be called that")
    group = world.groups.pop(old)
    group.name = words[1]
    world.groups[new] = group
    _replace_party(world, f"group:{old}", [f"group:{new}"])


@_command("mailbox", "remove")
def _mailbox_remove(world: World, words: list[str], given: Given) -> None:
    for name in words:
        _demand(fold(name) in world.mailboxes, f"no mailbox {name}")
        del world.mailboxes[fold(name)]
        _replace_party(world, fold(name), [])


@_command("group", "remove")
def _group_remove(world: World, words: list[str], given: Given) -> None:
    for name in words:
        _demand(fold(name) in world.groups, f"no group {name}")
        del world.groups[fold(name)]
        _replace_party(world, f"group:{fold(name)}", [])


def _replace_party(world: World, old: str, new: list[str]) -> None:
    """Write *new*, one party or none, wherever *old* stands; an entry without who or whom goes."""
    lists = [each.restriction for each in world.mailboxes.values()]
    lists += [each.restriction for each in world.groups.values()]
    lists += [each.restriction for each in world.domains.values()]
    for restriction in lists:
        restriction.accepted = _replaced(restriction.accepted, old, new)
    for group in world.groups.values():
        group.members = _replaced(group.members, old, new)
    if not new:
        world.entries = [entry for entry in world.entries if old not in (entry.who, entry.to)]
    for entry in world.entries:
        (entry.who,), (entry.to,) = _replaced([entry.who], old, new), _replaced([entry.to], old, new)
        entry.except_recipients = _replaced(entry.except_recipients, old, new)
        entry.except_senders = _replaced(entry.except_senders, old, new)


def _replaced(parties: list[str], old: str, new: list[str]) -> list[str]:
    return [each for party in parties for each in (new if party == old else [party])]


# --- Blocked senders


@_command("sender", "block")
def _sender_block(world: World, words: list[str], given: Given) -> None:
    recipients, senders = _parties(world, given.except_), _parties(world, given.except_sender)
    for who in [party_of(world, word) for word in words]:
        _demand(who != OUTSIDE, "outside is to whom, not who")
        _demand(who != ANYONE or given.to, "anyone needs --to")
        to = party_of(world, given.to) if given.to else _usual_to(world, who)
        entry = next((each for each in world.entries if (each.who, each.to) == (who, to)), None)
        if entry is None:
            entry = Entry(who, to)
            world.entries.append(entry)
        entry.except_recipients = entry.except_recipients if recipients is None else recipients
        entry.except_senders = entry.except_senders if senders is None else senders
        _terms(entry, given)


def _usual_to(world: World, who: str) -> str:
    """To whom an entry is without `--to`."""
    domain = who.rpartition("@")[2]
    return OUTSIDE if not is_pattern(who) or domain in world.domains else ANYONE


@_command("sender", "unblock")
def _sender_unblock(world: World, words: list[str], given: Given) -> None:
    gone = _entries(world, [party_of(world, word) for word in words], given)
    world.entries = [entry for entry in world.entries if entry not in gone]


@_command("sender", "except")
def _sender_except(world: World, words: list[str], given: Given) -> None:
    for entry in _entries(world, [party_of(world, words[0])], given):
        more = _parties(world, given.except_sender) or []
        entry.except_recipients = _with(entry.except_recipients, [party_of(world, word) for word in words[1:]])
        entry.except_senders = _with(entry.except_senders, more)


@_command("sender", "unexcept")
def _sender_unexcept(world: World, words: list[str], given: Given) -> None:
    for entry in _entries(world, [party_of(world, words[0])], given):
        gone = _parties(world, given.except_sender) or []
        entry.except_recipients = _less(entry.except_recipients, [party_of(world, word) for word in words[1:]])
        entry.except_senders = _less(entry.except_senders, gone)


def _entries(world: World, senders: list[str], given: Given) -> list[Entry]:
    to = party_of(world, given.to) if given.to else ""
    found = [entry for entry in world.entries if entry.who in senders and to in ("", entry.to)]
    _demand(found, "there is no such entry")
    return found

"""What policyd must answer, told a second time: docs/rules.rst over plain dictionaries, sharing no line with it.

It knows as much of addresses as `questions` makes: ASCII, `+` for extensions, and two kinds of IMCEA.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

OUTSIDE, ANYONE = "outside", "anyone"
HANG_UP = ""  # instead of an answer
UNLISTED = "REJECT 5.1.1 This address does not receive mail"
RESTRICTED = "REJECT 5.7.1 This mailbox does not take mail from this sender"
BLOCKED = "REJECT 5.7.1 This sender may not write to this recipient"


@dataclass(frozen=True)
class Question:
    """What is asked, under Postfix's names."""

    protocol_state: str
    sender: str
    recipient: str
    sasl_username: str
    client_address: str
    policy_context: str


@dataclass(frozen=True)
class Box:
    """A mailbox: who may send to it. `until` is in Unix seconds, 0 for no end."""

    receive: str = "anyone"
    reason: str = ""
    until: int = 0
    accepted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Block:
    """A blocked sender: a mailbox or a pattern, and to whom it may not send."""

    sender: str
    to: str
    reason: str
    until: int
    allowed: frozenset[str]


@dataclass
class World:
    """All that the answers depend on. Mailboxes by their names; `blocks` are in the order of their age."""

    domains: dict[str, str] = field(default_factory=dict)
    boxes: dict[str, Box] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    is_monitor: bool = False
    is_away: bool = False  # the database

    def copy(self, *, is_away: bool = False) -> "World":
        """One to change."""
        return World(
            dict(self.domains), dict(self.boxes), dict(self.addresses), list(self.blocks), self.is_monitor, is_away
        )

    def rename(self, old: str, new: str) -> None:
        """Call a mailbox *new*."""
        self.boxes[new] = self.boxes.pop(old)
        self.addresses = {address: new if name == old else name for address, name in self.addresses.items()}
        self.blocks = [
            replace(each, sender=new if each.sender == old else each.sender, to=new if each.to == old else each.to)
            for each in self.blocks
        ]

    def remove(self, name: str) -> None:
        """Take a mailbox away, and all that hangs on it."""
        del self.boxes[name]
        self.addresses = {address: holder for address, holder in self.addresses.items() if holder != name}
        self.blocks = [each for each in self.blocks if name not in (each.sender, each.to)]

    def block(self, wanted: Block) -> None:
        """Make *wanted* stand, new or in the place of the entry for the same two."""
        for at, each in enumerate(self.blocks):
            if (each.sender, each.to) == (wanted.sender, wanted.to):
                self.blocks[at] = wanted
                return
        self.blocks.append(wanted)


def answer(world: World, question: Question, now: int) -> str:
    """The action that answers *question* at *now*, in Unix seconds; `HANG_UP` where there can be none."""
    if question.protocol_state in ("VRFY", "ETRN"):
        return "DUNNO"
    if world.is_away:
        return HANG_UP
    action = _judged(world, question, now)
    return "DUNNO" if world.is_monitor else action


def _judged(world: World, question: Question, now: int) -> str:
    local, domain = _split(question.recipient)
    if local.partition("+")[0] == "postmaster" and (not domain or domain in world.domains):
        return "DUNNO"
    blocks = [each for each in world.blocks if _is_blocking(world, each, question, now)]
    if blocks:
        return _with_reason(BLOCKED, min(blocks, key=lambda each: _rank(each.sender)).reason)  # the first of equals
    if domain not in world.domains:
        return "DUNNO"
    name = mailbox_of(world, question.recipient)
    is_insider = bool(
        question.sasl_username
        or question.policy_context == "submission"
        or question.client_address.startswith(("127.", "::1"))
    )
    if not name:
        return "DUNNO" if is_insider or world.domains[domain] == "accept" else UNLISTED
    box = world.boxes[name]
    is_open = box.receive == "anyone" or 0 < box.until <= now
    if is_open or (box.receive == "insiders" and is_insider) or box.accepted & {*_patterns(question.sender, "<>")}:
        return "DUNNO"
    return _with_reason(RESTRICTED, box.reason)


def mailbox_of(world: World, text: str) -> str:
    """The mailbox that an address leads to, "" for none."""
    local, domain = _split(text)
    if domain not in world.domains:
        return ""
    if local.startswith("imceaex-"):
        name = local.rpartition("_cn=")[2]
        return name if name in world.boxes else ""
    if local.startswith("imceasmtp-"):
        inside = local.removeprefix("imceasmtp-").replace("+40", "@").replace("+2e", ".").replace("+2b", "+")
        local, domain = _split(inside)
    forms = (local, local.partition("+")[0])
    return next((world.addresses[f"{each}@{domain}"] for each in forms if f"{each}@{domain}" in world.addresses), "")


def _is_blocking(world: World, entry: Block, question: Question, now: int) -> bool:
    """Whether *entry* is about this client, and applies to this recipient."""
    if 0 < entry.until <= now:
        return False
    has_sender = bool(question.recipient) or question.protocol_state not in ("", "CONNECT", "HELO", "EHLO")
    identities = {*_patterns(question.sender, "<>" if has_sender else ""), mailbox_of(world, question.sender)}
    login = question.sasl_username
    if "@" in login:
        identities |= {*_patterns(login, ""), mailbox_of(world, login)}
    elif login.lower() in world.boxes:
        identities.add(login.lower())
    if entry.sender not in identities - {""}:
        return False
    if not question.recipient:
        return entry.to == ANYONE and not entry.allowed
    _, domain = _split(question.recipient)
    is_meant = {OUTSIDE: bool(domain) and domain not in world.domains, ANYONE: True}
    if not is_meant.get(entry.to, mailbox_of(world, question.recipient) == entry.to):
        return False
    return not entry.allowed & {*_patterns(question.recipient, "")}


def _split(text: str) -> tuple[str, str]:
    local, at, domain = text.lower().rpartition("@")
    return (local, domain) if at else (domain, "")


def _patterns(text: str, null: str) -> Iterator[str]:
    """Every pattern that matches an address; *null* for an empty one."""
    local, domain = _split(text)
    if not text:
        yield null
    if not domain:
        return
    for form in (local, local.partition("+")[0]):
        yield f"{form}@{domain}"
        yield f"{form}@"
    yield f"@{domain}"
    while "." in domain:
        domain = domain.partition(".")[2]
        yield f"@.{domain}"


def _rank(sender: str) -> tuple[int, int]:
    """The smaller, the more specific: mailbox, address, `user@`, `@domain`, `@.domain`, of these the longest."""
    local, at, domain = sender.partition("@")
    if sender == "<>" or (local and domain):
        return 1, 0
    if not at:
        return 0, 0
    if local:
        return 2, 0
    return (4, -len(domain)) if domain.startswith(".") else (3, 0)


def _with_reason(text: str, reason: str) -> str:
    return f"{text}: {reason}" if reason else text

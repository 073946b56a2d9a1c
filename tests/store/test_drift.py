"""One rule, one implementation: a row of an import does what the command does that an administrator would type.

Two databases go through the same history, one by commands, the other by rows of a file. After each step both hold
the same, and their journals say the same, but for the verb. Where one refuses, so does the other. Then the same of
commands that are typed one after the other, and the lines of a batch.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from policyd.errors import RefusedError
from policyd.model import BlockedSender, Domain, Group, Mailbox, Membership, Party, PartyKind, Receive, Unlisted
from policyd.records import (
    KEEP,
    AddressRow,
    BlockRow,
    DomainRow,
    GroupRow,
    Keep,
    ListEdit,
    MailboxRow,
    Record,
    Row,
    RowMode,
)
from policyd.store.connection import Database
from policyd.store.database import changing, reading
from policyd.store.edit import NO_END, Editor, EntryTerms, RestrictionTerms
from policyd.store.queries import Queries
from tests.support.command_line import MEMORY, CommandLine, command_line
from tests.support.engine import new_database
from tests.support.parties import parties, party, party_set
from tests.support.randomised import count, examples
from tests.support.writing import NOW, bulk_on, editor_on

DAY = 86400
NAMES = st.sampled_from(["Anna", "Bert", "Cleo"])
ADDRESSES = st.sampled_from([f"{local}@{domain}" for local in "xyz" for domain in ("a.example", "b.example")])
PATTERNS = st.sampled_from(["<>", "joe@", "x@a.example", "@a.example", "@.example", "@out.example", "j@out.example"])
GROUPS = st.sampled_from(["staff", "board", "all"])
GROUP_PARTIES = GROUPS.map("group:{}".format)
SENDERS = st.one_of(NAMES, PATTERNS, GROUP_PARTIES)
TO = st.one_of(st.sampled_from(["", "outside", "anyone", "@out.example"]), NAMES, GROUP_PARTIES)
TEXTS = st.sampled_from([KEEP, "", "left"])
ENDS = st.sampled_from([KEEP, KEEP, None, DAY, 3 * DAY])  # seconds from now

Contents = tuple[
    list[Domain], list[tuple[Mailbox, tuple[str, ...]]], list[BlockedSender], list[Group], list[Membership]
]
Edit = Callable[[Editor], object]


def typed(value):
    """What a command is given for the value of a row: None where the row leaves it as it is."""
    return None if isinstance(value, Keep) else value


def typed_end(until):
    """The same of an end."""
    return None if isinstance(until, Keep) else until or NO_END


def add_mailbox(name: str, address: str, edit: Editor) -> None:
    """Type `mailbox add`."""
    edit.add_mailbox(name, [address], "")


class World:
    """One of the two databases."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def edit(self, edit: Edit, now: int) -> str:
        """Change the tables as commands do; why that was refused, or ""."""
        try:
            with changing(self.database) as connection:
                edit(editor_on(connection, now=now))
        except RefusedError as error:
            return str(error)
        return ""

    def take(self, rows: tuple[Row, ...], now: int) -> str:
        """Import *rows* as one record; why that was refused, or ""."""
        with changing(self.database) as connection:
            bulk = bulk_on(connection, now=now)
            problems = [*bulk.apply(Record(1, "", rows))]
            problems += [each for _, found in bulk.finish() for each in found]
        return "; ".join(each.message for each in problems)

    def contents(self) -> Contents:
        """Everything in the tables, numbers included."""
        with reading(self.database) as connection:
            dump = Queries(connection)
            lists = [*dump.domains()], [*dump.mailboxes()], [*dump.blocked_senders()]
            return *lists, [*dump.groups()], [*dump.memberships()]

    def journal(self, after: int) -> list[tuple[str, str | None, str | None]]:
        """Of each change after the one with this number: the noun, and the object before and after."""
        with reading(self.database) as connection:
            changes = [*Queries(connection).changes_from(after + 1)]
        return [(change.operation.partition(".")[0], change.before, change.after) for change in changes]

    def length(self) -> int:
        """The number of the last change."""
        return len(self.journal(0))


def to_whom(text: str) -> Party | None:
    """To whom a sender is blocked, None where that is not said."""
    return party(text) if text else None


def owner(edit: Editor, name: str) -> Domain | Group:
    """The domain or group of that name."""
    return edit.domain(name) if "." in name else edit.group(name)


def net(changes: list[tuple[str, str | None, str | None]]) -> list[tuple[str, str, str]]:
    """What *changes*, which may touch an object several times, come to for each object."""
    states: dict[tuple[str, str], list[str | None]] = {}
    for noun, before, after in changes:
        kept = json.loads(before or after or "{}")
        key = noun, str(kept.get("id") or kept.get("address") or kept.get("name"))
        states.setdefault(key, [before, after])[1] = after
    return sorted((key[0], str(old), str(new)) for key, (old, new) in states.items() if old != new)


class Drift(RuleBasedStateMachine):
    """Steps that can be taken both ways. The clock only moves when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.made = ExitStack()
        self.typed, self.imported = (World(self.made.enter_context(self.new_database())) for _ in range(2))

    @staticmethod
    @contextmanager
    def new_database() -> Iterator[Database]:
        """One of its own, on the engine that is tested."""
        with TemporaryDirectory(dir=MEMORY) as folder, new_database(Path(folder)) as database:
            yield database

    def teardown(self) -> None:
        self.made.close()

    def step(self, rows: Row | tuple[Row, ...], edit: Edit, *, is_one_command: bool = True) -> None:
        """Import *rows* into the one database, *edit* the other, and compare."""
        lengths = self.imported.length(), self.typed.length()  # an import may come to the same in more changes
        refused_row = self.imported.take(rows if isinstance(rows, tuple) else (rows,), self.now)
        refused_command = self.typed.edit(edit, self.now)
        assert bool(refused_row) == bool(refused_command), (refused_row, refused_command)
        assert self.imported.contents() == self.typed.contents()
        imported, typed = self.imported.journal(lengths[0]), self.typed.journal(lengths[1])
        assert net(imported) == net(typed)
        if is_one_command:
            assert imported == typed

    @initialize()
    def begin(self) -> None:
        """A company in one domain, with two mailboxes."""
        self.step(DomainRow("a.example"), lambda edit: edit.add_domain(Domain("a.example")))
        for name, address in (("Anna", "x@a.example"), ("Bert", "y@a.example")):
            row = MailboxRow(name, addresses=ListEdit(add=(address,)))
            self.step(row, partial(add_mailbox, name, address))

    @rule(seconds=st.sampled_from([DAY, 2 * DAY]))
    def time_passes(self, seconds: int) -> None:
        """What ends then has ended."""
        self.now += seconds

    @rule(
        name=st.sampled_from(["a.example", "b.example"]),
        unlisted=st.sampled_from(Unlisted),
        mode=st.sampled_from(RowMode),
    )
    def manage_a_domain(self, name: str, unlisted: Unlisted, mode: RowMode) -> None:
        """As `domain add`, `domain set`, or `domain remove` of one without addresses."""
        is_there = any(domain.name == name for domain in self.typed.contents()[0])
        if mode is RowMode.DELETE:
            if any(text.endswith(f"@{name}") for _, held in self.typed.contents()[1] for text in held):
                return
            self.step(DomainRow(name, mode), lambda edit: edit.remove_domain(name))
        elif mode is RowMode.CREATE or (mode is RowMode.UPDATE and not is_there):
            row = DomainRow(name, mode, unlisted)
            self.step(row, lambda edit: edit.add_domain(Domain(name, unlisted)))
        else:
            self.step(DomainRow(name, mode, unlisted), lambda edit: edit.set_domain(name, unlisted))

    @rule(name=NAMES, addresses=st.lists(ADDRESSES, max_size=3, unique=True))
    def add_a_mailbox(self, name: str, addresses: list[str]) -> None:
        """As `mailbox add`."""
        row = MailboxRow(name, RowMode.CREATE, addresses=ListEdit(add=tuple(addresses)), comment="c")
        self.step(row, lambda edit: edit.add_mailbox(name, addresses, "c"))

    @rule(name=NAMES)
    def remove_a_mailbox(self, name: str) -> None:
        """As `mailbox remove --yes`."""
        self.step(MailboxRow(name, RowMode.DELETE), lambda edit: edit.remove_mailbox(name))

    @rule(name=NAMES)
    def write_a_name_otherwise(self, name: str) -> None:
        """As `mailbox rename`, to the same name in another case."""
        self.step(MailboxRow(name.upper(), RowMode.MODIFY), lambda edit: edit.rename_mailbox(name, name.upper()))

    @rule(name=NAMES, address=ADDRESSES, removes=st.booleans())
    def edit_addresses(self, name: str, address: str, removes: bool) -> None:
        """As `address add` and `address remove`, by a mailbox's row and by an alias's."""
        held = next((held for mailbox, held in self.typed.contents()[1] if mailbox.name.lower() == name.lower()), None)
        if held is None or (address in held) is not removes:
            return
        change = ListEdit(remove=(address,)) if removes else ListEdit(add=(address,))
        rows: list[Row] = [MailboxRow(self.written(name), addresses=change)]
        rows += [AddressRow(address, name, RowMode.DELETE if removes else RowMode.CREATE)]
        row = rows[self.now // DAY % 2]
        if removes:
            self.step(row, lambda edit: edit.remove_address(address))
        else:
            self.step(row, lambda edit: edit.add_address(name, address))

    @rule(
        name=NAMES,
        receive=st.sampled_from([Receive.INSIDERS, Receive.NOBODY]),
        accepted=st.none() | st.lists(PATTERNS, min_size=1, max_size=2),
        reason=TEXTS,
        after=ENDS,
    )
    def restrict(self, name: str, receive: Receive, accepted: list[str] | None, reason, after) -> None:
        """As `mailbox restrict`: what had ended is in force again."""
        until = self.now + after if isinstance(after, int) else after
        clears = KEEP if accepted is None else ListEdit(clear=True, add=parties(*accepted))
        row = MailboxRow(
            self.written(name), RowMode.MODIFY, receive=receive, accepted=clears, reason=reason, until=until
        )
        terms = RestrictionTerms(
            receive, None if accepted is None else party_set(*accepted), typed(reason), typed_end(until)
        )
        self.step(row, lambda edit: edit.restrict(edit.mailbox(name), terms))

    @rule(name=NAMES, reason=st.sampled_from(["", "left"]))
    def change_the_reason(self, name: str, reason: str) -> None:
        """As `mailbox restrict --reason` of a mailbox that is restricted."""
        receive = self.receive_of(name)
        if receive is None or not receive.is_restriction:
            return
        row = MailboxRow(self.written(name), reason=reason)
        self.step(
            row,
            lambda edit: edit.restrict(edit.mailbox(name), RestrictionTerms(reason=reason)),
        )

    @rule(name=NAMES)
    def lift(self, name: str) -> None:
        """As `mailbox lift`."""
        if self.receive_of(name) is not Receive.INHERIT:
            row = MailboxRow(self.written(name), RowMode.MODIFY, receive=Receive.INHERIT)
            self.step(row, lambda edit: edit.lift(edit.mailbox(name)))

    @rule(name=NAMES, pattern=PATTERNS, removes=st.booleans())
    def accept(self, name: str, pattern: str, removes: bool) -> None:
        """As `mailbox accept`, and `mailbox unaccept` of what is accepted."""
        mailbox = next((each for each, _ in self.typed.contents()[1] if each.name == self.written(name)), None)
        change = ListEdit(remove=parties(pattern)) if removes else ListEdit(add=parties(pattern))
        row = MailboxRow(self.written(name), RowMode.MODIFY, accepted=change)
        if not removes:
            self.step(row, lambda edit: edit.accept(edit.mailbox(name), [party(pattern)]))
        elif mailbox is not None and party(pattern) in mailbox.accepted:
            self.step(row, lambda edit: edit.unaccept(edit.mailbox(name), [party(pattern)]))

    # --- Domains that stand for others, groups, and restrictions of both

    @rule(name=st.sampled_from(["a.example", "b.example"]), other=st.sampled_from(["", "a.example", "b.example"]))
    def stand_for_another_domain(self, name: str, other: str) -> None:
        """As `domain set --alias-of` and `--no-alias`."""
        self.step(DomainRow(name, RowMode.MODIFY, alias_of=other), lambda edit: edit.set_domain(name, alias_of=other))

    @rule(name=GROUPS, members=st.lists(st.one_of(NAMES, GROUP_PARTIES, ADDRESSES), max_size=2, unique=True))
    def add_a_group(self, name: str, members: list[str]) -> None:
        """As `group add`."""
        row = GroupRow(name, RowMode.CREATE, members=ListEdit(add=parties(*members)), comment="c")
        self.step(row, lambda edit: edit.add_group(name, parties(*members), "c"))

    @rule(name=GROUPS)
    def remove_a_group(self, name: str) -> None:
        """As `group remove --yes`."""
        self.step(GroupRow(name, RowMode.DELETE), lambda edit: edit.remove_group(name))

    @rule(name=GROUPS, member=st.one_of(NAMES, GROUP_PARTIES), removes=st.booleans())
    def join_and_leave(self, name: str, member: str, removes: bool) -> None:
        """As `group join`, which makes no circle, and as `group leave` of who is in it."""
        memberships = self.typed.contents()[4]
        held = {(each.group.text, str(each.member).lower()) for each in memberships}
        change = ListEdit(remove=parties(member)) if removes else ListEdit(add=parties(member))
        row = GroupRow(name, RowMode.MODIFY, members=change)
        if not removes:
            self.step(row, lambda edit: edit.join(edit.group(name), parties(member)))
        elif (name, member.lower()) in held:
            self.step(row, lambda edit: edit.leave(edit.group(name), parties(member)))

    @rule(
        name=st.one_of(GROUPS, st.sampled_from(["a.example", "b.example"])),
        receive=st.sampled_from([Receive.INSIDERS, Receive.DOMAIN, Receive.NOBODY]),
        accepted=st.none() | st.lists(SENDERS, min_size=1, max_size=2),
        reason=TEXTS,
        after=ENDS,
    )
    def restrict_all_in_it(self, name: str, receive: Receive, accepted: list[str] | None, reason, after) -> None:
        """As `group restrict` and `domain restrict`; of an alias domain, both refuse.

        A row that accepts a mailbox or group there isn't, yet, is not refused as a whole: see test_bulk.py.
        """
        if not all(map(self.is_known, accepted or ())):
            return
        until = self.now + after if isinstance(after, int) else after
        clears = KEEP if accepted is None else ListEdit(clear=True, add=parties(*accepted))
        said = {"receive": receive, "accepted": clears, "reason": reason, "until": until}
        row = DomainRow(name, RowMode.MODIFY, **said) if "." in name else GroupRow(name, RowMode.MODIFY, **said)
        terms = RestrictionTerms(
            receive, None if accepted is None else party_set(*accepted), typed(reason), typed_end(until)
        )
        self.step(row, lambda edit: edit.restrict(owner(edit, name), terms), is_one_command=False)

    @rule(name=st.one_of(GROUPS, st.sampled_from(["a.example", "b.example"])))
    def lift_from_all_in_it(self, name: str) -> None:
        """As `group lift` and `domain lift` of what is restricted."""
        owners: list[Domain | Group] = [*self.typed.contents()[0], *self.typed.contents()[3]]
        if any(each.name == name and each.receive.is_restriction for each in owners):
            kind = DomainRow if "." in name else GroupRow
            self.step(kind(name, RowMode.MODIFY, receive=Receive.ANYONE), lambda edit: edit.lift(owner(edit, name)))

    @rule(name=NAMES, after=ENDS)
    def open_a_mailbox(self, name: str, after) -> None:
        """As `mailbox open`."""
        until = self.now + after if isinstance(after, int) else after
        row = MailboxRow(self.written(name), RowMode.MODIFY, receive=Receive.ANYONE, until=until)
        self.step(row, lambda edit: edit.open_mailbox(edit.mailbox(name), typed_end(until)))

    @rule(to=st.sampled_from(["outside", "@out.example", "Anna", "group:staff"]), allowed=st.lists(SENDERS, max_size=2))
    def block_everybody(self, to: str, allowed: list[str]) -> None:
        """As `sender block anyone --to … --except-sender …`."""
        row = BlockRow(party("anyone"), party(to), allowed_senders=ListEdit(clear=True, add=parties(*allowed)))
        terms = EntryTerms(allowed_senders=party_set(*allowed))
        self.step(row, lambda edit: edit.block_sender(party("anyone"), party(to), terms))

    @rule(
        sender=SENDERS,
        to=TO,
        allowed=st.none() | st.lists(PATTERNS, min_size=1, max_size=2),
        reason=TEXTS,
        after=ENDS,
        comment=TEXTS,
    )
    def block(self, sender: str, to: str, allowed: list[str] | None, reason, after, comment) -> None:
        """As `sender block`: what had ended is in force again, and an exception that can't match is refused."""
        until = self.now + after if isinstance(after, int) else after
        exceptions = KEEP if allowed is None else ListEdit(clear=True, add=parties(*allowed))
        terms = EntryTerms(
            None if allowed is None else party_set(*allowed),
            reason=typed(reason),
            until=typed_end(until),
            comment=typed(comment),
        )
        row = BlockRow(party(sender), to_whom(to), allowed=exceptions, reason=reason, until=until, comment=comment)
        self.step(row, lambda edit: edit.block_sender(party(sender), to_whom(to), terms))

    @rule(senders=st.lists(SENDERS, min_size=1, max_size=3, unique=True))
    def block_a_list(self, senders: list[str]) -> None:
        """As `sender block SENDER...`, by one record with a row for each, as of a list of leavers."""
        self.step(
            tuple(BlockRow(party(sender)) for sender in senders),
            lambda edit: [edit.block_sender(party(sender), None, EntryTerms()) for sender in senders],
        )

    @rule(sender=SENDERS, name=NAMES)
    def reject_a_sender(self, sender: str, name: str) -> None:
        """As `sender block --to`, by the list of a mailbox's row."""
        if self.receive_of(name) is not None:
            row = MailboxRow(self.written(name), rejected=ListEdit(add=parties(sender)))
            self.step(row, lambda edit: edit.block_sender(party(sender), party(name), EntryTerms()))

    @rule(sender=SENDERS, to=st.one_of(st.sampled_from(["outside", "anyone"]), NAMES))
    def unblock(self, sender: str, to: str) -> None:
        """As `sender unblock --to`."""
        self.step(
            BlockRow(party(sender), to_whom(to), RowMode.DELETE),
            lambda edit: edit.unblock_sender(party(sender), to_whom(to)),
        )

    @rule(sender=SENDERS, to=st.sampled_from(["outside", "anyone", "Anna"]), pattern=PATTERNS, removes=st.booleans())
    def change_exceptions(self, sender: str, to: str, pattern: str, removes: bool) -> None:
        """As `sender except`, which is no new start, and as `sender unexcept` of what is excepted."""
        entries = self.typed.contents()[2]
        found = next((each for each in entries if (str(each.who).lower(), str(each.to)) == (sender.lower(), to)), None)
        if (
            found is None
            or (found.until is not None and found.until <= self.now)
            or (party(pattern) in found.allowed) is not removes
        ):
            return
        change = ListEdit(remove=parties(pattern)) if removes else ListEdit(add=parties(pattern))
        row = BlockRow(party(sender), to_whom(to), allowed=change)
        if removes:
            self.step(row, lambda edit: edit.remove_exceptions(party(sender), to_whom(to), [party(pattern)]))
        else:
            self.step(row, lambda edit: edit.add_exceptions(party(sender), to_whom(to), [party(pattern)]))

    def written(self, name: str) -> str:
        """The name as the mailbox has it now, or *name*."""
        return next((each.name for each, _ in self.typed.contents()[1] if each.name.lower() == name.lower()), name)

    def is_known(self, sender: str) -> bool:
        """Whether *sender* is a pattern, or a mailbox or group that is there."""
        _, mailboxes, _, groups, _ = self.typed.contents()
        held = {each.name.lower() for each, _ in mailboxes} | {f"group:{each.name}" for each in groups}
        return party(sender).kind is PartyKind.PATTERN or sender.lower() in held

    def receive_of(self, name: str) -> Receive | None:
        """Who may send to the mailbox; None where there is no such mailbox."""
        mailboxes = self.typed.contents()[1]
        return next((each.receive for each, _ in mailboxes if each.name.lower() == name.lower()), None)


class TestDrift(Drift.TestCase):  # type: ignore[misc, valid-type]  # hypothesis makes it
    """The steps in random orders."""

    # What fails is not made shorter, which takes minutes: a history of twelve steps can be read.
    settings = settings(max_examples=count(8), stateful_step_count=12, phases=[Phase.explicit, Phase.generate])


@pytest.mark.full
class TestDriftForLong(Drift.TestCase):  # type: ignore[misc, valid-type]  # hypothesis makes it
    """The steps in more orders."""

    settings = settings(max_examples=count(30), stateful_step_count=12, phases=[Phase.explicit, Phase.generate])


# --- A batch, and the same lines typed one after the other ---

OPTIONS = st.sampled_from(["", "--reason 'on leave'", "--until 2096-12-31", "--reason ''", "--until never"])
LINES = st.one_of(
    st.builds("domain add {}".format, st.sampled_from(["a.example", "b.example", "c.example --alias-of a.example"])),
    st.builds("domain {} {}".format, st.sampled_from(["restrict", "lift", "remove --yes"]), st.just("b.example")),
    st.builds("mailbox add {} {}".format, NAMES, ADDRESSES),
    st.builds("mailbox remove --yes {}".format, NAMES),
    st.builds("mailbox rename {} {}".format, NAMES, st.sampled_from(["Dora", "anna"])),
    st.builds("mailbox restrict {} {}".format, NAMES, OPTIONS),
    st.builds("mailbox open {} --until {}".format, NAMES, st.sampled_from(["never", "2096-12-31"])),
    st.builds("mailbox {} {} '{}'".format, st.sampled_from(["accept", "unaccept"]), NAMES, SENDERS),
    st.builds("mailbox lift {}".format, NAMES),
    st.builds("address add {} {}".format, NAMES, ADDRESSES),
    st.builds("address remove {}".format, ADDRESSES),
    st.builds("group add {} {}".format, GROUPS, NAMES),
    st.builds("group {} {} {}".format, st.sampled_from(["join", "leave"]), GROUPS, st.one_of(NAMES, GROUP_PARTIES)),
    st.builds("group {} {}".format, st.sampled_from(["restrict", "lift", "remove --yes"]), GROUPS),
    st.builds("sender block '{}' {}".format, SENDERS, OPTIONS),
    st.builds("sender block anyone --to outside --except-sender '{}'".format, SENDERS),
    st.builds("sender unblock '{}'".format, SENDERS),
    st.builds("sender {} '{}' '{}'".format, st.sampled_from(["except", "unexcept"]), SENDERS, PATTERNS),
)


def without_times(policyd: CommandLine) -> list[tuple[Any, ...]]:
    """The journal, but for the moments at which senders were blocked."""
    rows = policyd.rows('SELECT id, operation, object, "before", "after" FROM change ORDER BY id')
    return [(*row[:3], *(re.sub(r'"created_at": \d+', "", state or "") for state in row[3:])) for row in rows]


@examples(few=8, many=40, phases=[Phase.explicit, Phase.generate])
@given(st.lists(LINES, min_size=8, max_size=16))
def test_a_batch_does_what_its_lines_do_one_after_the_other(lines):
    """Whatever a line needs of the lines before it; where one is refused, the batch is, with the same words."""
    begun = ["domain add a.example", "mailbox add Anna x@a.example", "mailbox add Bert y@a.example"]
    with command_line() as typed, command_line() as batched:
        taken: list[str] = []
        for line in [*begun, *lines]:
            alone = typed.ends(line)
            if alone.status == 0:
                taken.append(line)
                continue
            refused = batched.ends("batch -", stdin="\n".join([*taken, line]))
            message = alone.err.removeprefix("policyd: ").removesuffix("\n")
            assert (refused.status, refused.out) == (alone.status, "")
            assert refused.err == f"policyd: -:{len(taken) + 1}: {line.strip()}: {message} (nothing was changed)\n"
        assert batched.ends("batch -", stdin="\n".join(taken)).status == 0
        assert without_times(batched) == without_times(typed)
        assert {*batched.rows("SELECT changeset FROM change")} == {(1,)}


# --- By name, what had drifted ---


@pytest.fixture
def policyd():
    """A company with one domain and two mailboxes."""
    with command_line(
        "domain add example.com",
        "mailbox add alice alice@example.com",
        "mailbox add bob bob@example.com",
    ) as policyd:
        yield policyd


def imports(policyd: CommandLine, content: str, options: str = "", status: int = 0) -> str:
    """What a person is told of an import of *content*."""
    file = policyd.folder / "file"
    file.write_text(content)
    ended = policyd.ends(f"-v import {file} {options}")
    assert ended.status == status, ended
    return ended.err


def test_importing_the_leavers_blocks_again_whose_block_has_ended(policyd):
    """The list says that they may not send, as `sender block` does; the end of last year's leave is none of today's."""
    policyd.run("sender block alice --until +1d")
    policyd.rows("UPDATE blocked_sender SET until = 1700000000")
    question = "check --login alice@example.com --sender alice@example.com --recipient joe@example.net"
    assert policyd.ends(question).status == 0
    assert "blocked sender: 1 changed" in imports(policyd, "alice\n", "--format list --into blocked")
    assert policyd.ends(question).status == 1
    assert "blocked sender: 1 unchanged" in imports(policyd, "alice\n", "--format list --into blocked")


def test_importing_a_restriction_sets_one_that_has_ended_in_force_again(policyd):
    """As `mailbox restrict` does."""
    policyd.run("mailbox restrict alice --until +1d --reason leave")
    policyd.rows("UPDATE mailbox SET until = 1700000000 WHERE name = 'alice'")
    question = "check --sender joe@example.net --recipient alice@example.com --client-address 192.0.2.1"
    assert policyd.ends(question).status == 0
    assert "mailbox: 1 changed" in imports(policyd, "name,receive\nalice,insiders\n", "--format csv")
    assert policyd.ends(question).status == 1
    assert policyd.json("mailbox show alice")["reason"] == "leave"


@pytest.mark.parametrize(
    ("to", "pattern", "problem"),
    [
        (
            "outside",
            "@example.com",
            "example.com is managed, and this entry leaves recipients in managed domains alone",
        ),
        ("bob", "@example.net", "example.net is not managed, so bob has no address there"),
        ("anyone", "<>", "no recipient is the null sender"),
    ],
)
def test_an_exception_that_can_match_nobody_is_refused_from_a_file_too(policyd, to, pattern, problem):
    """Who writes one has something else in mind, and must hear of it."""
    command = policyd.refuses(f"sender block alice --to {to} --except '{pattern}'")
    row = json.dumps({"kind": "blocked", "sender": "alice", "to": to, "except": [pattern]})
    told = imports(policyd, f"{row}\n", "--format jsonl", status=65)
    assert f"the exception {pattern} would do nothing: {problem}" in command
    assert command.removeprefix("policyd: ") in told


def test_an_undo_gives_no_address_back_in_a_domain_that_is_managed_no_more(policyd):
    """No command would add it; mail to it would be answered as if nobody had decided anything."""
    policyd.run("domain add example.org")
    policyd.run("address add alice alice@example.org")
    policyd.run("address remove alice@example.org")
    changeset = policyd.json("history --limit 1")[0]["changeset"]
    policyd.run("domain remove example.org")
    assert "later changes build on it: alice@example.org" in policyd.refuses(f"undo {changeset}")
    assert len(policyd.json("address list")) == 2

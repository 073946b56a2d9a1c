"""Wrong rows of random files: what they say is as if it were not there."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from policyd.model import Receive, Unlisted
from policyd.records import KEEP, AddressRow, BlockRow, DomainRow, GroupRow, ListEdit, MailboxRow, Record, Row, RowMode
from policyd.store.database import changing, reading
from policyd.store.queries import Queries
from tests.support.command_line import CommandLine, command_line
from tests.support.parties import parties, party
from tests.support.writing import bulk_on

MAILBOXES = ("Alice", "Bob", "carol", "dave")
ADDRESSES = (
    *("alice@example.com", "bob@example.com", "carol@example.com"),
    *("dave@example.org", "z@example.net", "q@nowhere.example"),
)
PARTIES = (*MAILBOXES, *MAILBOXES, "ghost", "group:g", "group:h", "group:nope", "@x.example", "a@example.com")
BEFORE = (
    *("domain add example.com", "mailbox add Alice alice@example.com", "mailbox add Bob bob@example.com"),
    *("mailbox restrict Bob --accept @partner.example --reason quiet", "group add g Alice"),
)


def _lists(items: tuple[str, ...], most: int) -> st.SearchStrategy[Any]:
    some = st.lists(st.sampled_from(items), max_size=most, unique=True).map(lambda texts: parties(*texts))
    edits = st.builds(ListEdit, st.booleans(), st.one_of(st.just(()), some), some)
    return st.one_of(st.just(KEEP), edits)


def _or_keep(*values: object) -> st.SearchStrategy[Any]:
    return st.sampled_from([KEEP, KEEP, *values])


_modes = st.sampled_from([*[RowMode.UPDATE] * 5, RowMode.CREATE, RowMode.MODIFY])
_addresses = st.one_of(
    st.just(KEEP),
    st.builds(
        ListEdit,
        st.booleans(),
        st.just(()),
        st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True).map(tuple),
    ),
)
_mailbox_rows = st.builds(
    MailboxRow,
    st.sampled_from(MAILBOXES),
    _modes,
    _addresses,
    _or_keep(Receive.INSIDERS, Receive.NOBODY, Receive.INHERIT, Receive.ANYONE),
    _or_keep("why"),
    accepted=_lists(PARTIES, 2),
    rejected=_lists(PARTIES, 1),
)
_domain_rows = st.builds(
    DomainRow,
    st.sampled_from(["example.com", "example.org", "example.net"]),
    _modes,
    _or_keep(Unlisted.ACCEPT),
    _or_keep("example.com"),
    _or_keep(Receive.INSIDERS, Receive.ANYONE),
    _or_keep("closed"),
    accepted=_lists(PARTIES, 2),
)
_group_rows = st.builds(
    GroupRow,
    st.sampled_from(["g", "h"]),
    _modes,
    _lists((*MAILBOXES, "ghost", "group:g", "group:h", "group:nope"), 2),
    _or_keep(Receive.NOBODY),
    accepted=_lists(PARTIES, 1),
)
_block_rows = st.builds(
    BlockRow,
    st.sampled_from(PARTIES).map(party),
    st.sampled_from(["outside", "anyone", "Alice", "group:g"]).map(party),
    _modes,
    allowed=_lists(PARTIES, 1),
    reason=_or_keep("blocked"),
)
_alias_rows = st.builds(AddressRow, st.sampled_from(ADDRESSES), st.sampled_from([*MAILBOXES, *ADDRESSES]))
files = st.lists(
    st.one_of(_mailbox_rows, _mailbox_rows, _domain_rows, _group_rows, _block_rows, _alias_rows), min_size=2, max_size=6
)


def imported(policyd: CommandLine, rows: list[Row]) -> dict[int, str]:
    """What is wrong with each of *rows*, by its line, once they are imported."""
    with changing(policyd.store) as connection:
        bulk = bulk_on(connection, adds_domains=False)
        records = [Record(line, f"line {line}", (row,)) for line, row in enumerate(rows, 1)]
        wrong = {record.line: each.message for record in records for each in bulk.apply(record)}
        return wrong | {record.line: each.message for record, found in bulk.finish() for each in found}


def contents(policyd: CommandLine) -> set[object]:
    """Everything in the tables, without numbers and times."""
    with reading(policyd.store) as connection:
        found = Queries(connection)
        domains = {replace(each, accepted=_names(each.accepted)) for each in found.domains()}
        mailboxes = {
            (mailbox.name, mailbox.receive, mailbox.reason, _names(mailbox.accepted), addresses)
            for mailbox, addresses in found.mailboxes()
        }
        groups = {
            (each.name, each.receive, _names(each.accepted), _names(one.member for one in found.members_of(each.id)))
            for each in found.groups()
        }
        entries = {(str(each.who), str(each.to), each.reason, _names(each.allowed)) for each in found.blocked_senders()}
        return domains | mailboxes | groups | entries


def _names(accepted: Any) -> Any:
    return frozenset(map(str, accepted))


def _itself(row: Row) -> Row:
    """What is left of a wrong row about a new mailbox or domain on which others build."""
    if isinstance(row, MailboxRow):
        return replace(row, receive=KEEP, reason=KEEP, accepted=KEEP, rejected=KEEP)
    assert isinstance(row, DomainRow)
    return replace(row, receive=KEEP, reason=KEEP, accepted=KEEP)


@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.full)])
def test_wrong_rows_are_as_if_they_were_not_there(count: int) -> None:
    """Whoever is told that a row is wrong must not find half of it in force; the good rows are whole."""

    @settings(max_examples=count)
    @given(rows=files)
    def compare(rows: list[Row]) -> None:
        with command_line() as all_of_it, command_line() as without:
            for line in BEFORE:
                all_of_it.run(line)
                without.run(line)
            wrong = imported(all_of_it, rows)
            note(f"{wrong}")
            left = [(row, wrong.get(line, "")) for line, row in enumerate(rows, 1)]
            good = [
                _itself(row) if problem else row
                for row, problem in left
                if not problem or problem.endswith("itself is imported")
            ]
            assert imported(without, good) == {}
            assert contents(all_of_it) == contents(without)

    compare()

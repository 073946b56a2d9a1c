"""What a bulk file says: whom a row names beside its object, and which domains a record is about."""

import pytest

from policyd.model import Receive
from policyd.records import (
    KEEP,
    AddressRow,
    BlockRow,
    DomainRow,
    GroupRow,
    ListEdit,
    MailboxRow,
    Record,
    domains_of,
    groups_of,
    parties_of,
)
from tests.support.parties import parties, party

STAFF, FIELD, BOB = parties("group:Staff", "group:field", "bob")


@pytest.mark.parametrize(
    ("row", "named", "groups"),
    [
        pytest.param(DomainRow("a.example", accepted=ListEdit(add=(STAFF,))), {STAFF}, {"staff"}, id="domain"),
        pytest.param(DomainRow("a.example"), set(), set(), id="a domain that names nobody"),
        pytest.param(
            GroupRow("all", members=ListEdit(add=(BOB, FIELD)), accepted=ListEdit(add=(STAFF,))),
            {BOB, FIELD, STAFF},
            {"field", "staff"},
            id="group",
        ),
        pytest.param(
            MailboxRow("bob", accepted=ListEdit(remove=(STAFF,)), rejected=ListEdit(add=(FIELD,))),
            {STAFF, FIELD},
            {"staff", "field"},
            id="mailbox",
        ),
        pytest.param(
            BlockRow(STAFF, BOB, allowed=ListEdit(add=(FIELD,)), allowed_senders=KEEP),
            {STAFF, BOB, FIELD},
            {"staff", "field"},
            id="blocked sender",
        ),
        pytest.param(BlockRow(BOB, None), {BOB}, set(), id="a blocked sender to whomever it is by default"),
        pytest.param(AddressRow("bob@a.example", "bob"), set(), set(), id="address"),
    ],
)
def test_row_names_parties_beside_its_object(row, named, groups):
    """An entry that names a group which could not be made is no entry for everybody else."""
    assert {*parties_of(row)} == named
    assert groups_of(row) == groups


def test_bob_is_a_mailbox():
    """What the rows above name is what it looks like."""
    assert party("bob") == BOB


@pytest.mark.parametrize(
    ("row", "domains"),
    [
        pytest.param(DomainRow("new.example"), {"new.example"}, id="a domain itself"),
        pytest.param(
            MailboxRow("bob", addresses=ListEdit(add=("b@a.example", "b@b.example"))),
            {"a.example", "b.example"},
            id="a mailbox",
        ),
        pytest.param(MailboxRow("bob", receive=Receive.NOBODY), set(), id="a mailbox of which it says no address"),
        pytest.param(AddressRow("info@a.example", "bob@b.example"), {"a.example"}, id="an alias, not where it leads"),
        pytest.param(GroupRow("staff", members=ListEdit(add=parties("b@a.example"))), set(), id="a group"),
        pytest.param(BlockRow(party("@a.example"), BOB), set(), id="a blocked sender"),
    ],
)
def test_row_is_about_the_domains_of_its_addresses(row, domains):
    """Where a row about a new domain is wrong, that domain must not refuse yet whom nobody knows."""
    assert domains_of(Record(1, "", (row,)), "unused.example") == domains


@pytest.mark.parametrize(
    ("source", "domains"),
    [
        pytest.param(
            "bob,b@A.example; <c@bücher.example>,x", {"a.example", "xn--bcher-kva.example"}, id="addresses in it"
        ),
        pytest.param("bob,,never", {"default.example"}, id="none: what would complete one"),
        pytest.param('"b@b..example"', set(), id="what can be no domain"),
    ],
)
def test_row_that_can_not_be_read_is_about_the_domains_that_stand_in_it(source, domains):
    """Nobody can tell whose address was lost with it."""
    assert domains_of(Record(1, source), "default.example") == domains
    assert domains_of(Record(1, "bob")) == set()

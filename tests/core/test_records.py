"""What a bulk file says: whom a row names beside its object, so that they stand or fall together."""

import pytest

from policyd.records import KEEP, AddressRow, BlockRow, DomainRow, GroupRow, ListEdit, MailboxRow, groups_of, parties_of
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

"""LDIF, read and written: what directories export, what is broken in it, and what an administrator is told."""

import io
from collections import Counter
from pathlib import Path
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.address import fold, normal_name
from policyd.errors import AddressError, TransferError
from policyd.model import BlockedSender, Domain, Group, Mailbox, Party, PartyKind, Receive, Unlisted
from policyd.records import KEEP, GroupRow, ListEdit, MailboxRow, Notice, Problem, Record, RowMode
from policyd.transfer import ldif
from policyd.transfer.formats import ReadOptions
from policyd.transfer.ldif import entries, people
from policyd.transfer.ldif.names import escape_value, name_key, parse_name
from tests.support.parties import parties, party, party_set
from tests.support.tables_strategies import FixedTables

DOMAIN = Domain("example.test")
DATA = Path(__file__).parents[1] / "data"

ALICE = "dn: uid=alice,ou=people\nuid: alice\nmail: alice@example.test\n"
BOB = "dn: uid=bob,ou=people\nuid: bob\nmail: bob@example.test\n"


def read(text: str | bytes, **options) -> list[Record | Notice]:
    raw = text.encode() if isinstance(text, str) else text
    return list(ldif.read(io.BytesIO(raw), ReadOptions(**options)))


def records(text: str | bytes, **options) -> list[Record]:
    found = read(text, **options)
    assert not [one for one in found if isinstance(one, Notice)]
    return [one for one in found if isinstance(one, Record)]


def rows(text: str | bytes, **options) -> list[MailboxRow]:
    """The rows of a file that is wholly good."""
    found = records(text, **options)
    assert [record.problems for record in found] == [()] * len(found)
    return [row for record in found for row in record.rows if isinstance(row, MailboxRow)]


def problems(text: str | bytes, **options) -> list[Problem]:
    found = records(text, **options)
    assert all(not record.rows for record in found if record.problems)
    return [problem for record in found for problem in record.problems]


def holds(*addresses: str) -> ListEdit[str]:
    return ListEdit(True, add=addresses)


def holds_parties(*texts: str) -> ListEdit[Party]:
    return ListEdit(True, add=parties(*texts))


# Exports


def test_active_directory_export_becomes_mailboxes_with_their_restrictions():
    found = records((DATA / "active-directory.ldif").read_bytes())
    assert [record.line for record in found] == [1, 7, 25, 34, 45, 56]
    assert [record.problems for record in found] == [()] * 6
    assert [record.skipped for record in found] == [
        ("organizationalUnit",),
        ("X400", "X500"),
        (),
        (),
        (),
        ("contact",),
    ]
    assert [row for record in found for row in record.rows] == [
        MailboxRow("MariaB", addresses=holds("mariab@corp.example", "m.black@corp.example")),
        MailboxRow("juergen", addresses=holds("juergen@corp.example"), receive=Receive.INSIDERS, is_flag=True),
        GroupRow("staff", members=holds_parties("MariaB", "juergen")),
        MailboxRow(
            "staff", addresses=holds("staff@corp.example"), receive=Receive.NOBODY, accepted=holds_parties("board")
        ),
        MailboxRow(
            "board",
            addresses=holds("board@corp.example"),
            receive=Receive.NOBODY,
            accepted=holds_parties("partner@elsewhere.example", "group:staff"),
            rejected=holds_parties("MariaB"),
        ),
    ]


def test_openldap_export_with_its_comments_becomes_mailboxes():
    found = records((DATA / "openldap.ldif").read_bytes())
    assert [record.skipped for record in found] == [("organization",), (), ()]
    assert [row for record in found for row in record.rows] == [
        MailboxRow("alice", addresses=holds("alice@example.test", "a.able@example.test")),
        MailboxRow("bob", addresses=holds("böb@example.test")),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_encodings_and_line_ends_make_no_difference(encoding, line_end):
    text = "version: 1\ndn: cn=Jürgen\ncn: Jürgen\nmail: j@example.test\n"
    found = rows(text.replace("\n", line_end).encode(encoding))
    assert found == [MailboxRow("Jürgen", addresses=holds("j@example.test"))]


def test_record_keeps_its_text_and_the_line_it_begins_on():
    text = "version: 1\n\n# a comment,\n folded\n" + ALICE.replace("uid: ", "# inside\nuid: ") + "\n\n" + BOB
    assert [(record.line, record.source) for record in records(text)] == [
        (5, ALICE.replace("uid: ", "# inside\nuid: ").rstrip("\n")),
        (11, BOB.rstrip("\n")),
    ]


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# nothing\n", "version: 1\n", "version: 1\n\nsearch: 2\nresult: 0 Success\n"]
)
def test_file_without_entries_has_no_records(text):
    assert read(text) == []


def test_export_that_the_server_cut_short_is_told():
    text = ALICE + "\n# search result\nsearch: 2\nresult: 4 Size limit exceeded\n"
    assert read(text)[1:] == [Notice(7, "the export is not complete: 4 Size limit exceeded")]


def test_search_references_are_left_out():
    assert rows(ALICE + "\nref: ldap://forest.example/DC=x\n") == rows(ALICE)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ("cn: C\nuid: u\nmailNickname: n", "n"),
        ("cn: C\nuid: u", "u"),
        ("cn: C", "C"),
        ("uid: u@example.test\ncn: C", "C"),
        ("CN;lang-de: Karl\ncN: Carl", "Carl"),
        ("u\n id: u", "u"),
        ("mailNickname::\n bg=\n =", "n"),
    ],
    ids=["nickname", "uid", "cn", "what-can-name", "language", "folded-attribute", "folded-base64"],
)
def test_mailbox_is_named_by_the_first_that_can(values, name):
    assert [row.name for row in rows(f"dn: cn=x\n{values}\nmail: a@example.test\n")] == [name]


@pytest.mark.parametrize(
    ("values", "addresses"),
    [
        ("mail: a@example.test\nmail: b@example.test", ("a@example.test", "b@example.test")),
        (
            "proxyAddresses: smtp:b@example.test\nproxyAddresses: SMTP:a@example.test",
            ("a@example.test", "b@example.test"),
        ),
        ("proxyAddresses: smtp:b@example.test\nmail: a@example.test", ("a@example.test", "b@example.test")),
        ("mail: a@example.test\nproxyAddresses: SMTP:A@Example.test", ("a@example.test",)),
        ("proxyAddresses: a@example.test", ("a@example.test",)),
        ("mail: a\nproxyAddresses: smtp:b", ("a@example.org", "b@example.org")),
        ('mail: "a b"@example.test', ("a b@example.test",)),
        ("mail: a@example.test\nmail: t@other.test\ntargetAddress: SMTP:t@other.test", ("a@example.test",)),
        ("proxyAddresses: X500:/o=Org/cn=a\nmailNickname: x", ()),
    ],
    ids=["mail", "primary", "mail-first", "once", "no-type", "completed", "quoted", "remote", "no-smtp-address"],
)
def test_addresses_come_with_the_primary_one_first(values, addresses):
    (row,) = rows(f"dn: cn=x\ncn: x\n{values}\n", domain="example.org")
    assert row.addresses == ListEdit(True, add=addresses)


def test_mailbox_whose_addresses_were_taken_away_stays_one():
    """The inbound restriction of 1999: Active Directory leaves the mailNickname."""
    assert rows("dn: cn=x\ncn: x\nmailNickname: x\n") == [MailboxRow("x")]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ("objectClass: top\nobjectClass: organizationalUnit", "organizationalUnit"),
        ("objectClass: top\nobjectClass: group", "group"),
        ("member: cn=y", "group"),
        ("member;range=0-*: cn=y", "group"),
        ("cn: x", "entry"),
        ("objectClass: <script>", "entry"),
        ("description: x", "entry"),
    ],
)
def test_entry_that_is_no_mailbox_is_skipped_and_counted(values, kind):
    (record,) = records(f"dn: cn=x\n{values}\n")
    assert (record.rows, record.problems, record.skipped) == ((), (), (kind,))


@pytest.mark.parametrize(
    ("values", "receive", "accepted"),
    [
        ("", KEEP, KEEP),
        ("msExchRequireAuthToSendTo: TRUE", Receive.INSIDERS, KEEP),
        ("msExchRequireAuthToSendTo: false", Receive.INHERIT, KEEP),
        ("authOrig: uid=bob,ou=people", Receive.NOBODY, holds_parties("bob")),
        ("authOrig: UID=Bob, OU=People\ndLMemSubmitPerms: uid=bob,ou=people", Receive.NOBODY, holds_parties("bob")),
        ("authOrig: uid=bob,ou=people\nmsExchRequireAuthToSendTo: FALSE", Receive.NOBODY, holds_parties("bob")),
        ("authOrig: uid=bob,ou=people\nmsExchRequireAuthToSendTo: TRUE", Receive.NOBODY, holds_parties("bob")),
        ("authOrig: cn=outer", Receive.NOBODY, holds_parties("group:outer")),
        ("authOrig: cn=nobody", Receive.NOBODY, holds_parties("group:nobody")),
        ("authOrig: cn=service", Receive.NOBODY, holds()),
    ],
)
def test_restriction_says_who_may_send(values, receive, accepted):
    group = "dn: cn=outer\nobjectClass: groupOfNames\nmember: cn=inner\nmember:\n"
    group += "\ndn: cn=inner\nmember: uid=bob,ou=people\nmember: cn=outer\n"
    group += "\ndn: cn=nobody\nobjectClass: group\n\ndn: cn=service\ncn: service\n"
    row = rows(f"{ALICE}{values}\n\n{BOB}\n{group}".replace("\n\n\n", "\n\n"))[0]
    assert (row.receive, row.accepted) == (receive, accepted)


def test_rejected_senders_are_those_of_both_attributes():
    row = rows(f"{ALICE}unauthOrig: uid=bob,ou=people\ndLMemRejectPerms: uid=alice,ou=people\n\n{BOB}")[0]
    assert (row.receive, row.rejected) == (KEEP, holds_parties("bob", "alice"))


def test_appending_keeps_what_is_there():
    row = rows(f"{ALICE}authOrig: uid=alice,ou=people\n", is_append=True)[0]
    assert (row.addresses, row.accepted) == (ListEdit(add=("alice@example.test",)), ListEdit(add=parties("alice")))


@pytest.mark.parametrize("attribute", ["authOrig", "dLMemSubmitPerms", "unauthOrig", "dLMemRejectPerms"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("uid=eve,ou=people", "'uid=eve,ou=people' is neither a mailbox nor a group in this file"),
        ("cn=group", "a member of 'cn=group' is neither a mailbox nor a group in this file"),
        ("cn=broken group", "'cn=broken group' is neither a mailbox nor a group in this file"),
        ("cn=nameless", "'cn=nameless' is neither a mailbox nor a group in this file"),
        ("bob", "'bob' is not a distinguished name; one looks like cn=Alice,ou=people"),
    ],
    ids=["unknown", "unknown-member", "broken-group", "no-name", "no-dn"],
)
def test_sender_who_is_not_in_the_file_is_a_problem(attribute, name, message):
    others = "dn: cn=group\nmember: cn=nobody at all\n\ndn: cn=broken group\nmember: bob\n"
    others += "\ndn: cn=nameless\nmail: n@example.test\n\ndn: broken\n"
    found = records(f"{ALICE}{attribute}: {name}\n\n{others}")[0]
    assert (found.rows, found.problems) == ((), (Problem(message, attribute),))


# Changes


def changed(change: str) -> MailboxRow:
    found = rows(f"dn: cn=Alice,ou=people\nchangetype: modify\n{change}\n\n{BOB}")[0]
    assert (found.name, found.mode) == ("Alice", RowMode.MODIFY)
    return found


@pytest.mark.parametrize(
    ("change", "addresses"),
    [
        ("add: mail\nmail: a@x.test\nmail: b@x.test\n-", ListEdit(add=("a@x.test", "b@x.test"))),
        ("delete: mail\nmail: a@x.test\n-", ListEdit(remove=("a@x.test",))),
        ("delete: mail\n-", ListEdit(clear=True)),
        ("replace: mail\n-", ListEdit(clear=True)),
        ("replace: mail\nmail: a@x.test", ListEdit(True, add=("a@x.test",))),
        (
            "delete: mail\nmail: a@x.test\n-\nadd: mail\nmail: b@x.test\n-",
            ListEdit(False, ("a@x.test",), ("b@x.test",)),
        ),
        ("add: mail\nmail: a@x.test\n-\ndelete: mail\nmail: A@x.test\n-", ListEdit(remove=("a@x.test",))),
        ("delete: mail\nmail: a@x.test\n-\nreplace: mail\nmail: b@x.test\n-", holds("b@x.test")),
        (
            "replace: mail\nmail: a@x.test\n-\nreplace: proxyAddresses\nproxyAddresses: smtp:b@x.test\n-",
            holds("a@x.test", "b@x.test"),
        ),
        (
            "add: mail\nmail: a@x.test\n-\nreplace: PROXYADDRESSES\nproxyAddresses: SMTP:b@x.test\n-\n",
            holds("b@x.test", "a@x.test"),
        ),
        ("add:: bWFpbA==\nmail: a@x.test", ListEdit(add=("a@x.test",))),
        ("add: mail;x-tag\nmail;x-tag: a@x.test", ListEdit(add=("a@x.test",))),
        ("replace: description\ndescription: x\n-\nadd: mail\nmail: a@x.test", ListEdit(add=("a@x.test",))),
    ],
)
def test_modify_changes_the_addresses(change, addresses):
    assert changed(change) == MailboxRow("Alice", RowMode.MODIFY, addresses=addresses)


@pytest.mark.parametrize(
    ("change", "receive", "accepted"),
    [
        ("add: authOrig\nauthOrig: uid=bob,ou=people\n-", Receive.NOBODY, ListEdit(add=parties("bob"))),
        ("delete: authOrig\nauthOrig: uid=bob,ou=people\n-", KEEP, ListEdit(remove=parties("bob"))),
        ("replace: msExchRequireAuthToSendTo\nmsExchRequireAuthToSendTo: TRUE\n-", Receive.INSIDERS, KEEP),
        ("replace: msExchRequireAuthToSendTo\nmsExchRequireAuthToSendTo: FALSE\n-", Receive.INHERIT, KEEP),
        ("delete: msExchRequireAuthToSendTo\n-", Receive.INHERIT, KEEP),
        ("delete: msExchRequireAuthToSendTo\nmsExchRequireAuthToSendTo: TRUE\n-", Receive.INHERIT, KEEP),
        (
            "delete: authOrig\n-\nreplace: msExchRequireAuthToSendTo\nmsExchRequireAuthToSendTo: FALSE\n-",
            Receive.INHERIT,
            ListEdit(clear=True),
        ),
    ],
)
def test_modify_changes_who_may_send(change, receive, accepted):
    is_flag = receive is not KEEP and accepted is KEEP
    assert changed(change) == MailboxRow("Alice", RowMode.MODIFY, receive=receive, accepted=accepted, is_flag=is_flag)


def test_modify_changes_who_may_not_send():
    assert changed("add: unauthOrig\nunauthOrig: uid=bob,ou=people").rejected == ListEdit(add=parties("bob"))


@pytest.mark.parametrize(
    ("change", "addresses", "optional"),
    [
        pytest.param(
            "add: otherMailbox\notherMailbox: a@x.test\n-", ListEdit(add=("a@x.test",)), ("a@x.test",), id="added"
        ),
        pytest.param(
            "replace: otherMailbox\notherMailbox: a@x.test\n-",
            ListEdit(add=("a@x.test",)),
            ("a@x.test",),
            id="replaced",
        ),
        pytest.param(
            "delete: otherMailbox\notherMailbox: a@x.test\n-",
            ListEdit(remove=("a@x.test",)),
            ("a@x.test",),
            id="taken away",
        ),
        pytest.param("delete: otherMailbox\n-", KEEP, (), id="all of them taken away"),
        pytest.param(
            "add: otherMailbox\notherMailbox: a@x.test\n-\nadd: mail\nmail: a@x.test\n-",
            ListEdit(add=("a@x.test",)),
            (),
            id="one that is an address by another attribute",
        ),
    ],
)
def test_other_mailboxes_that_change_take_no_address_along(change, addresses, optional):
    """Which of the addresses here are from otherMailbox nobody knows: the mail of the others must go on to arrive."""
    assert changed(change) == MailboxRow("Alice", RowMode.MODIFY, addresses=addresses, optional=optional)


def test_private_address_is_no_part_of_the_company():
    """`otherMailbox` holds what people have elsewhere: it brings no domain in, and counts in managed ones only."""
    assert rows(f"{ALICE}otherMailbox: alice@mail.test\notherMailbox: Alice@example.test\n") == [
        MailboxRow("alice", addresses=holds("alice@example.test", "alice@mail.test"), optional=("alice@mail.test",))
    ]


CONTACT = "dn: cn=partner\nobjectClass: contact\ntargetAddress: SMTP:p@else.test\n"
GROUPS = "cn=staff,ou=people"


@pytest.mark.parametrize(
    ("change", "members"),
    [
        pytest.param("add: member\nmember: uid=bob,ou=people\n-", ListEdit(add=parties("bob")), id="somebody joins"),
        pytest.param(
            "delete: member\nmember: cn=Carol Miller,ou=elsewhere\n-",
            ListEdit(remove=parties("Carol Miller")),
            id="somebody leaves who is not in the file",
        ),
        pytest.param(
            "add: member\nmember: cn=field,ou=groups,ou=policyd\n-",
            ListEdit(add=parties("group:field")),
            id="a group of ours that is not in the file",
        ),
        pytest.param("replace: uniqueMember\nuniqueMember: \n-", ListEdit(clear=True), id="everybody leaves"),
        pytest.param("replace: member\n-", ListEdit(clear=True), id="everybody leaves, said without a value"),
    ],
)
def test_modify_of_members_changes_the_group_of_that_name(change, members):
    """The nightly difference of a directory keeps the groups here in step."""
    found = records(f"dn: {GROUPS}\nchangetype: modify\n{change}\n\n{BOB}")[0]
    assert found.rows == (GroupRow("staff", RowMode.MODIFY, members=members),)
    assert found.skipped == ()


def test_member_that_can_be_in_no_group_is_counted():
    """A contact, and an entry without any address, that join or leave: there is nobody here whom it would be about."""
    gone = "dn: cn=printer\nobjectClass: device\n"
    members = "member: cn=partner\nmember: cn=printer\nmember: uid=bob,ou=people"
    found = records(f"dn: {GROUPS}\nchangetype: modify\nadd: member\n{members}\n-\n\n{BOB}\n{CONTACT}\n{gone}")[0]
    assert found.rows == (GroupRow("staff", RowMode.MODIFY, members=ListEdit(add=parties("bob"))),)
    assert found.skipped == ("contact", "contact")


def test_group_that_joins_is_the_one_that_the_file_has():
    """Under the name that it has here."""
    inner = "dn: cn=inner,ou=people\nmailNickname: Inner Circle\nmember: uid=bob,ou=people\n"
    found = records(f"dn: {GROUPS}\nchangetype: modify\nadd: member\nmember: cn=inner,ou=people\n-\n\n{BOB}\n{inner}")
    assert found[0].rows == (GroupRow("staff", RowMode.MODIFY, members=ListEdit(add=parties("group:Inner Circle"))),)
    assert found[2].rows[0] == GroupRow("Inner Circle", members=holds_parties("bob"))


def test_modify_of_members_and_more_is_about_the_group_and_its_mailbox():
    """A list has both: its members, and its own address."""
    change = "add: member\nmember: uid=bob,ou=people\n-\nadd: mail\nmail: staff@x.test\n-"
    found = records(f"dn: {GROUPS}\nchangetype: modify\n{change}\n\n{BOB}")[0]
    assert found.rows == (
        GroupRow("staff", RowMode.MODIFY, members=ListEdit(add=parties("bob"))),
        MailboxRow("staff", RowMode.MODIFY, addresses=ListEdit(add=("staff@x.test",))),
    )


@pytest.mark.parametrize(
    ("dn", "member", "problem", "wrong"),
    [
        pytest.param(
            GROUPS,
            "bob",
            Problem("'bob' is not a distinguished name; one looks like cn=Alice,ou=people", "member"),
            ("staff",),
            id="no name of an entry",
        ),
        pytest.param(
            *(GROUPS, "ou=people"),
            Problem("the record has only the entry's dn, and that begins with neither cn= nor uid=", "member"),
            ("staff",),
            id="a name that names nobody",
        ),
        pytest.param(
            *("mail=staff@x.test", "uid=bob,ou=people"),
            Problem("the record has only the entry's dn, and that begins with neither cn= nor uid="),
            (),
            id="a group without a name",
        ),
    ],
)
def test_change_of_members_that_can_not_be_read_makes_its_group_wrong(dn, member, problem, wrong):
    """A block of half a group has a hole: what names that group in the file falls with it."""
    found = records(f"dn: {dn}\nchangetype: modify\nadd: member\nmember: {member}\n-\n\n{BOB}")[0]
    assert (found.rows, found.problems, found.wrong_groups) == ((), (problem,), wrong)


def test_change_records_are_named_by_the_dn():
    assert rows("dn: CN=Alice\\, A,OU=x\ncontrol: 1.2.3 true\nchangetype: delete\n") == [
        MailboxRow("Alice, A", RowMode.DELETE)
    ]


def test_person_in_a_change_record_is_known_to_the_others():
    row = rows(f"{ALICE}authOrig: uid=carol\n\ndn: uid=carol\nchangetype: modify\nadd: mail\nmail: c@x.test\n")[0]
    assert row.accepted == holds_parties("carol")


def test_change_record_whose_dn_names_no_mailbox_is_nobody_to_the_others():
    text = f"{ALICE}authOrig: mail=x\n\ndn: mail=x\nchangetype: modify\nreplace: description\n-\n"
    assert records(text)[0].problems == (Problem("'mail=x' is neither a mailbox nor a group in this file", "authOrig"),)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("dn: ou=people\nchangetype: delete", "ou"),
        ("dn: cn=x\nchangetype: modify\nreplace: description\ndescription: y\n-", "modify"),
        ("dn: cn=x\nchangetype: modify\nincrement: uidNumber\nuidNumber: 1\n-", "modify"),
    ],
)
def test_change_of_something_else_is_skipped(text, kind):
    (record,) = records(text)
    assert (record.rows, record.problems, record.skipped) == ((), (), (kind,))


# What is broken


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dn: cn=x\nmail a@x.test", Problem("line 2: 'mail a@x.test' has no attribute and colon before its value")),
        ("dn: cn=x\nmail:: YWJ%", Problem("line 2: mail is not whole base64", "mail")),
        ("dn: cn=x\nmail:: YWJ", Problem("line 2: mail is not whole base64", "mail")),
        (
            "dn: cn=x\njpegPhoto:< file:///etc/passwd",
            Problem(
                "line 2: jpegPhoto is to be read from a URL, which is never opened; put the value into the file",
                "jpegPhoto",
            ),
        ),
        (
            "dn: cn=x\nmember;range=0-1499: cn=y",
            Problem("line 2: member;range=0-1499 is only a part of the values; export all of them", "member"),
        ),
        ("dn: cn=x\ncn: x\nmail:: /w==", Problem("line 3: mail is not UTF-8", "mail")),
        ("cn: x\nmail: a@x.test", Problem("line 1: the record does not begin with dn:")),
        ("dn: x", Problem("'x' is not a distinguished name; one looks like cn=Alice,ou=people")),
        (
            f"dn: cn=x\ncn: x\n{ALICE}",
            Problem("line 3: a second dn: in one record; an empty line is missing before it"),
        ),
        ("dn: cn=x\ncn: x\n-", Problem("line 3: a - in an entry")),
        ("dn: cn=x\nmail: a@x.test", Problem("the entry has neither mailNickname nor uid nor cn to name the mailbox")),
        (
            "dn: cn=x\ncn: x\nmail: a",
            Problem("'a' is not an address; an address looks like alice@example.com", "mail"),
        ),
        (
            "dn: cn=x\ncn: x\nproxyAddresses: SMTP:a",
            Problem("'a' is not an address; an address looks like alice@example.com", "proxyAddresses"),
        ),
        (
            "dn: cn=x\ncn: x\nmail: a@x.test\nmsExchRequireAuthToSendTo: 1",
            Problem("'1' is neither TRUE nor FALSE", "msExchRequireAuthToSendTo"),
        ),
        (
            "dn: cn=x\nchangetype: modrdn\nnewrdn: cn=y\ndeleteoldrdn: 1",
            Problem("changetype: 'modrdn' can't be imported; to rename a mailbox: policyd mailbox rename"),
        ),
        (
            "dn: mail=a@x.test\nchangetype: delete",
            Problem("the record has only the entry's dn, and that begins with neither cn= nor uid="),
        ),
        (
            "dn: cn=x\nchangetype: modify\nmail: a@x.test",
            Problem("line 3: a part of a modify begins with add:, delete: or replace:"),
        ),
        (
            "dn: cn=x\nchangetype: modify\nadd: mail\ncn: a@x.test",
            Problem("line 4: cn in a part of a modify about mail"),
        ),
        ("dn: cn=x\nchangetype: modify\nadd: mail\n-", Problem("line 3: add: mail has no value to add")),
        (
            "dn: cn=x\nchangetype: modify\nreplace: mailNickname\nmailNickname: y",
            Problem("a name can't be changed by an import; use: policyd mailbox rename", "mailNickname"),
        ),
        (
            "dn: cn=x\nchangetype: modify\ndelete: authOrig\n-",
            Problem(
                "the last restriction to some senders goes: say with msExchRequireAuthToSendTo who may send now",
                "authOrig",
            ),
        ),
    ],
)
def test_broken_record_spoils_no_other(text, problem):
    found = records(f"{text}\n\n{BOB}")
    assert (found[0].rows, found[0].problems) == ((), (problem,))
    assert found[1].rows == (MailboxRow("bob", addresses=holds("bob@example.test")),)


def test_bytes_that_are_not_utf_8_are_a_problem_of_their_record():
    found = records(b"dn: cn=x\ncn: M\xfcller\nmail: a@x.test\n\n" + "dn: cn=y\ncn: Jürgen\nmail: b@x.test\n".encode())
    assert found[0].problems == (Problem("line 2: cn is not UTF-8", "cn"),)
    assert [row.name for row in found[1].rows if isinstance(row, MailboxRow)] == ["Jürgen"]


def test_control_characters_are_a_problem():
    assert [one.message for one in problems("dn: cn=x\ncn: a\0b\nmail: a@x.test\n")] == [
        "the mailbox name 'a\\x00b' holds a control character; type it without"
    ]


def test_folded_line_that_continues_nothing_is_a_problem():
    assert problems(f"{ALICE}\n lost\n\n{BOB}") == [Problem("line 5 continues no line")]


def test_problems_of_one_record_are_bounded():
    assert len(problems("dn: cn=x\n" + "junk\n" * 1000)) == 20


@pytest.mark.parametrize(
    "text", ["Obj-Class,Mode\n", "{}", "\0\0", " folded", '{"dn": 1', "x" * 50_000_000, b"\xff\xfe"]
)
def test_what_is_not_ldif_is_one_clear_line(text):
    if text == b"\xff\xfe":
        assert read(text) == []  # an empty file in UTF-16
        return
    with pytest.raises(
        TransferError, match=r"^line 1 is not LDIF; an LDIF file begins with version: or dn:$"
    ) as caught:
        read(text)
    assert caught.value.exit_status == 65


@pytest.mark.parametrize("attribute", ["mail", "jpegPhoto"])
def test_endless_line_is_a_problem_only_where_it_matters(attribute):
    text = f"dn: cn=x\ncn: x\nuid: x\nmail: a@x.test\n{attribute}: {'x' * 5_000_000}\n more\nsn: x\n\n{BOB}"
    found = records(text)
    message = (Problem("line 5 is too long"),) if attribute == "mail" else ()
    assert [record.problems for record in found] == [message, ()]
    assert found[0].source == ""


def test_record_that_is_too_long_is_a_problem(monkeypatch):
    monkeypatch.setattr(entries, "_RECORD_LIMIT", 1000)
    text = "dn: cn=x\n" + "mail: a@x.test\n" * 1000
    found = records(f"{text}\n{BOB}")
    assert found[0].problems[0] == Problem("line 13 makes the record too long")
    assert len(found[0].problems) == 20
    assert found[1].problems == ()


def test_too_many_senders_to_remember_are_one_clear_line(monkeypatch):
    monkeypatch.setattr(people, "_PEOPLE_LIMIT", 2)
    with pytest.raises(TransferError, match=r"^the restrictions name more than 2 senders; import the file in parts$"):
        read(ALICE + "authOrig: cn=a\nauthOrig: cn=b\nauthOrig: cn=c\n")


def test_groups_nested_too_deep_end():
    groups = "".join(f"dn: cn={level}\nmember: cn={level + 1}\n\n" for level in range(100))
    assert problems(f"{ALICE}authOrig: cn=0\n\n{groups}") == [
        Problem("a member of 'cn=0' is neither a mailbox nor a group in this file", "authOrig"),
        Problem("a member of '15' is neither a mailbox nor a group in this file"),
    ]


def test_only_lists_that_something_refers_to_become_groups():
    """A directory has thousands of lists; a group that nothing here asks for is one more thing to keep in step."""
    lists = "dn: cn=wanted\nmember: cn=inner\n\ndn: cn=inner\nmember: uid=bob,ou=people\n\ndn: cn=other\nmember: cn=x\n"
    found = records(f"{ALICE}dLMemRejectPerms: CN=Wanted\n\n{BOB}\n{lists}")
    assert [record.rows for record in found[2:]] == [
        (GroupRow("wanted", members=holds_parties("group:inner")),),
        (GroupRow("inner", members=holds_parties("bob")),),
        (),
    ]
    assert [record.skipped for record in found[2:]] == [(), (), ("group",)]


def test_somebody_elsewhere_in_a_list_is_named_beside_it():
    """A contact can be in no group here; left out of a block, it would be let through."""
    contact = "dn: cn=partner\nobjectClass: contact\ntargetAddress: SMTP:p@else.test\n"
    lists = "dn: cn=outer\nmember: cn=inner\n\ndn: cn=inner\nmember: uid=bob,ou=people\nmember: cn=partner\n"
    found = records(f"{ALICE}dLMemRejectPerms: cn=outer\n\n{BOB}\n{contact}\n{lists}")
    (row,) = found[0].rows
    assert isinstance(row, MailboxRow)
    assert row.rejected == holds_parties("group:outer", "p@else.test")
    assert found[-1].rows == (GroupRow("inner", members=holds_parties("bob")),)
    assert found[-1].skipped == ("contact",)


def test_who_must_sign_in_and_be_listed_is_no_address_elsewhere():
    """A contact can't sign in: its address in MAIL FROM, which anybody can write, opens nothing."""
    contact = "dn: cn=partner\nobjectClass: contact\ntargetAddress: SMTP:p@else.test\n"
    values = "authOrig: uid=bob,ou=people\nauthOrig: cn=partner\nmsExchRequireAuthToSendTo: TRUE"
    record = records(f"{ALICE}{values}\n\n{BOB}\n{contact}")[0]
    (row,) = record.rows
    assert isinstance(row, MailboxRow)
    assert (row.receive, row.accepted, record.skipped) == (Receive.NOBODY, holds_parties("bob"), ("contact",))


def test_two_lists_of_one_name_are_not_one_group():
    """Members of the one would be let through as those of the other."""
    lists = "dn: cn=staff,ou=berlin\nmember: uid=bob,ou=people\n\ndn: cn=staff,ou=wien\nmember: uid=alice,ou=people\n"
    found = records(f"{ALICE}authOrig: cn=staff,ou=berlin\nauthOrig: cn=staff,ou=wien\n\n{BOB}\n{lists}")
    assert found[0].problems == (
        Problem("'cn=staff,ou=wien' is neither a mailbox nor a group in this file", "authOrig"),
    )


def test_name_made_to_take_for_ever_takes_no_time():
    """A name with many + signs takes the library's own check hours."""
    names = "a=b" + "+a=b" * 100_000 + ",\n"
    assert len(problems(f"dn: {names}")) == 1
    assert len(problems("dn: a=" + " " * 500_000 + '"\n')) == 1


# Names


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("CN=A, OU = b ;dc=c", (("cn", "A"), ("ou", "b"), ("dc", "c"))),
        (r"cn=a\, b\2C\C3\A4\\,ou=x", (("cn", "a, b,ä\\"), ("ou", "x"))),
        ('cn="a, \\"b\\"" ,ou=x', (("cn", 'a, "b"'), ("ou", "x"))),
        ("cn=a+uid=b,ou=x", (("cn", "a"), ("+uid", "b"), ("ou", "x"))),
        ("2.5.4.3=a", (("2.5.4.3", "a"),)),
        (r"cn=a\  ,ou=x", (("cn", "a "), ("ou", "x"))),
        (r"cn=a\\ ,ou=x", (("cn", "a\\"), ("ou", "x"))),
    ],
)
def test_name_is_taken_apart(text, parts):
    assert parse_name(text) == parts


@pytest.mark.parametrize("text", ["a", "=a", "cn=a,", "cn=a\\", 'cn="a', 'cn=a"b', r"cn=\FF", "cn=a,,b=c"])
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ValueError, match=r"distinguished name|utf-8"):
        parse_name(text)


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))).map(str.strip), st.text(ascii_lowercase, min_size=1))
def test_escaped_value_is_read_back(value, kind):
    name = parse_name(f"{kind}={escape_value(value)},ou=x")
    assert name == ((kind, value), ("ou", "x"))
    assert name_key(name) == name_key(((kind, fold(value)), ("ou", "X")))


# Anything at all

PIECES = st.sampled_from(
    [
        *(
            "dn: ",
            "cn=x",
            ",",
            "+",
            "=",
            "\\",
            '"',
            "mail: ",
            "mail:: ",
            "a@x.test",
            "proxyAddresses: SMTP:",
            "authOrig: ",
        ),
        *("uid: ", "\n", "\n", "\n\n", "\r\n", " ", "#", "-\n", "changetype: modify\n", "changetype: delete\n"),
        *(
            "add: mail\n",
            "delete: authOrig\n",
            "replace: ",
            "member: ",
            ":",
            ":<",
            ";lang-de",
            "YWE=",
            "\0",
            "ä",
            "\ufeff",
        ),
        *("version: 1\n", "result: 4", "dn: cn=y\ncn: y\nmail: y@x.test\n\n", "dn: cn=x\n", "targetAddress: SMTP:"),
    ]
)


@given(st.one_of(st.binary(), st.lists(PIECES).map(lambda pieces: "dn: cn=x\n" + "".join(pieces))))
def test_no_file_makes_the_reader_fail_otherwise_than_it_says(text):
    try:
        found = read(text, domain="example.test")
    except TransferError:
        return
    assert all(not one.rows for one in found if isinstance(one, Record) and one.problems)


# Writing


def test_written_entries_are_those_of_inetorgperson():
    lost: Counter[str] = Counter()
    mailbox = Mailbox("Müller, B.", Receive.NOBODY, accepted=party_set("x@y.test"))
    blocked = BlockedSender(party("Müller, B."), to=party("Müller, B."))
    text = "".join(ldif.write(FixedTables((DOMAIN,), ((mailbox, ("b b@example.test",)),), (blocked,)), lost))
    assert lost == {"domain": 1}
    assert text == (
        "version: 1\n\n"
        "dn: ou=policyd\nobjectClass: organizationalUnit\nou: policyd\n\n"
        "dn: cn=accepted by nobody,ou=policyd\nobjectClass: groupOfNames\ncn: accepted by nobody\nmember: \n\n"
        "dn:: dWlkPU3DvGxsZXJcLCBCLixvdT1wb2xpY3lk\nobjectClass: inetOrgPerson\n"
        "uid:: TcO8bGxlciwgQi4=\ncn:: TcO8bGxlciwgQi4=\nsn:: TcO8bGxlciwgQi4=\n"
        'mail: "b b"@example.test\n'
        "authOrig:: Y249eEB5LnRlc3QsdWlkPU3DvGxsZXJcLCBCLixvdT1wb2xpY3lk\n"
        "unauthOrig:: dWlkPU3DvGxsZXJcLCBCLixvdT1wb2xpY3lk\n\n"
        "dn:: Y249eEB5LnRlc3QsdWlkPU3DvGxsZXJcLCBCLixvdT1wb2xpY3lk\nobjectClass: contact\ncn: x@y.test\n"
        "targetAddress: SMTP:x@y.test\n\n"
    )


def test_what_a_directory_cannot_say_is_counted():
    lost: Counter[str] = Counter()
    held = (
        (Mailbox("a", Receive.NOBODY, "gone", 1, "x", party_set("@x.test", "b@x.test")), ("a@example.test",)),
        (Mailbox("b", accepted=party_set("b@x.test")), ("b@example.test",)),
    )
    blocked = (
        BlockedSender(party("a")),
        BlockedSender(party("@x.test"), to=party("a")),
        BlockedSender(party("b"), party("a"), "r", 1, "c", party_set("@y.test"), created_at=1, created_by="root"),
    )
    domain = Domain("example.test", Unlisted.ACCEPT)
    "".join(ldif.write(FixedTables((domain,), held, blocked), lost))
    assert lost == {
        "domain": 1, "unlisted": 1, "reason": 2, "until": 2, "comment": 2,
        "accepted-sender": 2, "blocked-sender": 2, "except": 1, "created": 1,
    }  # fmt: skip


def test_what_a_directory_cannot_say_of_groups_and_of_everybody_is_counted():
    """A group that nothing refers to has no entry, `anyone` can't be an attribute's value, nor can an open mailbox."""
    groups = ((Group("named", Receive.NOBODY, accepted=party_set("b")), (party("b"),)), (Group("unnamed"), ()))
    held = (
        (Mailbox("a", Receive.NOBODY, accepted=party_set("group:named")), ("a@example.test",)),
        (Mailbox("b", Receive.ANYONE), ("b@example.test",)),
    )
    blocked = (BlockedSender(party("anyone"), party("a")), BlockedSender(party("outside"), party("a")))
    lost: Counter[str] = Counter()
    "".join(ldif.write(FixedTables((DOMAIN,), held, blocked, groups), lost))
    assert +lost == {
        "group": 1, "restriction": 1, "accepted-sender": 1, "anyone": 1, "blocked-sender": 2, "domain": 1,
    }  # fmt: skip


def test_record_that_does_not_begin_with_its_name_is_read():
    """Some tools put a comment attribute first; what isn't needed is left out, wherever it stands."""
    assert [row.name for row in rows("description: x\n" + ALICE)] == ["alice"]


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp", "Cn")), min_size=1, max_size=12)
LOCALS = st.text('abcä ."\\@:,;<#+=', min_size=1, max_size=8)
ADDRESSES = st.tuples(LOCALS, st.sampled_from(["x.test", "example.test", "[192.0.2.1]"])).map("@".join)


@st.composite
def tables(draw) -> FixedTables:
    """Tables with nothing in them that LDIF can't say."""
    names = draw(st.lists(NAMES.filter(_can_be_a_name), max_size=4, unique_by=fold))
    held, blocked = [], []
    for name in names:
        receive = draw(st.sampled_from([Receive.INHERIT, Receive.INSIDERS, Receive.NOBODY]))
        senders = draw(st.frozensets(ADDRESSES, max_size=3)) if receive is Receive.NOBODY else frozenset()
        accepted = frozenset(Party(PartyKind.PATTERN, sender) for sender in senders)
        held.append(
            (Mailbox(name, receive, accepted=accepted), tuple(draw(st.lists(ADDRESSES, max_size=3, unique=True))))
        )
        for sender in draw(st.lists(st.one_of(st.sampled_from(names), ADDRESSES), max_size=3, unique=True)):
            kind = PartyKind.PATTERN if "@" in sender else PartyKind.MAILBOX
            blocked.append(BlockedSender(Party(kind, sender), Party(PartyKind.MAILBOX, name)))
    return FixedTables((DOMAIN,), tuple(held), tuple(blocked))


def _can_be_a_name(text: str) -> bool:
    try:
        return normal_name(text) == text
    except AddressError:
        return False


@given(tables())
def test_what_is_written_is_read_back(written):
    lost: Counter[str] = Counter()
    found = {row.name: row for row in rows("".join(ldif.write(written, lost)))}
    assert lost == {"domain": 1}
    assert list(found) == [mailbox.name for mailbox, _ in written.held_mailboxes]
    for mailbox, addresses in written.held_mailboxes:
        row = found[mailbox.name]
        rejected = {entry.who for entry in written.held_entries if entry.to.text == mailbox.name}
        assert row.addresses == (holds(*addresses) if addresses else KEEP)
        assert row.receive == (KEEP if mailbox.receive is Receive.INHERIT else mailbox.receive)
        assert set(_added(row.accepted)) == mailbox.accepted
        assert set(_added(row.rejected)) == rejected


def _added(edit) -> tuple[str, ...]:
    return edit.add if isinstance(edit, ListEdit) else ()

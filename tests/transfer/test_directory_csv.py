"""csv of a directory: what csvde and PowerShell write of mailboxes and lists, and of who may write to them."""

import io

import pytest

from policyd.errors import TransferError
from policyd.model import Receive
from policyd.records import GroupRow, ListEdit, MailboxRow, Notice
from policyd.transfer import csv_table
from policyd.transfer.detect import detect_format
from tests.support.parties import parties
from tests.support.transfer_reading import problem_of, read_all, rows_of

CSVDE = "DN,objectClass,mailNickname,proxyAddresses,member,authOrig,dLMemRejectPerms,targetAddress"
CARLA = '"CN=Carla,OU=Staff,DC=example,DC=com",user,carla,SMTP:carla@example.com,,,,'
DIRK = '"CN=Dirk\\, Dr.,OU=Staff,DC=example,DC=com",user,dirk,SMTP:dirk@example.com,,,,'


def mailbox(name, *addresses, is_whole=True, **said):
    """The row of a mailbox."""
    return MailboxRow(name, addresses=ListEdit(is_whole, (), addresses), **said)


def listed(*texts):
    """A whole list of parties."""
    return ListEdit(True, (), parties(*texts))


def test_csvde_has_who_may_write_to_a_list():
    """By distinguished names, as they are anywhere in the file."""
    board = '"CN=Board,DC=example,DC=com",group,board,SMTP:board@example.com,,{},,'
    names = '"CN=Carla,OU=Staff,DC=example,DC=com;CN=Dirk\\\\, Dr.,OU=Staff,DC=example,DC=com"'
    assert rows_of(csv_table, "\n".join([CSVDE, board.format(names), CARLA, DIRK])) == [
        mailbox("board", "board@example.com", receive=Receive.NOBODY, accepted=listed("carla", "dirk")),
        mailbox("carla", "carla@example.com"),
        mailbox("dirk", "dirk@example.com"),
    ]


def test_csvde_has_groups_that_are_named_and_their_members():
    """And contacts by their addresses elsewhere."""
    group = '"CN=Staff,DC=example,DC=com",group,staff,,"CN=Carla,OU=Staff,DC=example,DC=com",,,'
    boss = '"CN=Boss,DC=example,DC=com",user,boss,SMTP:boss@example.com,,"CN=Ext,DC=x",{},'
    contact = '"CN=Ext,DC=x",contact,ext,SMTP:ext@elsewhere.example,,,,SMTP:ext@elsewhere.example'
    found = read_all(csv_table, "\n".join([CSVDE, group, CARLA, boss.format('"CN=Staff,DC=example,DC=com"'), contact]))
    assert [row for record in found for row in record.rows] == [
        GroupRow("staff", members=listed("carla")),
        MailboxRow("staff"),
        mailbox("carla", "carla@example.com"),
        mailbox(
            *("boss", "boss@example.com"),
            receive=Receive.NOBODY,
            accepted=listed("ext@elsewhere.example"),
            rejected=listed("group:staff"),
        ),
    ]
    assert found[-1].skipped == ("contact",)


@pytest.mark.parametrize(
    "who",
    [
        "example.com/Staff/Carla Clark",
        "Carla Clark",
        "carla",
        "carla@example.com",
        "{example.com/Staff/Carla Clark}",
        "CN=Carla Clark,OU=Staff,DC=example,DC=com",
    ],
)
def test_powershell_has_who_may_write_by_any_of_their_names(who):
    """Each version of Exchange shows somebody else."""
    text = (
        "Name,Alias,PrimarySmtpAddress,EmailAddresses,AcceptMessagesOnlyFromSendersOrMembers\n"
        f'Board,board,board@example.com,SMTP:board@example.com,"{who}"\n'
        "Carla Clark,carla,carla@example.com,SMTP:carla@example.com,\n"
    )
    assert rows_of(csv_table, text)[0] == mailbox(
        "board", "board@example.com", receive=Receive.NOBODY, accepted=listed("carla")
    )


def test_powershell_separates_several_as_it_likes():
    """Places of a directory have blanks inside; a semicolon, a comma or a blank is between them."""
    for between in (";", ", ", " "):
        who = between.join(["example.com/Staff/Carla Clark", "example.com/Staff/Dirk"])
        text = (
            "Name,Alias,EmailAddresses,RejectMessagesFrom\n"
            f'Board,board,SMTP:board@example.com,"{who}"\n'
            "Carla Clark,carla,SMTP:carla@example.com,\nDirk,dirk,SMTP:dirk@example.com,\n"
        )
        assert rows_of(csv_table, text)[0].rejected == listed("carla", "dirk"), between


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("System.String[]", "the name of a type"),
        ("Microsoft.Exchange.Data.ProxyAddressCollection", "the name of a type"),
        ("Microsoft.ActiveDirectory.Management.ADPropertyValueCollection", "the name of a type"),
        ("{SMTP:a@example.com, smtp:b@example.com...}", "is cut short"),
        ("{SMTP:a@example.com, smtp:b@example.com…}", "is cut short"),
    ],
)
@pytest.mark.parametrize("column", ["EmailAddresses", "AcceptMessagesOnlyFrom", "addresses"])
def test_what_powershell_did_not_write_out_is_a_wrong_row(cell, column, message):
    """Half of somebody's addresses, or none, would lose mail; the message says how to export them."""
    header = f"name,{column}" if column == "addresses" else f"Name,mail,{column}"
    row = f'a,"{cell}"' if column == "addresses" else f'a,a@example.com,"{cell}"'
    found = problem_of(csv_table, f"{header}\n{row}\n")
    assert found[0] == column
    assert message in found[1]
    assert "-join ';'" in found[1]


@pytest.mark.parametrize("who", ["Nobody Known", "example.com/Staff/Nobody", '"CN=Nobody,DC=example,DC=com"'])
def test_restriction_to_somebody_who_is_not_in_the_file_is_a_wrong_row(who):
    """To leave the restriction out would open what was closed."""
    text = f"Name,Alias,EmailAddresses,AcceptMessagesOnlyFrom\nBoard,board,SMTP:b@example.com,{who}\n"
    assert "neither a mailbox nor a group in this file" in problem_of(csv_table, text)[1]


def test_name_of_two_is_nobodys():
    """Nobody knows which of them may write."""
    text = (
        "Name,Alias,EmailAddresses,AcceptMessagesOnlyFrom\nBoard,board,SMTP:b@example.com,Carla\n"
        "Carla,c1,SMTP:c1@example.com,\nCarla,c2,SMTP:c2@example.com,\n"
    )
    assert read_all(csv_table, text)[0].problems


def test_group_whose_members_are_not_in_the_file_is_nobody_to_name():
    """An empty group would block nobody."""
    text = (
        "Name,RecipientType,EmailAddresses,RejectMessagesFromDLMembers\nBoard,UserMailbox,SMTP:b@example.com,Staff\n"
        "Staff,MailUniversalDistributionGroup,SMTP:staff@example.com,\n"
    )
    assert read_all(csv_table, text)[0].problems


def test_primary_addresses_alone_join_those_there_are():
    """A file with the column PrimarySmtpAddress only does not say that there are no others."""
    assert rows_of(csv_table, "Alias,PrimarySmtpAddress\ncarla,carla@example.com\n") == [
        mailbox("carla", "carla@example.com", is_whole=False)
    ]


def test_own_columns_of_a_restriction_may_stand_beside():
    """An administrator adds them to what Windows has exported."""
    text = "Alias,EmailAddresses,receive,reason\ncarla,SMTP:carla@example.com,Insiders,internal\n"
    assert rows_of(csv_table, text) == [
        mailbox("carla", "carla@example.com", receive=Receive.INSIDERS, reason="internal")
    ]


def test_mailbox_without_a_name_is_called_by_its_address():
    """As everywhere."""
    text = "PrimarySmtpAddress,EmailAddresses\ncarla@example.com,smtp:c.clark@example.com SMTP:carla@example.com\n"
    assert rows_of(csv_table, text) == [
        mailbox("carla", "carla@example.com", "c.clark@example.com", is_named_by_address=True)
    ]


@pytest.mark.parametrize("header", ["DN,proxyAddresses", "Name,EmailAddresses"])
def test_what_a_directory_has_besides_is_left_out_and_said(header):
    """Hundreds of attributes are nobody's business here."""
    others = "displayName,Department,objectGUID,msExchVersion,telephoneNumber,usnChanged,memberOf,#shoe size"
    found = read_all(csv_table, f"{header},{others}\n" + '"CN=a",SMTP:a@example.com\n')
    assert isinstance(found[0], Notice)
    assert found[0].message.startswith("8 columns are left out, of no use to policyd: displayName, Department")


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("EmailAdresses", "EmailAddresses"),
        ("RequireSenderAuthentification", "RequireSenderAuthenticationEnabled"),
        ("AcceptMesagesOnlyFrom", "AcceptMessagesOnlyFrom"),
        ("recieve", "receive"),
        ("authOrigin", "authOrig"),
    ],
)
def test_slip_in_a_column_is_an_error_that_names_the_nearest(column, meant):
    """The restriction that stands there must not be lost."""
    with pytest.raises(TransferError, match=f"unknown column '{column}' .did you mean {meant}.."):
        read_all(csv_table, f"Alias,PrimarySmtpAddress,{column}\ncarla,carla@example.com,x\n")


@pytest.mark.parametrize(
    "header",
    [
        "DN,objectClass,mailNickname,proxyAddresses",
        '"Name","PrimarySmtpAddress","EmailAddresses"',
        '#TYPE Selected.Mailbox\n"Alias";"EmailAddresses"',
        "Alias\tPrimarySmtpAddress",
        "sep=;\nName;Addresses",
        "Email Address [Required];First Name [Required]",
    ],
)
def test_format_is_known_by_the_header(header):
    """Nobody has to know what policyd calls it."""
    for codec in ("utf-8-sig", "utf-16"):
        assert detect_format(io.BytesIO(f"{header}\n".encode(codec))) == "csv"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("Alias,mail\na,a@example.com,x\n", "", "this row has 3 cells, the header 2"),
        ("DN,mail\nnowhere,a@example.com\n", "DN", "is not a distinguished name"),
        ("Alias,mail,receive\na,a@example.com,never\n", "receive", "is none of"),
        ('Alias,mail,AcceptMessagesOnlyFrom\na,a@example.com,"CN=a,b"\n', "AcceptMessagesOnlyFrom", "not a distingu"),
        ("Alias,mail,RequireSenderAuthenticationEnabled\na,a@example.com,1\n", None, "neither TRUE nor FALSE"),
        ("Alias,PrimarySmtpAddress\na,a@@x\n", "PrimarySmtpAddress", "needs quotes"),
    ],
)
def test_wrong_row_names_the_column_as_the_file_has_it(text, column, message):
    """Nobody who exported from Exchange knows Active Directory's names."""
    found = problem_of(csv_table, text)
    assert found[0] == ("RequireSenderAuthenticationEnabled" if column is None else column)
    assert message in found[1]


def test_empty_own_column_and_a_value_that_is_no_text_say_nothing():
    """csvde writes pictures and keys in hexadecimal."""
    text = "DN,proxyAddresses,mailNickname,cn,receive\n\"CN=a\",SMTP:a@example.com,X'616c',X'ff00',\n"
    assert rows_of(csv_table, text) == [mailbox("al", "a@example.com")]


def test_files_that_were_put_together_are_one():
    """`cat *.csv`: the header stands again between the rows, and empty lines do; neither is somebody."""
    assert rows_of(csv_table, "\n".join([CSVDE, CARLA, "", ",,,,,,,", CSVDE, DIRK])) == [
        mailbox("carla", "carla@example.com"),
        mailbox("dirk", "dirk@example.com"),
    ]


def test_private_address_is_no_part_of_the_company():
    """`otherMailbox` holds what people have elsewhere: it brings no domain in, and counts in managed ones only."""
    header = "DN,objectClass,mailNickname,proxyAddresses,otherMailbox"
    row = "CN=Carla,user,carla,SMTP:carla@example.com;c@example.com,carla@mail.example;c@example.com"
    assert rows_of(csv_table, f"{header}\n{row}") == [
        mailbox("carla", "carla@example.com", "c@example.com", "carla@mail.example", optional=("carla@mail.example",))
    ]

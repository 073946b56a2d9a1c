"""Exchange directory files do here what Microsoft's articles say they did there."""

import io
import tracemalloc
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.errors import TransferError
from policyd.model import ANYONE, OUTSIDE, BlockedSender, Domain, Mailbox, Receive
from policyd.records import KEEP, BlockRow, GroupRow, ListEdit, MailboxRow, Notice, Problem, Record, RowMode
from policyd.transfer import exchange
from policyd.transfer.formats import ReadOptions
from policyd.transfer.text import LINE_LIMIT
from tests.support.parties import parties, party, party_set
from tests.support.tables_strategies import FixedTables

FULL = (
    "Obj-Class,Mode,Directory Name,E-mail Addresses,Secondary-Proxy-Addresses,"
    "Accept messages from,Accept messages from DL,Reject messages from,Reject messages from DL,Members"
)
SAMPLE = (
    "Obj-Class,First Name,Last name,Display Name,Alias Name,Directory Name,Primary Windows NT Account,Home-Server,"
    "E-mail address,E-mail Addresses,Members,Obj-Container,Hide from AB\r\n"
    "Mailbox,Maria,Black,,MariaB,MariaB,DOM\\\\MariaB,SRV1,,"
    '"CCMAIL:Black, Maria at CA%MS:ORG/SITE/MARIAB%SMTP:MariaB@ca.example.com%'
    'X400:c=US;a= ;p=Org;o=CA;s=Black;g=Maria;",,Recipients,\r\n'
)


def read(text: str | bytes, **options) -> list[Record | Notice]:
    raw = text.encode() if isinstance(text, str) else text
    return list(exchange.read(io.BytesIO(raw), ReadOptions(**options)))


def records(text: str | bytes, **options) -> list[Record]:
    return [found for found in read(text, **options) if isinstance(found, Record)]


def notices(text: str | bytes, **options) -> list[Notice]:
    return [found for found in read(text, **options) if isinstance(found, Notice)]


def row(line: str, header: str = FULL, before: str = "", **options) -> Record:
    """The record of *line*, filled up with empty cells."""
    filled = line + "," * (header.count(",") - line.count(","))
    return records(f"{header}\n{before}{filled}", **options)[-1]


def problem(line: str, header: str = FULL, **options) -> Problem:
    record = row(line, header, **options)
    assert record.rows == ()
    (found,) = record.problems
    return found


def jdoe(**said) -> tuple[MailboxRow]:
    return (MailboxRow("jdoe", **said),)


# The articles


def test_q184536_removing_addresses_through_directory_import():
    """The bulk form of the inbound restriction: the mailbox stays, the address goes."""
    found = records(
        "Obj-Class,Directory Name,Home-Server,E-mail addresses\r\n"
        "Mailbox,Someone,SERVER,~del<SMTP:someone@site.example.com>\r\n"
    )
    assert found == [
        Record(
            2,
            "Mailbox,Someone,SERVER,~del<SMTP:someone@site.example.com>",
            (MailboxRow("Someone", addresses=ListEdit(remove=("someone@site.example.com",))),),
        )
    ]


def test_q155414_modify_clears_a_type_and_all_secondary_addresses():
    """Every SMTP address goes, whatever it was; that X.400 goes too is nothing to us, and said."""
    found = records(
        "Obj-Class,Mode,Directory Name,E-mail Addresses,Secondary-Proxy-Addresses\r\n"
        "Mailbox,Modify,jdoe,~DEL<SMTP:>%~DEL<X400:>,~DEL\r\n"
    )
    assert [each.rows for each in found] == [jdoe(mode=RowMode.MODIFY, addresses=ListEdit(clear=True))]
    assert found[0].skipped == ("X400",)


def test_q146304_an_exported_mailbox_is_read_whole():
    """An export of every column is what people have at hand; what isn't SMTP is counted, not refused."""
    assert notices(SAMPLE) == []
    (found,) = records(SAMPLE)
    assert found.rows == (MailboxRow("MariaB", addresses=ListEdit(clear=True, add=("mariab@ca.example.com",))),)
    assert found.skipped == ("CCMAIL", "MS", "X400")


def test_q170378_a_type_with_nothing_after_it_blanks():
    """Exchange 5.0 had no ~DEL; its files still mean what they meant."""
    assert row("Mailbox,,jdoe,SMTP:").rows == jdoe(addresses=ListEdit(clear=True))


def test_q176741_del_as_directory_name_is_a_row_error():
    """Exchange made junk users of such rows."""
    message = "is ~DEL; a name can't be removed. To delete the object, use the Mode Delete"
    for object_class in ("Mailbox", "dl", "Connector"):
        found = row(f"{object_class},,~Del")
        assert Problem(message, "Directory Name") in found.problems
        assert found.rows == ()


def test_q188649_a_wrong_field_count_is_event_291_and_the_others_go_on():
    """The rejected row keeps its text and its line, to be corrected and imported again."""
    found = records("Obj-Class,Directory Name,X\nMailbox,a\nMailbox,b,\nMailbox,c,,\n")
    assert [each.problems for each in found] == [
        (Problem("has 2 fields, the header has 3", event=291),),
        (),
        (Problem("has 4 fields, the header has 3", event=291),),
    ]
    assert (found[0].line, found[0].source) == (2, "Mailbox,a")


def test_q152472_separators_can_be_others():
    """The administrator chose them on the Exchange side, where a comma is common in names."""
    text = "Obj-Class\tDirectory Name\tE-mail Addresses\nMailbox\t'Doe\tJ'\tSMTP:a@example.com;smtp:b@example.com"
    (found,) = records(text.replace("Doe\t", "Doe, "), column_separator="\t", quote="'", multi_separator=";")
    edit = ListEdit(clear=True, add=("a@example.com", "b@example.com"))
    assert found.rows == (MailboxRow("Doe, J", addresses=edit),)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_q261112_ansi_and_unicode_files_are_read(encoding):
    """The same umlaut, however the file was saved."""
    bom = "\ufeff" if encoding.endswith("e") else ""
    (found,) = records(f"{bom}Obj-Class,Directory Name\r\nMailbox,Müller\r\n".encode(encoding))
    assert found.rows == (MailboxRow("Müller"),)


def test_q244008_a_connectors_reject_list_blocks_to_the_outside():
    """The outbound half of the article, exported from the Internet Mail Service."""
    found = row(r"Internet-Mail-Connector,,IMS,,,,,/o=Org/ou=Site/cn=Recipients/cn=JDoe%Bob")
    assert found.rows == (BlockRow(party("JDoe"), party("outside")), BlockRow(party("Bob"), party("outside")))


def test_q149359_a_list_becomes_a_group_with_its_members():
    """Lists in lists too, in whatever order they stand, and in one another; a list that nobody names does not."""
    header = FULL + "\n"
    text = (
        header
        + "Mailbox,,jdoe,,,,/o=Org/ou=Site/cn=Recipients/cn=ALL,,,\n"
        + "dl,,All,,,,,,,Sales%Ann%Bob\n"
        + "dl,,Sales,,,,,,,/o=Org/cn=Recipients/cn=Carl%all%BOB\n"
        + "dl,,Others,,,,,,,Ann\n"
    )
    found = records(text)
    assert found[0].rows == jdoe(receive=Receive.NOBODY, accepted=ListEdit(add=parties("group:All")))
    assert found[1].rows == (GroupRow("All", members=ListEdit(True, add=parties("group:Sales", "Ann", "Bob"))),)
    assert found[2].rows == (GroupRow("Sales", members=ListEdit(True, add=parties("Carl", "group:All", "BOB"))),)
    assert [each.skipped for each in found] == [(), (), (), ("dl",)]


# Names and modes


@pytest.mark.parametrize(
    ("header", "line"),
    [
        pytest.param("Obj-Class,Directory Name", "MAILBOX, jdoe ", id="any case, blanks"),
        pytest.param(" OBJ-CLASS , directory  name ", "mailbox,jdoe", id="header in any case, with blanks"),
        pytest.param("Obj-Class,Common-Name,Alias Name", "Mailbox,jdoe,jd", id="Common-Name before the alias"),
        pytest.param("Obj-Class,Alias Name", "Mailbox,jdoe", id="Alias Name"),
        pytest.param("Obj-Class,Mail-Nickname", "Mailbox,jdoe", id="Mail-Nickname"),
        pytest.param("Obj-Class,Alias Name,Obj-Dist-Name", "Mailbox,jd,/o=Org/cn=R/CN=jdoe", id="the DN's last cn"),
        pytest.param("Obj-Class,Directory Name,Alias Name", "Mailbox,,jdoe", id="the first that isn't empty"),
    ],
)
def test_a_row_is_named_by_the_best_column_there_is(header, line):
    """Headers were typed by hand, and not every export has the Directory Name."""
    assert row(line, header).rows == jdoe()


def test_a_backslash_is_doubled_or_not():
    """Exchange doubles it; a file made by hand doesn't."""
    header = "Obj-Class,Directory Name"
    assert row(r"Mailbox,DOM\\user", header).rows == row(r"Mailbox,DOM\user", header).rows == (MailboxRow(r"DOM\user"),)


def test_escapes_in_a_list_of_values():
    r"""`\%` is no separator, `\\` is a backslash, and before `%` still one."""
    found = row(r"Connector,,x,,,,,a\%b%c\\%d\e%%\\\%f\ ")
    assert [each.sender for each in found.rows if isinstance(each, BlockRow)] == [
        *map(party, ["a%b", "c\\", r"d\e", "\\%f\\"])
    ]


@pytest.mark.parametrize(
    ("text", "mode"),
    [("Create", RowMode.CREATE), ("modify", RowMode.MODIFY), ("UPDATE", RowMode.UPDATE), ("", RowMode.UPDATE)],
)
def test_modes_are_read_in_any_case(text, mode):
    """An empty Mode is Update: made if missing, else changed."""
    assert row(f"Mailbox,{text},jdoe").rows == jdoe(mode=mode)


def test_only_the_name_that_is_used_can_not_be_del():
    """To clear the alias of somebody who has a Directory Name is allowed."""
    header = "Obj-Class,Directory Name,Alias Name"
    assert row("Mailbox,jdoe,~DEL", header).rows == jdoe()
    assert problem("Mailbox,,~DEL", header).column == "Alias Name"


def test_delete_needs_only_the_name():
    """What else stands in the row of a deleted mailbox is of no consequence."""
    assert row("Mailbox,Delete,jdoe,nonsense").rows == jdoe(mode=RowMode.DELETE)
    assert row("dl,Delete,jdoe").rows == jdoe(mode=RowMode.DELETE)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Mailbox,Chnage,jdoe", Problem("is 'Chnage', none of Create, Modify, Update, Delete", "Mode")),
        ("Mailbox,,", Problem("is empty, so the row says nothing about anybody", "Directory Name")),
        (
            ",,jdoe",
            Problem("is empty; it says what kind of object a row is about, such as Mailbox", "Obj-Class"),
        ),
        (
            "Mailbox,,j@d",
            Problem(
                "j@d is an address or a pattern, not a mailbox name; a name has no @ and isn't <>", "Directory Name"
            ),
        ),
        (
            "Connector,Delete,IMS",
            Problem("can't delete a connector here; take names off its Reject list with ~DEL<name>", "Mode"),
        ),
    ],
)
def test_a_row_that_says_not_what_or_who_is_a_problem(line, expected):
    """Nothing is guessed; the column is named."""
    assert problem(line) == expected


# Addresses


@pytest.mark.parametrize(
    ("cells", "edit"),
    [
        pytest.param("SMTP:a@x.org%smtp:b@x.org,", ListEdit(True, (), ("a@x.org", "b@x.org")), id="values replace"),
        pytest.param("SMTP:a@x.org,SMTP:b@x.org", ListEdit(True, (), ("a@x.org", "b@x.org")), id="primary first"),
        pytest.param("SMTP:a@x.org,smtp:A@X.org", ListEdit(True, (), ("a@x.org",)), id="the same one twice"),
        pytest.param("~Del,~DEL", ListEdit(True), id="all"),
        pytest.param("~DEL,", ListEdit(True), id="the primary column stands for all"),
        pytest.param("~DEL<SMTP:>,smtp:b@x.org", ListEdit(True, (), ("b@x.org",)), id="clear, then add"),
        pytest.param("~DEL<smtp: A@x.org >,~DEL<smtp:b@x.org>", ListEdit(False, ("a@x.org", "b@x.org")), id="some"),
        pytest.param(",~DEL<smtp:b@x.org>", ListEdit(False, ("b@x.org",)), id="a secondary one"),
        pytest.param(",smtp:b@x.org", ListEdit(False, (), ("b@x.org",)), id="secondary ones alone only add"),
        pytest.param("SMTP:a@x.org,~DEL", ListEdit(True, (), ("a@x.org",)), id="replace one, clear the others"),
        pytest.param("X400:c=US;,MS:A/B", KEEP, id="no SMTP"),
        pytest.param("%,", KEEP, id="nothing but separators"),
    ],
)
def test_proxies_make_the_list_of_addresses(cells, edit):
    """The two columns are one list here, and nothing that isn't SMTP touches it."""
    assert row(f"Mailbox,,jdoe,{cells}").rows == jdoe(addresses=edit)


def test_append_adds_plain_values():
    """As --append says; ~DEL still takes away."""
    found = row("Mailbox,,jdoe,SMTP:a@x.org,smtp:b@x.org", is_append=True)
    assert found.rows == jdoe(addresses=ListEdit(add=("a@x.org", "b@x.org")))
    assert row("Mailbox,,jdoe,~DEL", is_append=True).rows == jdoe(addresses=ListEdit(clear=True))


def test_secondary_values_that_only_add_are_told_once():
    """The primary one must not go because it isn't mentioned; that nothing was replaced is said."""
    text = FULL + "\n" + "".join(f"Mailbox,,m{n},,smtp:b{n}@x.org,,,,,\n" for n in range(2))
    message = "Secondary-Proxy-Addresses only adds where E-mail Addresses has no plain values; to replace, give both"
    assert notices(text) == [Notice(2, message)]


def test_a_second_column_without_the_first_is_the_list():
    """Where the file has no column for the others, it speaks of all."""
    header = "Obj-Class,Directory Name,Secondary-Proxy-Addresses"
    assert row("Mailbox,jdoe,smtp:a@x.org", header).rows == jdoe(addresses=ListEdit(True, (), ("a@x.org",)))
    assert row("Mailbox,jdoe,~DEL", header).rows == jdoe(addresses=ListEdit(True))


def test_the_domain_completes_addresses():
    """--domain, for files from a site with one."""
    assert row("Mailbox,,jdoe,SMTP:a", domain="x.org").rows == jdoe(addresses=ListEdit(True, (), ("a@x.org",)))


FORM = "is not of the form TYPE:address; the type has 1 to 8 characters, such as SMTP"
MALFORMED = "has a ~DEL that is neither alone nor followed by a value in <>"


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        ("SMTP:a@x.org%~DEL<SMTP:b@x.org>", "E-mail Addresses", "mixes plain values with ~DEL; a cell holds either"),
        ("~DEL<SMTP:a@x.org", "E-mail Addresses", MALFORMED),
        ("~DELSMTP:a@x.org", "E-mail Addresses", MALFORMED),
        ("~DEL<>", "E-mail Addresses", MALFORMED),
        ("a@x.org", "E-mail Addresses", f"'a@x.org' {FORM}"),
        (":a@x.org", "E-mail Addresses", f"':a@x.org' {FORM}"),
        (",NINECHARS:a", "Secondary-Proxy-Addresses", f"'NINECHARS:a' {FORM}"),
        ("SMTP:a", "E-mail Addresses", "'a' is not an address; an address looks like alice@example.com"),
        (
            ",~DEL",
            "Secondary-Proxy-Addresses",
            "can't be cleared alone; name the values as ~DEL<value>, or give both columns",
        ),
    ],
)
def test_a_proxy_that_is_none_names_its_column(cells, column, message):
    """The row is rejected whole, and corrected from the message alone."""
    assert problem(f"Mailbox,,jdoe,{cells}") == Problem(message, column)


def test_every_problem_of_a_row_is_named_at_once():
    """Mending a row should take one round, not five."""
    found = row("Mailbox,x,~DEL,a,b,~DELx,Staff,<>,,")
    assert [each.column for each in found.problems] == [
        "Directory Name",
        "Mode",
        "E-mail Addresses",
        "Secondary-Proxy-Addresses",
        "Accept messages from",
        "Accept messages from DL",
        "Reject messages from",
    ]


# Restrictions


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        pytest.param(
            "Ann%Bob", {"receive": Receive.NOBODY, "accepted": ListEdit(True, (), parties("Ann", "Bob"))}, id="set"
        ),
        pytest.param("~DEL", {"receive": Receive.INHERIT, "accepted": ListEdit(True)}, id="cleared is lifted"),
        pytest.param("~DEL<cn=Ann>", {"accepted": ListEdit(False, parties("Ann"))}, id="one taken away"),
        pytest.param(",,Ann%ANN", {"rejected": ListEdit(True, (), parties("Ann"))}, id="rejected"),
        pytest.param(",,~DEL", {"rejected": ListEdit(True)}, id="nobody rejected"),
    ],
)
def test_lists_of_a_mailbox_restrict_it(cells, said):
    """Absent from a non-empty Accept list is rejected; an empty one accepts everybody (Q149359)."""
    assert row(f"Mailbox,,jdoe,,,{cells}").rows == jdoe(**said)


def test_raw_names_of_the_lists_are_known():
    """Auth-Orig and its like, as the directory calls them, and as Active Directory still does."""
    header = "Obj-Class,Directory Name,Auth-Orig,Unauth-Orig"
    assert row("Mailbox,jdoe,/cn=Ann,/cn=Bob", header).rows == jdoe(
        receive=Receive.NOBODY, accepted=ListEdit(True, (), parties("Ann")), rejected=ListEdit(True, (), parties("Bob"))
    )


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("", id="not there"),
        pytest.param("dl,,Staff,SMTP:staff@x.org,,,,,,\n", id="without its members"),
        pytest.param("dl,Delete,Staff,,,,,,,Ann\n", id="deleted"),
        pytest.param("dl,,Staff,,,,,,,~DEL<Ann>\n", id="its members only changed"),
        pytest.param("dl,,~DEL,,,,,,,Ann\n", id="without a name"),
    ],
)
def test_an_unknown_list_is_a_row_error(before):
    """To take it for nobody would close a mailbox, or open it, without a word."""
    found = row("Mailbox,,jdoe,,,,Staff", before=before)
    message = "has 'Staff', but no dl of that name has its Members in this file"
    assert found.problems == (Problem(message, "Accept messages from DL"),)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("Mailbox,,Broken\n", id="too few cells"),
        pytest.param("Mailbox,,Broken,,,Staff%~DEL,,,,\n", id="a list that can't be read"),
    ],
)
def test_a_row_that_cant_be_read_names_no_list(broken):
    """Looking for the lists that are named must not stumble over what is a row error by itself."""
    found = records(f"{FULL}\ndl,,Staff,,,,,,,Ann\n{broken}Mailbox,,jdoe,,,,Staff,,,\n")
    assert found[0].rows == (GroupRow("Staff", members=ListEdit(True, add=parties("Ann"))),)
    assert found[1].problems
    assert found[2].rows == jdoe(receive=Receive.NOBODY, accepted=ListEdit(add=parties("group:Staff")))


def test_a_list_in_the_columns_of_people_is_a_group_too():
    """Some tools write both into one column."""
    found = row("Connector,,IMS,,,,,Staff%Ann", before="dl,,Staff,,,,,,,Ann%Bob\n")
    assert found.rows == (BlockRow(party("group:Staff"), party("outside")), BlockRow(party("Ann"), party("outside")))


def test_a_list_with_addresses_is_a_mailbox_too():
    """Mail to all@ must not bounce as unlisted after the move, and who may write to all@ is its own restriction."""
    found = row("dl,,All,SMTP:all@x.org,,Boss,,,,Ann")
    assert found.rows == (
        MailboxRow(
            "All",
            addresses=ListEdit(True, (), ("all@x.org",)),
            receive=Receive.NOBODY,
            accepted=ListEdit(True, (), parties("Boss")),
        ),
    )


def test_members_cant_be_taken_away():
    """Lists aren't kept, so there is nothing to take them from."""
    assert problem("dl,,All,,,,,,,~DEL").column == "Members"
    assert problem("dl,,All,,,,,,,a%~DEL").column == "Members"


def test_a_bad_member_is_a_problem_of_the_list():
    """What names the list falls with it: without a member, a block has a hole."""
    lines = "dl,,Staff,,,,,,,ann@x.org\nMailbox,,jdoe,,,,Staff,,,\n"
    staff, mailbox = records(f"{FULL}\n{lines}")
    assert (staff.rows, staff.problems[0].column, staff.wrong_groups) == ((), "Members", ("Staff",))
    assert mailbox.rows == jdoe(receive=Receive.NOBODY, accepted=ListEdit(add=parties("group:Staff")))


def test_a_remote_object_is_skipped():
    """Its mailbox is elsewhere; its target is no address of ours."""
    assert row("Remote,,jdoe,SMTP:jdoe@elsewhere.example").skipped == ("remote",)


@pytest.mark.parametrize(("object_class", "word"), [("Public Folder", "public folder"), ("\x1b[31m", "other objects")])
def test_an_object_that_says_nothing_to_us_is_counted_by_its_class(object_class, word):
    """So that a mistyped Mailbox is seen, and no terminal harmed."""
    found = row(f"{object_class},,x,SMTP:a@x.org")
    assert (found.rows, found.skipped) == ((), (word,))


def test_names_are_taken_off_a_connectors_reject_list():
    """Each is a blocked sender of its own."""
    found = row("Connector,,IMS,,,~DEL,,~DEL<Ann>%~DEL</o=x/cn=Bob>")
    assert found.rows == (
        BlockRow(party("Ann"), party("outside"), mode=RowMode.DELETE),
        BlockRow(party("Bob"), party("outside"), mode=RowMode.DELETE),
    )


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        (
            "Ann",
            "Accept messages from",
            "is a connector's, and would block everybody else; block those with: policyd sender block",
        ),
        (
            ",,~DEL",
            "Reject messages from",
            "is a connector's, and can't be cleared as a whole; name each with ~DEL<name>",
        ),
    ],
)
def test_what_a_connector_says_and_we_cant_is_a_problem(cells, column, message):
    """Leaving out an Accept list would open what was closed."""
    assert problem(f"Connector,,IMS,,,{cells}") == Problem(message, column)


# The file


def test_an_unknown_column_is_told_once():
    """Exports have fifty; each row would say it again."""
    text = "Obj-Class,Directory Name,Mode,Fax,\x1b[1m,Fax\n" + "Mailbox,a,,,,\n" * 3
    assert notices(text) == [
        Notice(1, "the column Mode counts only as the second one: ignored"),
        Notice(1, "columns that policyd does not know, ignored: Fax, '\\x1b[1m'"),
    ]


def test_of_the_same_column_twice_the_first_counts():
    """Also under another name of the same thing."""
    text = "Obj-Class,Directory Name,Accept messages from,Auth-Orig\nMailbox,jdoe,Ann,Bob\n"
    assert notices(text) == [Notice(1, "the column Auth-Orig says the same as Accept messages from: ignored")]
    assert records(text)[0].rows == jdoe(receive=Receive.NOBODY, accepted=ListEdit(True, (), parties("Ann")))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the file is empty; an Exchange directory file begins with a header, Obj-Class first"),
        (b"\n\r\n", "the file is empty; an Exchange directory file begins with a header, Obj-Class first"),
        (
            b"dn: cn=jdoe",
            (
                "the first column is 'dn: cn=jdoe', not Obj-Class: this is not an Exchange directory file, "
                "or its columns are separated by another character (--column-separator)"
            ),
        ),
        (b"Obj-Class,Mode\nMailbox,Update", "no column is called Directory Name, so no row says what it is about"),
        (b'Obj-Class,"Directory Name', 'line 1: the header has a " that is not closed'),
        (b"x" * 2 * LINE_LIMIT, f"line 1: the header has more than {LINE_LIMIT} characters"),
    ],
)
def test_a_file_that_is_no_directory_file_is_one_clear_error(raw, message):
    """Not a thousand row errors."""
    with pytest.raises(TransferError) as raised:
        read(raw)
    assert str(raised.value) == message
    assert raised.value.exit_status == 65


@pytest.mark.parametrize("separator", ["", "%%", "\\", "~"])
def test_a_multi_separator_that_cant_work_is_one_clear_error(separator):
    """It would cut ~DEL and the escapes themselves."""
    with pytest.raises(TransferError, match="can't separate values; give one character"):
        read("Obj-Class,Directory Name", multi_separator=separator)


def test_a_header_alone_says_nothing():
    """An export that found nobody."""
    assert read(FULL) == []


def test_rows_without_text_and_headers_of_files_put_together_are_none():
    """Spreadsheets leave rows of commas; `cat` leaves headers."""
    text = "Obj-Class,Directory Name\nMailbox,a\n,\n , \n,,,\nObj-Class,Directory Name\nMailbox,b\n"
    assert [each.line for each in records(text)] == [2, 7]


def test_line_ends_may_be_mixed():
    """A file that went through three editors."""
    found = records(b"Obj-Class,Directory Name\r\nMailbox,a\nMailbox,b\rMailbox,c\r\n")
    assert [each.rows for each in found] == [(MailboxRow("a"),), (MailboxRow("b"),), (MailboxRow("c"),)]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"a\0b", id="a NUL"),
        pytest.param(b"M\x81ller", id="a byte that Windows-1252 does not have"),
    ],
)
def test_damaged_names_are_problems(raw):
    """A wrong name would be a new mailbox; what can't be read is never stored."""
    found = records(b"Obj-Class,Directory Name\nMailbox," + raw + b"\nMailbox,good\n")
    assert [each.problems[0].column if each.problems else "" for each in found] == ["Directory Name", ""]


def test_utf_16_cut_in_the_middle_of_a_character_is_a_problem():
    """A transfer that broke off."""
    raw = "Obj-Class,Directory Name\nMailbox,a\nMailbox,b".encode("utf-16")[:-1]
    assert [bool(each.problems) for each in records(raw)] == [False, True]


def test_damage_in_columns_that_arent_read_costs_nothing():
    """Who cares about a NUL in the display name."""
    (found,) = records(b"Obj-Class,Directory Name,Display Name\nMailbox,a,\0\x81\n")
    assert found.rows == (MailboxRow("a"),)


def test_a_cut_quote_and_a_long_line_cost_their_rows():
    """The rows before and after are read."""
    long = b'Mailbox,"' + b"x" * 50 * LINE_LIMIT
    raw = b'Obj-Class,Directory Name\nMailbox,a\nMailbox,"b\nMailbox,c\n' + long + b"\nMailbox,d\n"
    found = records(raw)
    assert [each.problems[0].message[:12] if each.problems else "" for each in found] == [
        "",
        'has a " that',
        "",
        "has more tha",
        "",
    ]
    assert found[3].source == ""


def test_memory_does_not_grow_with_the_file():
    """A million mailboxes are read in the memory of a few."""
    lines = "".join(f"Mailbox,Update,user{n},SMTP:user{n}@example.com,,Staff,,,,\n" for n in range(4_000))
    stream = io.BytesIO((FULL + "\ndl,,Staff,,,,,,,Ann\n" + lines).encode())
    tracemalloc.start()
    try:
        count = sum(1 for _ in exchange.read(stream, ReadOptions()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 4_001
    assert peak < 1_500_000


PIECES = st.sampled_from(
    [
        *("Obj-Class", "Mode", "Directory Name", "E-mail Addresses", "Members", "Accept messages from DL"),
        *("Mailbox", "dl", "remote", "Connector", "Delete", "~DEL", "<", ">", "SMTP:", "a@x.org", "cn=", "/"),
        *(",", ",", "%", "\\", '"', "\n", "\r", "\0", "é", "\ud800", "\ufeff", " "),
    ]
)


@given(st.lists(PIECES, max_size=60), st.sampled_from(["", FULL + "\n"]), st.sampled_from(["utf-8", "utf-16"]))
def test_no_text_raises_but_a_transfer_error(pieces, header, encoding):
    """Whatever an administrator hands over, the answer is problems or one line."""
    raw = (header + "".join(pieces)).encode(encoding, "surrogatepass")
    try:
        found = records(raw)
    except TransferError:
        return
    assert all(not (each.rows and each.problems) for each in found)


@given(st.binary(max_size=200), st.sampled_from([b"", FULL.encode() + b"\n", b"\xff\xfe", b"\xef\xbb\xbf"]))
def test_no_bytes_raise_but_a_transfer_error(raw, start):
    """Not every file that is called .csv is one."""
    try:
        read(start + raw)
    except TransferError:
        return


# Writing


def write(tables: FixedTables) -> tuple[str, Counter[str]]:
    lost: Counter[str] = Counter()
    return "".join(exchange.write(tables, lost)), lost


def held(found: list[Record]) -> FixedTables:
    """The tables that records make of empty ones."""
    boxes = [each for record in found for each in record.rows if isinstance(each, MailboxRow)]
    owned = {box.name: box.addresses.add for box in boxes if isinstance(box.addresses, ListEdit)}
    mailboxes, blocked = [], []
    for box in boxes:
        accepted = frozenset(box.accepted.add) if isinstance(box.accepted, ListEdit) else frozenset()
        receive = box.receive if isinstance(box.receive, Receive) else Receive.INHERIT
        mailboxes.append((Mailbox(box.name, receive, accepted=accepted), owned.get(box.name, ())))
        rejected = box.rejected.add if isinstance(box.rejected, ListEdit) else ()
        blocked += [BlockedSender(who, to=party(box.name)) for who in rejected]
    blocked += [BlockedSender(each.sender) for record in found for each in record.rows if isinstance(each, BlockRow)]
    return FixedTables((), tuple(mailboxes), tuple(blocked))


def test_tables_are_written_as_exchange_writes_them():
    """A file for Exchange's own import, and for ours."""
    tables = FixedTables(
        held_mailboxes=(
            (Mailbox("Doe, John"), ("jdoe@x.org", "j d@x.org")),
            (Mailbox("DOM\\50%", Receive.NOBODY, accepted=party_set("Doe, John")), ()),
        ),
        held_entries=(
            BlockedSender(party("DOM\\50%")),
            BlockedSender(party("DOM\\50%"), to=party("Doe, John")),
        ),
    )
    text, lost = write(tables)
    assert lost == {}
    assert text.split("\r\n") == [
        (
            "Obj-Class,Mode,Directory Name,E-mail Addresses,Secondary-Proxy-Addresses,"
            "Accept messages from,Reject messages from"
        ),
        r'Mailbox,Update,"Doe, John",SMTP:jdoe@x.org,"SMTP:""j d""@x.org",,DOM\\50\%',
        r'Mailbox,Update,DOM\\50%,,,"Doe, John",',
        r"Connector,Update,Internet Mail Service,,,,DOM\\50\%",
        "",
    ]
    assert held(records(text)) == replace(tables, held_entries=(tables.held_entries[1], tables.held_entries[0]))


def test_many_blocked_senders_are_several_rows():
    """One row would be longer than a reader takes."""
    tables = FixedTables(held_entries=tuple(BlockedSender(party(f"user{n}")) for n in range(250)))
    text, _ = write(tables)
    assert text.count("Connector") == 3
    assert held(records(text)) == tables


def test_what_the_format_cant_say_is_counted():
    """Nobody should believe that a restriction went along when it didn't."""
    tables = FixedTables(
        (Domain("x.org"),),
        (
            (Mailbox("a", Receive.NOBODY, "gone", 9, "left", party_set("@y.org", "b1@x.org")), ()),
            (Mailbox("b", Receive.INSIDERS, accepted=party_set("c@x.org")), ("b1@x.org", "b2@x.org")),
            (Mailbox("c", accepted=party_set("b1@x.org")), ("c@x.org",)),
            (Mailbox("~delta"), ("d@x.org",)),
        ),
        (
            BlockedSender(party("@spam.example"), to=ANYONE, reason="spam"),
            BlockedSender(party("~delta")),
            BlockedSender(party("b"), to=party("~delta")),
            BlockedSender(party("b"), to=ANYONE),
            BlockedSender(party("a"), reason="r", until=9, comment="c", allowed=party_set("@y.org"), created_by="root"),
        ),
    )
    text, lost = write(tables)
    assert lost == {
        "domain": 1,
        "reason": 2,
        "until": 2,
        "comment": 2,
        "restriction": 2,
        "accepted sender": 4,
        "mailbox": 1,
        "blocked sender": 4,
        "exception": 1,
        "creation": 1,
    }
    assert held(records(text)) == FixedTables(
        (),
        ((Mailbox("a"), ()), (Mailbox("b"), ("b1@x.org", "b2@x.org")), (Mailbox("c"), ("c@x.org",))),
        (BlockedSender(party("a")),),
    )


NAMES = st.text(st.sampled_from("ab,;\"'\\% =é<>:~/"), min_size=1, max_size=6).filter(
    lambda name: name == name.strip() and name != "<>"
)
LOCALS = st.text(st.sampled_from('ab"\\%, .é<>~'), min_size=1, max_size=5)


@st.composite
def all_tables(draw) -> FixedTables:
    """Tables that the format can say."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique_by=str.casefold))
    parts = draw(st.lists(LOCALS, max_size=10, unique=True))
    owned: dict[str, list[str]] = {name: [] for name in names}
    for part in parts:
        owned[draw(st.sampled_from(names))].append(f"{part}@x.org")
    accepting = st.sets(st.sampled_from(names), max_size=3)
    mailboxes = []
    for name in names:
        accepted = party_set(*draw(accepting))
        receive = Receive.NOBODY if accepted else Receive.INHERIT
        mailboxes.append((Mailbox(name, receive, accepted=accepted), tuple(owned[name])))
    pairs = st.sets(st.tuples(st.sampled_from(["", *names]), st.sampled_from(names)), max_size=8)
    blocked = [BlockedSender(party(name), to=party(to) if to else OUTSIDE) for to, name in draw(pairs)]
    return FixedTables((), tuple(mailboxes), tuple(blocked))


@given(all_tables())
def test_what_is_written_is_read_back(tables):
    """Export, then import into an empty database, is the same database."""
    text, lost = write(tables)
    assert lost == {}
    back = held(records(text))
    assert back.held_mailboxes == tables.held_mailboxes
    assert set(back.held_entries) == set(tables.held_entries)
    assert len(back.held_entries) == len(tables.held_entries)


def test_slip_in_a_column_is_an_error_that_names_the_nearest():
    """What stands under it would be lost, of each mailbox."""
    with pytest.raises(TransferError, match=r"unknown column E-mail Adresses \(did you mean E-mail Addresses\?\)"):
        read("Obj-Class,Directory Name,E-mail Adresses\nMailbox,jdoe,SMTP:j@example.com\n")

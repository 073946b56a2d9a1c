"""Files that people have, from spreadsheets and from Windows: each must come in as a person reading it would say."""

import json
import os
import pty
import re
import select
from pathlib import Path
from shlex import quote

import pytest

from tests.support.command_line import command_line

CASES = Path(__file__).parents[1] / "data" / "cases"
_IN_TERMINAL = 60  # seconds


@pytest.fixture
def policyd():
    """A company with one domain and nobody in it yet."""
    with command_line("domain add example.com") as policyd:
        yield policyd


def imports(policyd, content, options="", *, name="people.csv", status=0):
    """The lines that are told of an import of *content*, with the file called as it is named here."""
    file = policyd.folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    ended = policyd.ends(f"-v import {file} {options}")
    assert ended.status == status, ended
    return ended.err.replace(str(file), name).splitlines()


def case(policyd, name, options="", *, status=0):
    """The lines that are told of an import of the case *name*."""
    return imports(policyd, (CASES / name).read_bytes(), options, name=name, status=status)


def held(policyd):
    """Each address and whose it is, the primary ones marked."""
    return [f"{each['mailbox']} {each['address']}{'*' * each['is_primary']}" for each in policyd.json("address list")]


def blocked(policyd):
    """Who is blocked."""
    return [each["sender"] for each in policyd.json("sender list")]


def rule(policyd, question):
    """The rule that decides *question*."""
    return json.loads(policyd.ends(f"--json check {question}").out)["rule"]


# --- The cases ---


def test_several_addresses_in_a_cell_are_several(policyd):
    """With `SMTP:`, semicolons or commas between: two each, the marked one or the first the primary one."""
    case(policyd, "addresses_in_one_cell.csv")
    assert held(policyd) == [
        *("carla c.clark@example.com", "carla carla@example.com*", "dirk d.dorn@example.com"),
        *("dirk dirk@example.com*", "emil e.ende@example.com", "emil emil@example.com*"),
    ]


def test_mistyped_column_imports_nothing_and_names_the_nearest(policyd):
    """A mailbox that was to be restricted must not come in open."""
    told = case(policyd, "mistyped_column.csv", status=65)
    assert "unknown column 'recieve' (did you mean receive?); nothing was imported" in told[-1]
    assert held(policyd) == []
    assert not (policyd.folder / "mistyped_column.csv.err").exists()


def test_year_and_past_end_are_wrong_rows(policyd):
    """Neither would restrict anybody."""
    told = case(policyd, "ends.csv", status=65)
    assert [line.partition(": ")[0] for line in told[1:3]] == ["ends.csv:2", "ends.csv:3"]
    assert "'2099' is not a time" in told[1]
    assert "is past" in told[2]
    assert policyd.json("mailbox list") == []


def test_wildcards_are_wrong_rows_that_say_what_to_write(policyd):
    """An entry that never matches blocks nobody; and `mailto:` is how a browser copies an address."""
    told = case(policyd, "wildcards.list", "--into blocked", status=65)
    assert "write @blocked.example" in told[1]
    assert "write @example.net" in told[2]
    assert blocked(policyd) == ["eve@example.net"]


def test_list_for_one_person_takes_only_that_person_proven(policyd):
    """Under any address of hers; not other insiders, and not who only writes as her."""
    case(policyd, "list_for_the_board.ldif")
    to_list = "--recipient allstaff@example.com"
    assert rule(policyd, f"{to_list} --login carla --sender carla@example.com") == "accepted-sender"
    assert rule(policyd, f"{to_list} --login carla --sender c.clark@example.com") == "accepted-sender"
    assert rule(policyd, f"{to_list} --login c.clark@example.com") == "accepted-sender"
    assert rule(policyd, f"{to_list} --login dirk --sender carla@example.com") == "restricted-recipient"
    assert rule(policyd, f"{to_list} --sender carla@example.com") == "restricted-recipient"


@pytest.mark.parametrize("name", ["csvde.csv", "powershell.csv"])
def test_exports_of_windows_are_read(policyd, name):
    """As csv, which their header tells."""
    assert case(policyd, name)[0] == f"{name}: read as csv; --format would say otherwise"
    assert held(policyd) == ["carla c.clark@example.com", "carla carla@example.com*"]


def test_odd_values_cost_themselves_and_not_the_person(policyd):
    """`=EX:`, an empty `smtp:`; and `otherMailbox` is one's own address, too."""
    told = case(policyd, "people_with_ghosts.ldif")
    assert "skipped: 1 EX, 1 empty value" in told
    assert held(policyd) == ["dirk dirk.two@example.com", "dirk dirk@example.com*"]


PRIVATE = """dn: CN=Erik,DC=example,DC=com
objectClass: user
mailNickname: erik
proxyAddresses: SMTP:erik@new.example
otherMailbox: erik@mail.example
otherMailbox: e.erik@other.example

dn: CN=Fox,DC=example,DC=com
objectClass: user
mailNickname: fox
mail: fox@other.example
otherMailbox: fox@mail.example
"""


@pytest.mark.parametrize(
    ("options", "addresses", "told"),
    [
        pytest.param(
            "--add-domains",
            ["erik e.erik@other.example", "erik erik@new.example*", "fox fox@other.example*"],
            "address: 3 added, 2 left out",
            id="those of the company come in",
        ),
        pytest.param("--add-domains --dry-run", [], "address: 3 added, 2 left out", id="a dry run says so"),
    ],
)
def test_private_address_takes_over_nobodys_domain(policyd, options, addresses, told):
    """With mail.example managed, mail from here to everybody there would be refused as unlisted.

    An address in otherMailbox whose domain another row brings in is one of the mailbox, wherever that row stands.
    """
    file = policyd.folder / "private.ldif"
    file.write_text(PRIVATE)
    ended = policyd.ends(f"-v import {file} {options}")
    assert ended.status == 0
    assert told in (ended.err + ended.out).splitlines()
    assert "mail.example" not in policyd.run("domain list")
    assert held(policyd) == addresses


def test_private_address_costs_nobody_his_row(policyd):
    """Without --add-domains, either: of erik only the company's address has to be managed."""
    policyd.run("domain add new.example")
    policyd.run("domain add other.example")
    file = policyd.folder / "private.ldif"
    file.write_text(PRIVATE)
    assert policyd.ends(f"import {file}").status == 0
    assert len(held(policyd)) == 3


# --- What can't match ---


@pytest.mark.parametrize(
    ("word", "help_"),
    [
        ("*@example.net", "write @example.net"),
        ("spam*@", "write anyone"),
        ("@*.example.net", "write @.example.net"),
        ("?", "no * or ? stands for other characters"),
        ("*", "no * or ? stands for other characters"),
        ("SMTP:a@example.net smtp:b@example.net", "each address as a word of its own without SMTP:"),
        ("SMTP:a smtp:b", "without SMTP: in front"),
        ("mailto:a@example.net", "without mailto: in front"),
        ("a@example.net;b@example.net", "each as a word of its own"),
        ("a@example.net,b@example.net", "each as a word of its own"),
        ("a@example.net,", "each address as a word of its own"),
        ("@example.net @example.org", "each as a word of its own"),
        ("a;b", "a word each"),
        ("Bob <bob@example.net>", "without < and >: bob@example.net"),
        ("<bob@example.net>", "without < and >"),
        ("a(b)c@example.net", "needs quotes"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        "sender block {} --to anyone",
        "sender block x@example.net --except {}",
        "sender block @example.net --to anyone --except-sender {}",
        "sender block @example.net --to {}",
        "mailbox restrict carla --accept {}",
        "mailbox accept carla {}",
    ],
)
def test_what_can_not_match_is_refused_where_it_is_typed(policyd, command, word, help_):
    """With the line that helps; an entry that never matches looks like one that does."""
    policyd.run("mailbox add carla carla@example.com")
    policyd.run("mailbox restrict carla")
    before = policyd.journal()
    ended = policyd.ends(command.replace("{}", quote(word)))
    assert ended.status in (1, 2)
    assert help_ in ended.err
    assert policyd.journal() == before


# --- Rows that are wrong ---


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("cp1252", b"")])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rejected_rows_are_written_as_the_file_is(policyd, encoding, mark, end):
    """Encoding, mark, line ends, separators and quotes: the program that made the file opens the other one, too."""
    rows = [
        "name;addresses",
        '"Jörg ""G""";"j@elsewhere.example"',
        "alice;alice@example.com",
        "Ünal;u@elsewhere.example",
    ]
    imports(policyd, mark + "".join(f"{row}{end}" for row in rows).encode(encoding), status=65)
    rejected = (policyd.folder / "people.csv.err").read_bytes()
    assert rejected == mark + "".join(f"{row}{end}" for row in (rows[0], rows[1], rows[3])).encode(encoding)
    policyd.run("domain add elsewhere.example")
    imports(policyd, rejected)
    assert [each["name"] for each in policyd.json("mailbox list")] == ["alice", 'Jörg "G"', "Ünal"]


@pytest.mark.parametrize(("codec", "mark"), [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")])
def test_rejected_rows_of_windows_are_in_its_encoding(policyd, codec, mark):
    """PowerShell 5 writes UTF-16, and a #TYPE above the header, which comes again."""
    head = '#TYPE Selected.Mailbox\r\n"Alias","PrimarySmtpAddress"\r\n'
    content = f'{head}"carla","carla@example.com"\r\n"dirk","dirk@elsewhere.example"\r\n'
    imports(policyd, mark + content.encode(codec), status=65)
    rejected = (policyd.folder / "people.csv.err").read_bytes()
    assert rejected == mark + f'{head}"dirk","dirk@elsewhere.example"\r\n'.encode(codec)


def test_bytes_that_are_no_text_come_out_as_they_came_in(policyd):
    """In LDIF, which is UTF-8 whatever else is in it."""
    record = b"dn: cn=x\xff\r\ncn: J\xc3\xb6rg\r\nmail: j@elsewhere.example\r\n\r\n"
    imports(policyd, record, status=65, name="people.ldif")
    assert (policyd.folder / "people.ldif.err").read_bytes() == record


def test_domain_that_is_not_managed_is_told_once(policyd):
    """With how many rows there are, and both ways out; the file of rejected rows has all of them."""
    rows = [f"p{number},p{number}@{'a' if number % 3 else 'b'}.example" for number in range(30)]
    told = imports(policyd, "\n".join(["name,addresses", *rows, ""]), status=65)
    wrong = [line for line in told if re.match(r"people.csv:\d+:", line)]
    assert wrong == [
        f"people.csv:{line}: p{line - 2}@{name}.example: the domain {name}.example is not managed; "
        f"add it with: policyd domain add {name}.example, or import the file with --add-domains ({count} rows)"
        for line, name, count in ((2, "b", 10), (3, "a", 20))
    ]
    assert (policyd.folder / "people.csv.err").read_text().splitlines() == ["name,addresses", *rows]


def test_wrong_rows_are_told_in_the_order_of_their_lines(policyd):
    """What names others is found to be wrong at the end; the file is corrected from its top to its bottom."""
    rows = ["a,nobody1,", "b,,x", "c,,", "d,nobody2,", "e@elsewhere.example,,", "f,,2099", "g,nobody3,"]
    content = "\n".join(["name,accept,until", *rows, ""])
    told = imports(policyd, content, "--format csv", status=65)
    lines = [int(found[1]) for line in told if (found := re.match(r"people.csv:(\d+):", line))]
    assert lines == [2, 3, 5, 6, 7, 8]
    rejected = (policyd.folder / "people.csv.err").read_text().splitlines()
    assert rejected[1:] == [row for row in rows if row != "c,,"]


def test_wrong_rows_give_the_bar_way_on_a_terminal(policyd):
    """A message that begins behind a bar is read by nobody."""
    rows = "".join(f"p{number},p{number}@example.com,{'never' * (number % 200 == 7)}\n" for number in range(1200))
    (policyd.folder / "people.csv").write_text(f"name,addresses,receive\n{rows}")
    ours, theirs = pty.openpty()
    process = policyd.start(["import", "people.csv"], cwd=policyd.folder, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], _IN_TERMINAL)[0]:
        try:
            shown += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    assert process.wait() == 65
    # What a terminal has on each line in the end: all that stands before the last carriage return is overwritten.
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    wrong = [line for line in text.replace("\r\n", "\n").split("\n") if "'never'" in line]
    assert len(wrong) == 6
    assert all(line.rpartition("\r")[2].startswith("people.csv:") for line in wrong), wrong


def test_list_of_bare_domains_says_how_domains_are_written(policyd):
    """Lists of spammers from elsewhere have them so, and Postfix's maps do."""
    told = imports(policyd, "spam.example\n.bulk.example\n", "--into blocked --format list", name="l", status=65)
    assert "there is no mailbox spam.example; the domain is written @spam.example" in told[0]
    assert "there is no mailbox .bulk.example; all subdomains are written @.bulk.example" in told[1]


# --- Two rows about one ---

SMITHS = {
    "powershell": "Name,Alias,EmailAddresses\nAnn,smith,SMTP:a@example.com\nBen,Smith,SMTP:b@example.com\n",
    "ldif": "dn: cn=smith,ou=a,dc=x\ncn: smith\nmail: a@example.com\n\n"
    "dn: cn=Smith,ou=b,dc=x\ncn: Smith\nmail: b@example.com\n",
}
ROWS = {
    "csv": "name,addresses\nsmith,a@example.com\nSmith,b@example.com\n",
    "jsonl": '{"name": "smith", "addresses": ["a@example.com"]}\n{"name": "Smith", "addresses": ["b@example.com"]}\n',
    "exchange-csv": "Obj-Class,Directory Name,E-mail Addresses\nMailbox,smith,SMTP:a@example.com\n"
    "Mailbox,Smith,SMTP:b@example.com\n",
}


@pytest.mark.parametrize("content", SMITHS.values(), ids=SMITHS)
def test_two_people_of_one_name_do_not_take_each_others_addresses(policyd, content):
    """The first one's mail would be refused from then on; in the second night, too."""
    for _ in range(2):
        told = imports(policyd, content, status=65)
        assert told[1].partition(": ")[2] == (
            "another entry, which has a@example.com, is called smith, too; give one another name"
        )
        assert held(policyd) == ["smith a@example.com*"]


@pytest.mark.parametrize("content", ROWS.values(), ids=ROWS)
def test_what_one_row_takes_from_another_is_told(policyd, content):
    """A later row counts, as where the first is corrected; but it may be a row for each address of one person."""
    taken = "rows take away what others of this file say, and the last one counts: a@example.com of Smith"
    for _ in range(2):
        assert imports(policyd, content)[1].partition(": ")[2] == taken
        assert held(policyd) == ["Smith b@example.com*"]


def test_rows_that_add_to_one_another_are_good(policyd):
    """Some other column, the same again, more of the same, one address a row, and a list that is emptied."""
    content = "name,addresses,address,comment\nsmith,a@example.com\nsmith,,,boss\nsmith,a@example.com\n"
    told = imports(policyd, content + 'smith,"a@example.com b@example.com"\nsmith,,c@example.com\n')
    assert "take away" not in "".join(told)
    assert [line.split()[1] for line in held(policyd)] == ["a@example.com*", "b@example.com", "c@example.com"]
    imports(policyd, "name,addresses\nsmith,b@example.com\n")
    imports(policyd, "name,addresses\nsmith,d@example.com b@example.com\nsmith,-\n")
    assert held(policyd) == []


def test_row_that_has_waited_is_not_taken_for_another_one(policyd):
    """It is tried twice, since the address that it wants is given up further down."""
    policyd.run("mailbox add ann a@example.com")
    policyd.run("mailbox add ben b@example.com")
    told = imports(policyd, "name,addresses\nann,b@example.com\nben,c@example.com\n")
    assert "take away" not in "".join(told)
    assert held(policyd) == ["ann b@example.com*", "ben c@example.com*"]


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        ("sender,to,except\n@x.example,anyone,a@example.com\n@x.example,anyone,b@example.com\n", "a@example.com"),
        ("sender,to,except_sender\n@x.example,anyone,a@x.example\n@x.example,anyone,b@x.example\n", "a@x.example"),
        ("kind,name,members\nmailbox,a\nmailbox,b\ngroup,g,a\ngroup,G,b\n", "a"),
    ],
    ids=["exceptions by recipient", "exceptions by sender", "members"],
)
def test_items_that_one_row_takes_from_another_are_told(policyd, content, taken):
    """A row for each exception, or for each member, is how some people write lists."""
    told = imports(policyd, content)[1]
    assert f"and the last one counts: {taken} of " in told
    assert "take away" not in "".join(imports(policyd, content.rpartition("\n")[0].rpartition("\n")[0]))


# --- Letters that nobody sees ---


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_known(policyd, codec):
    """Some programs leave it out; the rejected rows are written likewise."""
    told = imports(policyd, "name,addresses\r\njörg,j@example.com\r\nx,x@\r\n".encode(codec), status=65)
    assert told[0].startswith("people.csv: read as csv")
    assert held(policyd) == ["jörg j@example.com*"]
    assert (policyd.folder / "people.csv.err").read_bytes() == "name,addresses\r\nx,x@\r\n".encode(codec)


def test_file_that_is_cut_within_a_letter_makes_nobody(policyd):
    """A half letter at the end is no mailbox."""
    told = imports(policyd, "\ufeffname,addresses\r\nann,a@example.com\r\nb".encode("utf-16-le")[:-1], status=65)
    assert "holds a character that nobody sees or that was lost" in told[1]
    assert [each["name"] for each in policyd.json("mailbox list")] == ["ann"]


@pytest.mark.parametrize("unseen", ["\u200b", "\ufeff", "\u00ad", "\u2060", "\ufffd"])
@pytest.mark.parametrize(
    "row", ["{}ann,a@example.com", "ann{},a@example.com", "ann,{}a@example.com", "ann,a{}@example.com"]
)
def test_letters_that_nobody_sees_are_told(policyd, unseen, row):
    """They come along where somebody pastes, and nobody could write to that address, or find that mailbox."""
    told = imports(policyd, f"name,addresses\n{row.format(unseen)}\n", status=65)
    assert "holds a character that nobody sees or that was lost" in told[1]
    assert held(policyd) == []


def test_letters_that_nobody_sees_in_quotes_are_meant(policyd):
    """A spammer may have one in its address, and then must be blocked by it; the export has the quotes, too."""
    policyd.run("sender block '\"e\u200bve\"@x.example'")
    assert blocked(policyd) == ["e\u200bve@x.example"]
    policyd.run(f"export --format csv -o {policyd.folder / 'all.csv'}")
    policyd.run("sender unblock '\"e\u200bve\"@x.example'")
    imports(policyd, (policyd.folder / "all.csv").read_bytes())
    assert blocked(policyd) == ["e\u200bve@x.example"]


# --- What is of no use ---


@pytest.mark.parametrize(
    ("content", "format_", "what"),
    [
        ("a@example.com OK\nexample.com DUNNO\n", "postfix", "1 dunno, 1 ok"),
        ("dn: ou=Staff,dc=example\nobjectClass: organizationalUnit\n", "ldif", "1 organizationalUnit"),
        ("Obj-Class,Directory Name,E-mail Addresses\nRemote,x,SMTP:x@elsewhere.example\n", "exchange-csv", "1 remote"),
        ('DN,objectClass,proxyAddresses\n"CN=x,DC=e",contact,SMTP:x@elsewhere.example\n', "csv", "1 contact"),
    ],
)
@pytest.mark.parametrize("option", ["", "--dry-run", "--json"])
def test_import_that_skips_everything_says_so_and_fails(policyd, content, format_, what, option):
    """A nightly import of the wrong file must not look like a good one."""
    (policyd.folder / "file").write_text(content)
    ended = policyd.ends(f"import {policyd.folder / 'file'} --format {format_} {option}")
    assert ended.status == 1
    assert f"nothing in it is of use to policyd, skipped: {what}; nothing was changed" in ended.err
    assert json.loads(ended.out)["rows"] if option == "--json" else "stands so already" not in ended.out


def test_import_that_skips_something_is_good(policyd):
    """Others came in."""
    imports(policyd, "a@example.net REJECT\nb@example.net OK\n", "--format postfix", name="access", status=0)

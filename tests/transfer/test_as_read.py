"""What is imported is what a person reading the file would say, for each format and the many ways to write it.

Files are made up at random, in the habits of spreadsheets, of Windows and of people; a small reader that knows nothing
of policyd's says who is in them.
"""

import csv
import io
import json
import random
import re

import pytest

from policyd.model import Receive
from policyd.records import BlockRow, ListEdit, MailboxRow, Notice
from policyd.transfer import address_list, csv_table, exchange, jsonl, ldif
from policyd.transfer.formats import Into
from tests.support.randomised import a_seed
from tests.support.transfer_reading import read_all

ROUNDS = 300
_SEEN = re.compile(r"(?:\b([A-Za-z0-9]+):\s*)?<?([a-z0-9.+_-]+@[a-z0-9.-]*[a-z0-9])>?")
_FOREIGN = (
    "X500:/o=Org/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Recipients/cn=x",
    "EX:/o=Org/ou=Site/cn=Recipients/cn=x",
    "=EX:/o=Org/cn=x",
    "X400:c=US;a= ;p=Org;o=Site;s=Clark;g=Carla;",
    "sip:x@chat.example",
    "EUM:1234;phone-context=plan.example",
    "MS:ORG/SITE/X",
)


@pytest.fixture(params=range(3))
def chance(request):
    """A source of chance, whose seed is printed."""
    return random.Random(a_seed() + request.param if request.param else 0)


def word(chance):
    """A plain local part."""
    return "".join(chance.choice("abcdefgh0123") for _ in range(chance.randint(1, 6))) + chance.choice(["", ".x", "-y"])


def addresses(chance):
    """Some addresses of one person, none of them twice."""
    return list(dict.fromkeys(f"{word(chance)}@{chance.choice(['example.com', 'b.example'])}" for _ in range(3)))


def cell(chance, own):
    """The addresses *own* in one text, in one of the ways in which people and programs write them."""
    separator = chance.choice([" ", ";", "; ", ", ", ",", " ; ", "\t", "  "])
    match chance.randrange(6):
        case 0:  # a spreadsheet
            return separator.join(own)
        case 1:  # Exchange's proxies, the primary one anywhere, and what is no SMTP address
            values = [f"SMTP:{own[0]}", *(f"smtp:{each}" for each in own[1:])]
            values += chance.sample(_FOREIGN, chance.randint(0, 3))
            values += ["smtp:"] * chance.randint(0, 1)
            chance.shuffle(values)
            return separator.join(values)
        case 2:  # a list as PowerShell shows it
            return "{" + ", ".join([f"SMTP:{own[0]}", *(f"smtp:{each}" for each in own[1:])]) + "}"
        case 3:  # a mail program
            return "; ".join(f"{chance.choice(['Carla Clark', 'Clark'])} <{each}>" for each in own)
        case 4:
            return separator.join(f"mailto:{each}" for each in own)
        case _:
            return separator.join(f"<{each}>" for each in own)


def said(text):
    """The addresses that a person sees in *text*: the one behind SMTP: first, else in their order."""
    bare = re.sub(r"(?:X500|X400|EX|MS|EUM):.*?(?=[\s;,{}]+(?:=?[A-Za-z0-9]+:|[a-z0-9.+_-]+@)|$)", "", text)
    seen = [(kind, address) for kind, address in _SEEN.findall(bare) if kind.lower() in ("", "smtp", "mailto")]
    return tuple(dict.fromkeys([each for kind, each in seen if kind == "SMTP"] + [each for _, each in seen]))


def rows_in(module, content, **options):
    """The rows of a file that is wholly good."""
    records = [each for each in read_all(module, content, **options) if not isinstance(each, Notice)]
    assert not [each for each in records if each.problems], content
    return [row for each in records for row in each.rows]


def test_csv_has_whom_a_person_sees_in_it(chance):
    """Whatever separates columns, and addresses in a cell."""
    for _ in range(ROUNDS):
        people = [(f"p{number}", cell(chance, addresses(chance))) for number in range(3)]
        text = io.StringIO()
        delimiter = chance.choice(",;\t")
        quoting = chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=chance.choice(["\n", "\r\n"]))
        writer.writerows([("Name", "displayName", "Addresses"), *((name, "Some, One", own) for name, own in people)])
        seen = csv.reader(io.StringIO(text.getvalue(), newline=""), delimiter=delimiter)
        expected = [MailboxRow(name, addresses=ListEdit(True, (), said(own))) for name, _, own in [*seen][1:]]
        assert rows_in(csv_table, text.getvalue()) == expected, text.getvalue()


def test_jsonl_has_whom_a_person_sees_in_it(chance):
    """Lists of texts, and texts that are lists."""
    for _ in range(ROUNDS):
        own = addresses(chance)
        value = chance.choice([cell(chance, own), own, [f"SMTP:{own[0]}", *(f"smtp:{each}" for each in own[1:])]])
        line = json.dumps({"name": "carla", "displayName": "Carla", "addresses": value})
        expected = said(" ".join(value) if isinstance(value, list) else value)
        assert rows_in(jsonl, line) == [MailboxRow("carla", addresses=ListEdit(True, (), expected))], line


def test_list_has_whom_a_person_sees_in_it(chance):
    """One a line or several; with types, they are one mailbox's."""
    for _ in range(ROUNDS):
        line = cell(chance, addresses(chance))
        seen = said(line)
        whole = [seen] if "SMTP:" in line else [(each,) for each in seen]
        rows = rows_in(address_list, f"{line}\n", into=Into.MAILBOXES)
        assert [row.addresses.add for row in rows] == whole, line


def test_list_of_senders_has_whom_a_person_sees_in_it(chance):
    """Addresses and patterns, between blanks, commas or semicolons."""
    for _ in range(ROUNDS):
        own = [
            chance.choice([each, f"@{each.rpartition('@')[2]}", f"{each.partition('@')[0]}@"])
            for each in addresses(chance)
        ]
        line = chance.choice([" ", "; ", ", ", ";", ","]).join(
            chance.choice(["", "", "mailto:", "smtp:"]) * (each[0] != "@" != each[-1]) + each for each in own
        )
        seen = [re.sub(r"^(?:mailto|smtp):", "", each) for each in re.split(r"[;,\s]+", line)]
        rows = rows_in(address_list, f"{line}\n", into=Into.BLOCKED)
        assert [row.sender.text for row in rows if isinstance(row, BlockRow)] == seen, line


def test_powershell_has_whom_a_person_sees_in_it(chance):
    """Get-Mailbox ... | Export-Csv, with and without the switches that people use."""
    for _ in range(ROUNDS):
        people = [(f"p{number}", addresses(chance), chance.choice(["True", "False"])) for number in range(3)]
        header = ["DisplayName", "Alias", "PrimarySmtpAddress", "EmailAddresses", "RequireSenderAuthenticationEnabled"]
        lines = [header]
        for name, own, flag in people:
            separator = chance.choice([" ", ";", ",", ", "])
            values = [f"SMTP:{own[0]}", *(f"smtp:{each}" for each in own[1:]), *chance.sample(_FOREIGN, 1)]
            chance.shuffle(values)
            lines.append([f"{name}, Dr.", name, own[0], separator.join(values), flag])
        text = "\r\n".join(",".join(f'"{each}"' for each in line) for line in lines) + "\r\n"
        text = chance.choice(["", "#TYPE Selected.Microsoft.Exchange.Data.Directory.Management.Mailbox\r\n"]) + text
        raw = chance.choice([text.encode(), b"\xef\xbb\xbf" + text.encode(), b"\xff\xfe" + text.encode("utf-16-le")])
        rows = rows_in(csv_table, raw)
        assert [(row.name, row.addresses.add[0], {*row.addresses.add}, row.receive) for row in rows] == [
            (name, own[0], {*own}, Receive.INSIDERS if flag == "True" else Receive.INHERIT)
            for name, own, flag in people
        ], text


def test_csvde_has_whom_a_person_sees_in_it(chance):
    """Values are separated by semicolons, with a backslash before their own; some are in hexadecimal."""
    for _ in range(ROUNDS):
        lines, expected = ["DN,objectClass,whenCreated,mailNickname,proxyAddresses,otherMailbox"], []
        for number in range(3):
            own = addresses(chance)
            values = [f"SMTP:{own[0]}", *(f"smtp:{each}" for each in own[1:]), *chance.sample(_FOREIGN, 2)]
            chance.shuffle(values)
            escaped = [value.replace("\\", "\\\\").replace(";", "\\;") for value in values]
            hexed = [
                f"X'{one.encode().hex()}'" if chance.random() < 0.1 else two
                for one, two in zip(values, escaped, strict=True)
            ]
            other = chance.choice(["", f"other{number}@example.com"])
            lines.append(f'"CN=P {number},DC=example,DC=com",user,20260101,p{number},"{";".join(hexed)}",{other}')
            expected.append((f"p{number}", own[0], {*own, *filter(None, [other])}))
        rows = rows_in(csv_table, "\r\n".join(lines))
        assert [(row.name, row.addresses.add[0], {*row.addresses.add}) for row in rows] == expected, lines


def test_ldif_has_whom_a_person_sees_in_it(chance):
    """A value a line; what is odd costs itself."""
    for _ in range(ROUNDS):
        own = addresses(chance)
        odd = chance.sample([*_FOREIGN, "smtp:", "SMTP:", "notes (old):x@y", ":"], 2)
        values = [f"SMTP:{own[0]}", *(f"smtp:{each}" for each in own[1:]), *odd]
        chance.shuffle(values)
        proxies = "\n".join(f"proxyAddresses: {value}" for value in values)
        rows = rows_in(ldif, f"dn: cn=x\nmailNickname: x\n{proxies}\notherMailbox: o@example.com\n")
        assert [(row.addresses.add[0], {*row.addresses.add}) for row in rows] == [(own[0], {*own, "o@example.com"})], (
            values
        )


def test_exchange_export_has_whom_a_person_sees_in_it(chance):
    """The directory export of Exchange 5.5: the primary address stands alone, others in a list with % between them."""
    for _ in range(ROUNDS):
        lines, expected = ["Obj-Class,Directory Name,E-mail Addresses,Secondary-Proxy-Addresses"], []
        for number in range(3):
            own = addresses(chance)
            secondary = [f"{chance.choice(['SMTP', 'smtp'])}:{each}" for each in own[1:]]
            secondary += chance.sample(["X400:c=US;a= ;p=Org;s=Able;", "MS:ORG/SITE/ABLE", "CCMAIL:Able at Site"], 1)
            chance.shuffle(secondary)
            lines.append(f"Mailbox,p{number},SMTP:{own[0]},{'%'.join(secondary)}")
            expected.append((f"p{number}", own[0], {*own}))
        rows = rows_in(exchange, "\r\n".join(lines))
        assert [(row.name, row.addresses.add[0], {*row.addresses.add}) for row in rows] == expected, lines

"""A real directory server's export, read: what ldapsearch prints becomes the rows that its entries mean.

And the whole way: from the directory through `policyd import` to the answers of the running daemon, and back.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.model import Mailbox, Receive
from policyd.records import KEEP, GroupRow, ListEdit, MailboxRow, Record
from policyd.transfer import ldif
from policyd.transfer.formats import ReadOptions
from tests.support import preloaded
from tests.support.fake_smtpd import request
from tests.support.parties import parties, party_set
from tests.support.running_daemon import Daemon
from tests.support.slapd import EXPORTED, SUFFIX, Directory, run_directory
from tests.support.tables_strategies import FixedTables

PEOPLE = f"""\
dn: ou=people,{SUFFIX}
objectClass: organizationalUnit
ou: people

dn: uid=alice,ou=people,{SUFFIX}
objectClass: inetOrgPerson
uid: alice
cn: Alice Able
sn: Able
mail: Alice@Example.test
mail: a.able@example.test

dn: uid=bob,ou=people,{SUFFIX}
objectClass: inetOrgPerson
objectClass: mailRecipient
uid: bob
cn:: QsO2YiB0aGUgQnVpbGRlciA=
sn: Bob
description: a line so long that ldapsearch folds it, as it does with everything that has more than 78 columns
mail: bob@example.test
proxyAddresses: SMTP:Bob@example.test
proxyAddresses: smtp:b@example.test
proxyAddresses: X400:c=US;a= ;p=Org;
msExchRequireAuthToSendTo: TRUE
unauthOrig: uid=alice,ou=people,{SUFFIX}

dn: cn=board,ou=people,{SUFFIX}
objectClass: groupOfNames
objectClass: mailRecipient
cn: board
mailNickname: board
proxyAddresses: SMTP:board@example.test
member: uid=alice,ou=people,{SUFFIX}
member: uid=bob,ou=people,{SUFFIX}
dLMemSubmitPerms: cn=board,ou=people,{SUFFIX}
"""

ROWS = {
    "alice": MailboxRow("alice", addresses=ListEdit(True, add=("alice@example.test", "a.able@example.test"))),
    "bob": MailboxRow(
        "bob",
        addresses=ListEdit(True, add=("bob@example.test", "b@example.test")),
        receive=Receive.INSIDERS,
        is_flag=True,
        rejected=ListEdit(True, add=parties("alice")),
    ),
    "board": MailboxRow(
        "board",
        addresses=ListEdit(True, add=("board@example.test",)),
        receive=Receive.NOBODY,
        accepted=ListEdit(True, add=parties("group:board")),
    ),
    "group:board": GroupRow("board", members=ListEdit(True, add=parties("alice", "bob"))),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Iterator[Directory]:
    with run_directory(Path(tmp_path_factory.mktemp("slapd"))) as running:
        running.add(PEOPLE)
        yield running


def rows_of(raw: bytes) -> dict[str, MailboxRow | GroupRow]:
    """The mailboxes and groups in an export that is wholly good."""
    found: dict[str, MailboxRow | GroupRow] = {}
    for record in ldif.read(io.BytesIO(raw), ReadOptions()):
        assert isinstance(record, Record)
        assert record.problems == ()
        for row in record.rows:
            assert isinstance(row, MailboxRow | GroupRow)
            found[f"group:{row.name}" if isinstance(row, GroupRow) else row.name] = row
    return found


@pytest.mark.parametrize(
    "arguments",
    [(), ("-LLL",), ("-LLL", "-o", "ldif-wrap=no"), ("-LLL", "*", "+"), ("-LLL", "-E", "pr=2/noprompt")],
    ids=["with-comments", "plain", "not-folded", "with-operational-attributes", "in-pages"],
)
def test_export_of_a_directory_server_becomes_its_mailboxes(directory, arguments):
    assert rows_of(directory.export(*arguments)) == ROWS


def test_export_of_some_attributes_leaves_the_rest_as_it_is(directory):
    found = rows_of(directory.export("-LLL", "(uid=bob)", "mail", "uid"))
    assert found == {"bob": MailboxRow("bob", addresses=ListEdit(True, add=("bob@example.test",)), receive=KEEP)}


def test_what_is_written_loads_into_a_directory_server(tmp_path):
    """Nobody is locked in: ldapadd takes the export, and what the server gives out again says the same."""

    bob = Mailbox("bob", Receive.NOBODY, accepted=party_set("x@elsewhere.test"))
    tables = FixedTables(
        held_mailboxes=(
            (Mailbox("älice, a+b"), ("alice@example.test", "a.able@example.test")),
            (bob, ("b b@example.test",)),
            (Mailbox("carol", Receive.NOBODY), ()),
        )
    )
    lost: Counter[str] = Counter()
    text = "".join(ldif.write(tables, lost))
    text = text.replace("objectClass: inetOrgPerson", "objectClass: inetOrgPerson\nobjectClass: mailRecipient")
    assert lost == {}
    with run_directory(tmp_path / "slapd") as running:
        running.add(text, EXPORTED)
        assert rows_of(running.export("-LLL", below=EXPORTED)) == rows_of(text.encode())


# Whom Active Directory restricts in each of its ways, beside PEOPLE.
RESTRICTED = f"""\
dn: ou=restricted,{SUFFIX}
objectClass: organizationalUnit
ou: restricted

dn: cn=Partner,ou=restricted,{SUFFIX}
objectClass: contact
cn: Partner
targetAddress: SMTP:partner@elsewhere.test

dn: cn=Carol Chief,ou=restricted,{SUFFIX}
objectClass: inetOrgPerson
objectClass: mailRecipient
cn: Carol Chief
sn: Chief
uid: cchief
mailNickname: carol
proxyAddresses: SMTP:carol@example.test
proxyAddresses: smtp:Müller+news@example.test
authOrig: uid=alice,ou=people,{SUFFIX}
authOrig: cn=Partner,ou=restricted,{SUFFIX}

dn: uid=dora,ou=restricted,{SUFFIX}
objectClass: inetOrgPerson
objectClass: mailRecipient
uid: dora
cn: Dora
sn: D
mail: dora@example.test
unauthOrig: cn=Partner,ou=restricted,{SUFFIX}
dLMemRejectPerms: cn=board,ou=people,{SUFFIX}
msExchRequireAuthToSendTo: FALSE
"""
CHANGES = f"""\
dn: uid=dora,ou=restricted,{SUFFIX}
changetype: modify
replace: msExchRequireAuthToSendTo
msExchRequireAuthToSendTo: TRUE
-
add: mail
mail: d@example.test
-

dn: uid=erin,ou=people,{SUFFIX}
changetype: add
objectClass: inetOrgPerson
uid: erin
cn: Erin
sn: E
mail: erin@example.test

"""
LATER = f"""\
dn: uid=bob,ou=people,{SUFFIX}
changetype: delete

dn: uid=alice,ou=people,{SUFFIX}
changetype: modify
delete: mail
mail: a.able@example.test
-

dn: uid=dora,ou=restricted,{SUFFIX}
changetype: modify
replace: msExchRequireAuthToSendTo
msExchRequireAuthToSendTo: FALSE
-
delete: unauthOrig
unauthOrig: cn=Partner,ou=restricted,{SUFFIX}
-

dn: cn=board,ou=people,{SUFFIX}
changetype: modify
delete: member
member: uid=bob,ou=people,{SUFFIX}
-

"""
STRANGER = "x@outside.test"
PARTNER = "partner@elsewhere.test"
UNLISTED = "REJECT 5.1.1 This address does not receive mail"
CLOSED = "REJECT 5.7.1 This mailbox does not take mail from this sender"
BLOCKED = "REJECT 5.7.1 This sender may not write to this recipient"
# What is asked, by what stands before the arrow: `login/sender`, or the sender alone.
ANSWERS = {
    f"{STRANGER} -> alice@example.test": "DUNNO",
    f"{STRANGER} -> a.able+x@example.test": "DUNNO",
    f"{STRANGER} -> nosuch@example.test": UNLISTED,
    f"{STRANGER} -> erin@example.test": UNLISTED,
    f"{STRANGER} -> cchief@example.test": UNLISTED,
    f"{STRANGER} -> x@outside.test": "DUNNO",
    f"{STRANGER} -> b@example.test": CLOSED,
    f"carol@example.test/{STRANGER} -> b@example.test": "DUNNO",
    "alice@example.test/carol@example.test -> bob@example.test": BLOCKED,
    "alice/ -> bob@example.test": BLOCKED,
    "a.able@example.test -> bob@example.test": BLOCKED,
    f"{STRANGER} -> board@example.test": CLOSED,
    "b@example.test -> board@example.test": CLOSED,
    f"dora/{STRANGER} -> board@example.test": CLOSED,
    f"{STRANGER} -> carol@example.test": CLOSED,
    "a.able@example.test -> müller+news@example.test": CLOSED,
    f"{PARTNER} -> carol@example.test": "DUNNO",
    f"{STRANGER} -> dora@example.test": "DUNNO",
    f"{STRANGER} -> d@example.test": UNLISTED,
    f"{PARTNER} -> dora@example.test": BLOCKED,
    "bob@example.test -> dora@example.test": BLOCKED,
}
CHANGED = {
    f"{STRANGER} -> dora@example.test": CLOSED,
    f"{STRANGER} -> d@example.test": CLOSED,
    f"alice/{STRANGER} -> d@example.test": BLOCKED,
    f"carol/{STRANGER} -> d@example.test": "DUNNO",
    f"{STRANGER} -> erin@example.test": "DUNNO",
}
REPLACED = {
    f"{STRANGER} -> b@example.test": UNLISTED,
    f"carol@example.test/{STRANGER} -> b@example.test": "DUNNO",  # unlisted, which an insider may try
    "alice@example.test/carol@example.test -> bob@example.test": "DUNNO",
    "alice/ -> bob@example.test": "DUNNO",
    "a.able@example.test -> bob@example.test": UNLISTED,
    f"{STRANGER} -> a.able+x@example.test": UNLISTED,
    "a.able@example.test -> müller+news@example.test": CLOSED,
    "b@example.test -> board@example.test": CLOSED,
    f"{STRANGER} -> dora@example.test": "DUNNO",
    "bob@example.test -> dora@example.test": "DUNNO",
    f"{STRANGER} -> d@example.test": "DUNNO",
    f"{PARTNER} -> dora@example.test": "DUNNO",
}


@pytest.fixture
def whole_directory(tmp_path) -> Iterator[Directory]:
    """A directory server with all the people, for one test to change."""
    with run_directory(tmp_path / "slapd") as running:
        running.add(PEOPLE)
        running.add(RESTRICTED)
        yield running


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    """policyd, not started, without a database."""
    (tmp_path / "policyd").mkdir()
    with Daemon(tmp_path / "policyd") as made:
        yield made


def run_import(daemon: Daemon, raw: bytes, *words: str | Path) -> str:
    """What `policyd import`, as a process of its own, says of an export; it must take every record."""
    file = daemon.folder / "people.ldif"
    file.write_bytes(raw)
    done = preloaded.run(daemon.arguments("import", file, *words))
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout, "utf-8")


def answers(daemon: Daemon, expected: dict[str, str]) -> dict[str, str]:
    """What the running daemon says to the questions that are the keys of *expected*."""
    found = {}
    for question in expected:
        client, _, recipient = question.partition(" -> ")
        login, _, sender = client.rpartition("/")
        found[question] = daemon.ask(request(sender=sender, sasl_username=login, recipient=recipient))
    return found


def test_daemon_answers_as_the_directory_says(whole_directory, daemon):
    """What an administrator set in the directory is what the next mail meets, without a restart."""
    daemon.command("domain", "add", "example.test")
    run_import(daemon, whole_directory.export())
    daemon.start()
    assert answers(daemon, ANSWERS) == ANSWERS
    whole_directory.modify(CHANGES)
    run_import(daemon, CHANGES.encode())
    changed = ANSWERS | CHANGED
    assert answers(daemon, changed) == changed
    whole_directory.modify(LATER)
    run_import(daemon, whole_directory.export("-LLL"), "--replace", "--max-remove", "50")
    replaced = changed | REPLACED
    assert answers(daemon, replaced) == replaced
    assert daemon.stop() == (0, "")


def test_changes_end_where_a_new_export_does(whole_directory, daemon):
    """Whether changes or everything is imported, night after night, the tables are the same."""
    daemon.command("domain", "add", "example.test")
    run_import(daemon, whole_directory.export())
    run_import(daemon, CHANGES.encode())
    whole_directory.modify(CHANGES)
    before = tables_of(daemon)
    run_import(daemon, whole_directory.export(), "--replace")
    assert tables_of(daemon) == before


def test_export_goes_round_through_a_directory(whole_directory, daemon, tmp_path):
    """Nobody is locked in: a directory takes the export, and gives out again what makes the same tables."""
    daemon.command("domain", "add", "example.test")
    run_import(daemon, whole_directory.export())
    before = tables_of(daemon)
    exported = daemon.command("export", "--format", "ldif")
    whole_directory.add(
        exported.replace("objectClass: inetOrgPerson", "objectClass: inetOrgPerson\nobjectClass: mailRecipient"),
        EXPORTED,
    )
    (tmp_path / "again").mkdir()
    with Daemon(tmp_path / "again") as again:
        run_import(again, whole_directory.export("-LLL", below=EXPORTED), "--add-domains")
        assert tables_of(again) == before


def tables_of(daemon: Daemon) -> list[dict[str, object]]:
    """All that is in the tables, but for when and by whom."""
    rows = [json.loads(line) for line in daemon.command("export", "--format", "jsonl").splitlines()]
    for row in rows:
        row.pop("created_at", None)
        row.pop("created_by", None)
    return sorted(rows, key=json.dumps)

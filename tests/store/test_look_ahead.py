"""What an import finds out for hundreds of records at once, and writes so: the tables are as if each came alone."""

import random
from contextlib import closing

import pytest
from sqlalchemy import func, insert, select, update

from policyd.records import AddressRow, DomainRow, ListEdit, MailboxRow, Record, RowMode
from policyd.store.connection import Connection, Statement
from policyd.store.database import SQLITE, new_tables
from policyd.store.schema import domain, journal_head, metadata
from tests.support.parties import parties
from tests.support.randomised import a_seed
from tests.support.writing import bulk_on

ADD = Statement(insert(domain))
COUNT = Statement(select(func.count()).select_from(domain))
COUNT_BELOW = Statement(select(select(func.count()).select_from(domain).scalar_subquery()))
COMMENT = Statement(update(domain).values(comment="seen"))
NAMES = ("Alice", "alice", "Bob", "BOB", "Straße", "strasse", "carol")
TABLES = [table for table in metadata.sorted_tables if table is not journal_head]  # which has a random name
LOCALS = ("a", "b", "c", "d", "e")


@pytest.fixture
def connection():
    """The tables in memory, in a transaction."""
    driver = new_tables()
    driver.execute("BEGIN")
    yield Connection(driver, SQLITE)
    driver.close()


def add_late(connection, name):
    """Add a domain, not at once."""
    connection.run_late(ADD, (name, "reject", None, "anyone", "", None, ""))


def held(connection):
    """How many domains are in the table by now, whatever is late."""
    return connection.driver.execute("SELECT count(*) FROM domain").fetchone()[0]


def test_late_row_is_there_for_whoever_asks_for_its_table(connection):
    """Rows are collected only as long as nobody can tell, be it in a subquery or in a change of them."""
    add_late(connection, "a.example")
    assert held(connection) == 0
    assert connection.fetch(COUNT) == [(1,)]
    add_late(connection, "b.example")
    assert connection.fetch(COUNT_BELOW) == [(2,)]
    add_late(connection, "c.example")
    assert [*connection.stream(COUNT)] == [(3,)]
    add_late(connection, "d.example")
    connection.run(COMMENT, "seen")
    assert connection.driver.execute("SELECT DISTINCT comment FROM domain").fetchall() == [("seen",)]


def test_late_rows_do_not_fill_the_memory(connection):
    """A file may have millions."""
    for number in range(1200):
        add_late(connection, f"d{number}.example")
    assert held(connection) == 1000
    connection.finish()
    assert held(connection) == 1200


def test_late_rows_belong_to_their_savepoint(connection):
    """What came before a savepoint stays when the part behind it is rolled back, and what came in that part goes."""
    add_late(connection, "a.example")
    connection.set_savepoint()
    add_late(connection, "b.example")
    connection.roll_back_to_savepoint()
    connection.set_savepoint()
    add_late(connection, "c.example")
    connection.release_savepoint()
    connection.finish()
    assert connection.driver.execute("SELECT name FROM domain").fetchall() == [("a.example",), ("c.example",)]


def made(records, ahead):
    """The tables after an import of *records*, so many of which are looked *ahead* for; what was wrong; the tally."""
    with closing(new_tables()) as driver:
        driver.execute("BEGIN")
        connection = Connection(driver, SQLITE)
        bulk = bulk_on(connection, adds_domains=True)
        wrong = []
        for position, record in enumerate(records):
            if ahead and position % ahead == 0:
                bulk.look_ahead(records[position : position + ahead])
            wrong += [(record.line, each.message) for each in bulk.apply(record)]
        wrong += [(record.line, each.message) for record, found in bulk.finish() for each in found]
        connection.finish()
        rows = {table.name: driver.execute(f'SELECT * FROM "{table.name}" ORDER BY 1').fetchall() for table in TABLES}
        return rows, wrong, bulk.tally


def a_row(chance):
    """A row about one of few mailboxes, with some of few addresses, so that rows meet."""
    addresses = tuple(f"{each}@{chance.choice(('example.com', 'other.example'))}" for each in chance.sample(LOCALS, 2))
    edit = ListEdit(chance.random() < 0.3, chance.choice(((), addresses[:1])), addresses[: chance.randrange(3)])
    match chance.randrange(8):
        case 0:
            return MailboxRow(chance.choice(NAMES), RowMode.DELETE)
        case 1:
            return AddressRow(addresses[0], chance.choice(NAMES))
        case 2:
            return DomainRow("other.example", chance.choice((RowMode.UPDATE, RowMode.DELETE)))
        case 3:
            accepted = ListEdit(add=tuple(parties(chance.choice(NAMES))))
            return MailboxRow(chance.choice(NAMES), accepted=accepted, rejected=accepted)
        case _:
            return MailboxRow(chance.choice(NAMES), addresses=edit, comment=chance.choice(("", "x")))


def test_rows_looked_ahead_for_come_out_as_rows_alone():
    """What was found out for a record may be another thing by the time it is its turn: others took or left it."""
    chance = random.Random(a_seed())
    for _ in range(6):
        records = [Record(line, f"line {line}", (a_row(chance),)) for line in range(1, 41)]
        assert made(records, chance.choice((7, 40))) == made(records, 0)


def test_mailboxes_take_few_statements_by_the_hundred(connection):
    """An import of a million takes minutes: a question for each of them would take one more."""
    rows = [MailboxRow(f"u{number}", addresses=ListEdit(add=(f"u{number}@example.com",))) for number in range(200)]
    records = [Record(line, "", (row,)) for line, row in enumerate(rows)]
    add_late(connection, "example.com")
    bulk = bulk_on(connection)
    asked: list[str] = []
    connection.driver.set_trace_callback(asked.append)
    for _ in range(2):
        bulk.look_ahead(records)
        assert [bulk.apply(record) for record in records] == [()] * 200
    assert len([each for each in asked if each.startswith("SELECT")]) <= 15
    assert bulk.tally == {(kind, what): 200 for kind in ("mailbox", "address") for what in ("added", "unchanged")}

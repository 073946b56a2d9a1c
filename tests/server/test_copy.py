"""`policyd database copy`: a whole database between a file and a server, numbers and digests too."""

import sqlite3
from contextlib import closing

import psycopg
import pytest

from policyd.store import rows
from policyd.store.connection import Database
from policyd.store.database import postgresql
from policyd.store.schema import metadata


def rows_of_file(path):
    """Every row of a database in a file."""
    with closing(sqlite3.connect(path)) as file:
        return {
            table.name: sorted(file.execute(f'SELECT * FROM "{table.name}"'), key=repr)
            for table in metadata.sorted_tables
        }


def rows_of_server(url):
    """Every row of one on a server."""
    with psycopg.connect(url) as connection:
        return {
            table.name: sorted(connection.execute(f'SELECT * FROM "{table.name}"'.encode()).fetchall(), key=repr)
            for table in metadata.sorted_tables
        }


@pytest.fixture
def company(policyd):
    """A bit of everything."""
    for line in (
        "mailbox add Jörg jörg@example.com '\"j b\"@example.com'",
        "mailbox add bob bob@example.com",
        "group add staff Jörg",
        "group restrict staff --accept @a.example --reason 'ab — cd ☠'",
        "sender block Jörg @spam.example --to anyone --except @b.example --except @c.example --except bob --until +3d",
        "mailbox remove bob",
        "undo 8",
    ):
        policyd.ends(line)
    return policyd


@pytest.mark.parametrize("page", [1, 5000])
def test_database_goes_to_a_file_and_to_a_server_again_as_it_is(company, server, monkeypatch, page):
    """Equal row by row, so that a replica of the one follows the other; wherever a page ends, also inside a list."""
    monkeypatch.setattr(rows, "_AT_ONCE", page)
    file, empty = company.folder / "copy.db", server.url(server.make_empty())
    assert company.says(f"database copy --to {file}")[-1] == f"copied {company.store} to {file}"
    assert rows_of_file(file) == rows_of_server(company.url)
    company.run(f"database copy --database {file} --to '{empty}'")
    assert rows_of_server(empty) == rows_of_server(company.url)
    for copy in (str(file), empty):
        company.run(f"mailbox add carol carol@example.com --database '{copy}'")
        assert company.run(f"database check --database '{copy}'") == ""


def test_pages_are_of_one_state_whatever_is_changed_meanwhile(company, monkeypatch):
    """A first copy takes a minute, and says which change it is at: what came later is followed."""
    monkeypatch.setattr(rows, "_AT_ONCE", 1)
    before = rows_of_server(company.url)
    read: dict[str, list[object]] = {}
    with postgresql().following(Database(company.url)) as truth, truth.all() as (position, pages):
        for number, (table, some) in enumerate(pages):
            read.setdefault(table, []).extend(some)
            company.run(f"mailbox add m{number}")
    assert {table: sorted(some, key=repr) for table, some in read.items()} == {table: before[table] for table in read}
    assert {table for table, some in before.items() if some} - {*read} == {"change", "journal_head"}
    assert [position.id] == [number for (_, _, number, *_) in before["journal_head"]]


def test_target_with_anything_in_it_is_left_as_it_is(company, server):
    """Somebody's tables, policyd's own, or a file."""
    before = rows_of_server(company.url)
    assert "it has the tables already; it was left as it is" in company.refuses(
        f"database copy --to '{company.url}'", 73
    )
    name = server.make_empty()
    server.execute("CREATE TABLE orders (id INTEGER)", name)
    assert "it has a table orders; it was left as it is" in company.refuses(
        f"database copy --to '{server.url(name)}'", 73
    )
    file = company.folder / "there.db"
    file.write_text("precious")
    company.refuses(f"database copy --to {file}", 73)
    assert (file.read_text(), rows_of_server(company.url)) == ("precious", before)


def odd_file(company, statement, *values):
    """A copy in a file, altered past everything of ours."""
    file = company.folder / "odd.db"
    company.run(f"database copy --to {file}")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(statement, values)
    return file


def test_what_postgresql_can_not_hold_is_named_and_nothing_is_copied(company, server):
    """By table and key, so that somebody can change it."""
    name = server.make_empty()
    file = odd_file(company, "UPDATE mailbox SET comment = ? WHERE folded_name = 'jörg'", "a\0b")
    message = company.refuses(f"database copy --database {file} --to '{server.url(name)}'")
    assert message.startswith(
        "policyd: mailbox 1 has a text with a NUL character, which PostgreSQL can't hold: 'a\\x00b'"
    )
    assert server.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace", name) == []


def test_journal_that_is_not_whole_is_not_copied(company, server):
    """A copy says of itself that it is the database; a broken chain would be carried on for ever."""
    name = server.make_empty()
    file = odd_file(company, "UPDATE change SET actor = 'nobody' WHERE id = 2")
    message = company.refuses(f"database copy --database {file} --to '{server.url(name)}'")
    assert "change 2 was not copied as it is, or has a wrong digest; nothing was kept" in message
    assert server.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace", name) == []

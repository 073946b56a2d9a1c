"""A session: what is kept is logged, line by line or in one; what is not kept leaves no trace."""

import pytest

from policyd.admin.session import Session, Summary
from policyd.errors import RefusedError
from policyd.model import Domain
from policyd.settings import AuditSettings
from policyd.store.connection import Database
from tests.support.running_daemon import Syslog
from tests.support.writing import ACTOR, NOW


@pytest.fixture
def syslog(tmp_path):
    """A syslog of its own."""
    syslog = Syslog(tmp_path / "log")
    yield syslog
    syslog.close()


@pytest.fixture
def session(tmp_path, syslog):
    """A session on a database that is not made yet."""
    return Session(Database.at(tmp_path / "policyd.db"), AuditSettings(syslog=f"unix:{tmp_path / 'log'}"))


def names(session):
    """The managed domains."""
    with session.reading() as queries:
        return [domain.name for domain in queries.domains()]


def test_change_is_logged_when_it_is_committed(session, syslog):
    """A line about what was rolled back would be a lie; one that is missing would hide a change."""
    with session.changing(ACTOR, NOW, may_create=True) as made:
        made.edit.add_domain(Domain("example.com"))
        assert syslog.lines() == []
    assert (made.is_kept, made.is_logged, made.changeset, made.count) == (True, True, 1, 1)
    syslog.wait_for("operation=domain.add, object=example.com")
    assert names(session) == ["example.com"]


def test_discarded_change_leaves_no_trace(session, syslog):
    """A dry run does all the work, and shows what it would come to."""
    with session.changing(ACTOR, NOW, may_create=True) as made:
        made.edit.add_domain(Domain("example.com"))
        made.discard()
    assert (made.is_kept, made.changeset, [change.object for change in made.changes]) == (False, None, ["example.com"])
    assert (names(session), syslog.lines()) == ([], [])


def test_refused_change_leaves_no_trace(session, syslog):
    """Neither does the part of it that was good."""

    def add_twice() -> None:
        with session.changing(ACTOR, NOW, may_create=True) as made:
            made.edit.add_domain(Domain("example.com"))
            made.edit.add_domain(Domain("example.com"))

    with pytest.raises(RefusedError):
        add_twice()
    assert (names(session), syslog.lines()) == ([], [])


@pytest.mark.parametrize(
    ("above", "last", "operations"),
    [(2, "object=b.example", ["domain.undo"] * 2), (1, 'object="changeset 7"', ["database.undo"])],
)
def test_large_changeset_is_one_line(session, syslog, above, last, operations):
    """A million lines would drown the log; the journal has each change."""
    summary = Summary("database.undo", "changeset 7", above=above)
    with session.changing(ACTOR, NOW, verb="undo", summary=summary, may_create=True) as made:
        made.edit.add_domain(Domain("a.example"))
        made.edit.add_domain(Domain("b.example"))
    syslog.wait_for(last)
    assert [line.partition("operation=")[2].partition(",")[0] for line in syslog.lines()] == operations
    assert made.count == 2


def test_change_is_kept_where_no_log_takes_it(tmp_path):
    """The journal has it; whoever made it hears that the log lacks it."""
    session = Session(Database.at(tmp_path / "policyd.db"), AuditSettings(syslog=f"unix:{tmp_path / 'none'}"))
    with session.changing(ACTOR, NOW, may_create=True) as made:
        made.edit.add_domain(Domain("example.com"))
    assert (made.is_kept, made.is_logged) == (True, False)
    assert names(session) == ["example.com"]

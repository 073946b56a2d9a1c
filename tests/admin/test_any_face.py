"""What administrators do, asked for by something else than the command line: a page, or a library."""

import io
import subprocess
import sys

import pytest

from policyd import changes
from policyd.admin.asking import as_object, explain, find_address, typed_request
from policyd.admin.importing import Callbacks, ImportPlan, import_file
from policyd.admin.session import Session, open_session
from policyd.admin.showing import list_addresses, list_blocked_senders, list_mailboxes, show_mailbox, show_sender
from policyd.admin.undoing import undo
from policyd.errors import NotManagedError, RefusedError, StoreError
from policyd.model import OUTSIDE, Action, Domain
from policyd.settings import AuditSettings, Settings
from policyd.store.edit import EntryTerms
from policyd.transfer.formats import ReadOptions
from tests.support.parties import party
from tests.support.writing import ACTOR, NOW


@pytest.fixture
def settings(tmp_path):
    """Settings with a database that is not made yet, and no log."""
    return Settings(database=f"sqlite:///{tmp_path / 'policyd.db'}", audit=AuditSettings(syslog=f"unix:{tmp_path}/log"))


@pytest.fixture
def session(settings):
    """A session on tables with alice, who is blocked, and bob."""
    session = open_session(settings)
    with session.changing(ACTOR, NOW, may_create=True) as made:
        made.edit.add_domain(Domain("example.com"))
        made.edit.add_mailbox("alice", ["alice@example.com", "a.smith@example.com"], "")
        made.edit.add_mailbox("Bob", ["bob@example.com"], "")
    with session.changing(ACTOR, NOW) as made:
        made.edit.block_sender(party("alice"), OUTSIDE, EntryTerms(reason="left"))
    return session


def import_text(session: Session, text: str, plan: ImportPlan):
    """Import *text*, and return what came of it."""
    heard = Callbacks(lambda notice: None, lambda record, problems: None, lambda: None)
    return import_file(
        session, session.database.path.with_name("rows"), io.BytesIO(text.encode()), plan, ACTOR, NOW, heard
    )


def test_what_the_tables_hold_is_shown_as_plain_values(session):
    """A page shows what `show` and `list` print, from the same objects."""
    with session.reading() as queries:
        assert [each["name"] for each in list_mailboxes(queries, NOW)] == ["alice", "Bob"]
        alice = show_mailbox(queries, "ALICE", NOW)
        assert alice["addresses"] == ["alice@example.com", "a.smith@example.com"]
        assert [entry["reason"] for entry in alice["blocked"]] == ["left"]
        assert alice["blocked_to_it"] == []
        entries = [*list_blocked_senders(queries, NOW, is_expired=False)]
        assert show_sender(queries, party("alice"), NOW) == entries == alice["blocked"]
        assert [*list_blocked_senders(queries, NOW, is_expired=True)] == []
        assert [each["address"] for each in list_addresses(queries, "example.com")] == [
            "a.smith@example.com",
            "alice@example.com",
            "bob@example.com",
        ]


def test_what_is_not_there_is_refused_with_what_to_do(session, settings):
    """A page has no better words for it than the command line."""
    with session.reading() as queries:
        for ask in (
            lambda: show_mailbox(queries, "carol", NOW),
            lambda: show_sender(queries, party("Bob"), NOW),
            lambda: show_sender(queries, party("x@y.example"), NOW),
        ):
            with pytest.raises(RefusedError, match="see: policyd"):
                ask()
        with pytest.raises(NotManagedError):
            list_addresses(queries, "other.example")
    with pytest.raises(RefusedError, match=r"policyd address add MAILBOX nobody@example\.com"):
        find_address(session.database, settings, "nobody@example.com")


def test_change_is_told_in_words_and_undone(session):
    """The journal on a page reads as `history` does, and has a way back."""
    undone = undo(session, 7, ACTOR, NOW)
    assert undone.changeset is not None
    with session.reading() as queries:
        block, unblock = [*queries.changes(of_object="alice")][-2:]
    assert changes.describe(block) == "blocked sender alice to outside: added: reason left"
    assert (changes.difference(unblock), unblock.operation) == ("removed", "sender.undo")
    assert changes.as_object(unblock)["after"] is None


def test_dry_run_of_an_undo_keeps_nothing(session):
    """It shows what would change."""
    undone = undo(session, 7, ACTOR, NOW, is_dry_run=True)
    assert (undone.count, undone.changeset) == (1, None)
    with session.reading() as queries:
        assert len(show_sender(queries, party("alice"), NOW)) == 1


def test_question_is_answered_and_explained(session, settings):
    """A page asks with what a person typed: a quoted address is the one that Postfix sends without quotes."""
    request = typed_request('"bob"@example.com', "<>", "alice", "", "")
    decision, trace = explain(session.database, settings, request, NOW)
    shown = as_object(request, decision, trace, settings.origin)
    assert (shown["action"], shown["mailbox"], shown["recipient"]) == (Action.DUNNO, "Bob", "bob@example.com")
    assert find_address(session.database, settings, "bob@example.com")["mailbox"] == "Bob"


def test_replacing_import_with_a_wrong_row_changes_nothing(session, tmp_path, monkeypatch):
    """What one wrong row does not name would be removed, whoever asks for the import."""
    monkeypatch.chdir(tmp_path)  # where the rejected row goes
    plan = ImportPlan("csv", ReadOptions(), is_replacing=True, max_remove=100)
    outcome = import_text(session, "name,addresses\nBob,bob@example.com\ncarol,no address\n", plan)
    assert (outcome.is_kept, outcome.rejected) == (False, 1)
    with session.reading() as queries:
        assert [each["name"] for each in list_mailboxes(queries, NOW)] == ["alice", "Bob"]


def test_database_that_everybody_can_write_is_refused(session, settings):
    """Whichever face asks: what others could have written there decides nothing."""
    session.database.path.chmod(0o666)
    with pytest.raises(StoreError, match="everybody can write it"):
        open_session(settings)


def test_no_use_case_needs_the_command_line():
    """A page that imports click, or prints, would be a second command line."""
    program = """
import sys
import policyd.admin.asking, policyd.admin.exporting, policyd.admin.importing, policyd.admin.session
import policyd.admin.showing, policyd.admin.undoing, policyd.admin.upkeep
assert not [name for name in sys.modules if name.startswith(("click", "rich", "twisted", "policyd.cli"))]
"""
    subprocess.run([sys.executable, "-c", program], check=True)

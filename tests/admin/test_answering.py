"""The help desk asks why this was refused: one sentence answers it, with who set it, and the rest stands behind."""

from datetime import datetime

import pytest

from policyd.admin.answering import answer
from policyd.admin.asking import typed_request
from policyd.admin.session import open_session
from policyd.model import OUTSIDE, Domain, Receive, Unlisted
from policyd.settings import AuditSettings, Settings
from policyd.store.edit import EntryTerms, RestrictionTerms, need_group, need_mailbox
from policyd.timestamps import day_in_words
from tests.support.parties import party, party_set

ANN = "root(sudo:ann)"
SET = int(datetime(2026, 11, 3, 10, 0).astimezone().timestamp())
NOW = int(datetime(2026, 11, 25, 10, 0).astimezone().timestamp())
END = int(datetime(2026, 12, 31, 23, 59, 59).astimezone().timestamp())


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Settings of a site where bob is internal, alice has left, and the crew receives from its own domains."""
    folder = tmp_path_factory.mktemp("answering")
    settings = Settings(database=f"sqlite:///{folder}/policyd.db", audit=AuditSettings(syslog="none"))
    with open_session(settings).changing(ANN, SET, may_create=True) as made:
        edit = made.edit
        edit.add_domain(Domain("example.com"))
        edit.add_domain(Domain("open.example", unlisted=Unlisted.ACCEPT))
        for name in ("alice", "bob", "carol", "dora"):
            edit.add_mailbox(name, [f"{name}@example.com"], "")
        edit.restrict(
            need_mailbox(edit.queries, "bob"),
            RestrictionTerms(Receive.INSIDERS, party_set("joe@a.example"), "internal mailbox", END),
        )
        edit.block_sender(party("alice"), OUTSIDE, EntryTerms(reason="left"))
        edit.add_group("crew")
        edit.join(need_group(edit.queries, "crew"), [party("carol")])
        edit.restrict(need_group(edit.queries, "crew"), RestrictionTerms(Receive.DOMAIN))
    return settings


def sentence(settings, recipient, sender="", **others):
    """The answer to mail for *recipient*, and its sentence."""
    asked = {"login": "", "client_address": "", "context": "", **others}
    found = answer(open_session(settings), settings, typed_request(recipient, sender, **asked), NOW)
    return f"{found.decision.action}: {found.sentence(NOW)}"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        pytest.param(
            {"recipient": "bob@example.com", "sender": "eve@a.example"},
            "REJECT: bob takes mail from insiders only: internal mailbox; until 31 December; set by root(sudo:ann) on 3"
            " November",
            id="a restricted mailbox",
        ),
        pytest.param(
            {"recipient": "bob@example.com", "sender": "joe@a.example"},
            "DUNNO: bob takes mail from insiders only, and accepts this sender; until 31 December",
            id="an accepted sender",
        ),
        pytest.param(
            {"recipient": "bob@example.com", "client_address": "127.0.0.1"},
            "DUNNO: bob takes mail from insiders only, and this is one; until 31 December",
            id="an insider",
        ),
        pytest.param(
            {"recipient": "carol@example.com", "sender": "eve@a.example"},
            "REJECT: carol takes mail from its own domains only, as group:crew says; set by root(sudo:ann) on 3"
            " November",
            id="a group's word",
        ),
        pytest.param(
            {"recipient": "eve@a.example", "sender": "alice@example.com"},
            "REJECT: alice may not send to recipients outside (entry 1): left; set by root(sudo:ann) on 3 November",
            id="a blocked sender",
        ),
        pytest.param(
            {"recipient": "nobody@example.com"},
            "REJECT: nobody@example.com is no mailbox's address, and example.com rejects such; set by root(sudo:ann)"
            " on 3 November",
            id="an unlisted address",
        ),
        pytest.param(
            {"recipient": "nobody@open.example"},
            "DUNNO: nobody@open.example is no mailbox's address, and open.example accepts such",
            id="an unlisted address that is accepted",
        ),
        pytest.param(
            {"recipient": "dora@example.com"},
            "DUNNO: nothing blocks the sender, and dora takes mail from anyone",
            id="nothing at all",
        ),
        pytest.param(
            {"recipient": "eve@a.example", "sender": "dora@example.com"},
            "DUNNO: nothing blocks the sender, and eve@a.example is outside: its domain is not managed",
            id="mail to outside",
        ),
        pytest.param(
            {"recipient": "postmaster@example.com"},
            "DUNNO: nobody may be kept from writing to postmaster@example.com",
            id="postmaster",
        ),
    ],
)
def test_one_sentence_says_what_decided_and_who_set_it(settings, asked, told):
    """Who is asked twenty times a day reads one line, and not a trace."""
    assert sentence(settings, **asked) == told


def test_a_refusal_comes_with_what_would_let_the_mail_through(settings):
    """Whoever may change the tables gets the line to type, and who may not can pass it on."""
    request = typed_request("bob@example.com", "eve@a.example", "", "", "")
    found = answer(open_session(settings), settings, request, NOW)
    assert found.remedy is not None
    assert found.remedy.command == "policyd mailbox accept bob eve@a.example"
    assert found.trace[-1] == "rule: restricted-recipient"


def test_days_are_said_as_people_say_them():
    """The year is said where it is another one, the time where an end is not that of its day."""
    assert day_in_words(END, NOW, is_end=True) == "31 December"
    assert day_in_words(END + 1, NOW, is_end=True) == "1 January 2027, 00:00"
    assert day_in_words(SET, NOW, is_end=True) == "3 November, 10:00"
    assert day_in_words(SET, NOW) == "3 November"
    assert day_in_words(2**62, NOW) == str(2**62)

"""Each page answers what the help desk asks, whatever stands in the tables, the mail or the form."""

import csv
import json
from html import unescape

import pytest

from policyd.model import OUTSIDE, Domain, Mode, Receive
from policyd.store.edit import EntryTerms, RestrictionTerms, need_group, need_mailbox
from policyd.web.pages.desk import PAGES
from tests.support.help_desk import MONITORED, NOW, REFUSED, SET, Place, mail, make_place
from tests.support.markup import Markup
from tests.support.parties import party, party_set

PAGE_BYTES = 60_000
LONG = "x" * 2000
HOSTILE = "<script>alert(1)</script>\"'&amp;\u202e\u2066\x1b[31m{{7*7}}" + LONG
PLAIN = '<i>&"' * 50  # what a browser sends unchanged
SPELLED = "<script>alert(1)</script>\"'&amp;\\u202e\\u2066\\x1b[31m{{7*7}}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small site, which no test changes."""
    return make_place(tmp_path_factory.mktemp("desk"))


def shown(place: Place, path: str, **form: str) -> Markup:
    """The page, whose markup is as it should be."""
    reply = place.post(path, **form)
    assert len(reply.body) < PAGE_BYTES
    page = Markup(reply.body.decode("utf-8"))
    assert [*page.faults()] == []
    return page


def body(page: Markup) -> str:
    """The text of the page, with single blanks."""
    return " ".join(page.all("main")[0].text.split())


@pytest.mark.parametrize(
    ("path", "form"),
    [
        *[(path, {}) for path in PAGES],
        ("/", {"about": "bob@example.com", "other": "eve1@a.example"}),
        ("/", {"about": "4XyZ0B1cJ2z9"}),
        ("/", {"about": "nobody at all"}),
        ("/refusals", {"sender": "eve", "since": "yesterday"}),
        ("/mailbox", {"name": "bob"}),
        ("/mailbox", {"name": "alice@example.com"}),
        ("/mailbox", {"name": "nobody@example.com"}),
        ("/domain", {"name": "example.com"}),
        ("/domain", {"name": "foo.bulk.example"}),
        ("/group", {"name": "crew"}),
        ("/group", {"name": "nobody"}),
        ("/journal", {"object": "bob", "actor": "ann"}),
        ("/nothing", {}),
    ],
)
def test_page_can_be_read_by_everybody(place, path, form):
    """By ear and by keyboard, on a slow line, and under a policy that allows nothing from elsewhere."""
    page = shown(place, path, **form)
    assert page.all("html")[0].attributes["lang"] == "en"
    assert page.all("a")[0].attributes["href"] == "#main"


# Ask


def test_answer_is_a_sentence_first(place):
    """What the help desk is asked twenty times a day is answered in one line, before everything else."""
    page = shown(place, "/", about="bob@example.com", other="eve1@a.example")
    assert page.text("h2") == (
        "REJECT: bob takes mail from insiders only: internal mailbox; until 31 December; set by root(sudo:ann) on 3"
        " November"
    )
    text = body(page)
    assert text.index("set by root") < text.index("policyd mailbox accept bob eve1@a.example")
    assert "recipient bob@example.com: mailbox bob (exact)" in [each.text for each in page.all("li")]
    assert "eve1@a.example" in page.text("table")
    assert "eve2@a.example" not in page.text("table")


@pytest.mark.parametrize(
    ("asked", "begins"),
    [
        pytest.param({"about": "bob"}, "REJECT: bob takes mail from insiders only", id="a mailbox's name"),
        pytest.param(
            {"about": "alice", "direction": "from", "other": "x@y.example"},
            "REJECT: alice may not send to recipients outside (entry 1): left the company",
            id="mail from it",
        ),
        pytest.param(
            {"about": "alice", "direction": "from", "other": "x@partner.example"},
            "DUNNO: nothing blocks the sender",
            id="an exception",
        ),
        pytest.param({"about": "bob", "other": "eve@a.example", "login": "dora"}, "DUNNO: bob takes", id="a login"),
        pytest.param({"about": "bob", "client": "127.0.0.1"}, "DUNNO: bob takes mail from insiders", id="a client"),
        pytest.param({"about": "dora"}, "DUNNO: nothing blocks the sender, and dora takes", id="nothing refuses"),
    ],
)
def test_question_is_asked_as_a_person_thinks_of_it(place, asked, begins):
    """Either way round, by a mailbox's name or an address, with what else is known of the mail."""
    assert shown(place, "/", **asked).text("h2").startswith(begins)


def test_a_mail_is_found_by_its_queue_id(place):
    """The partner's postmaster has nothing but the id in the bounce."""
    page = shown(place, "/", about=mail("eve7@a.example", "").instance)
    assert page.text("h2").startswith("REJECT: bob takes mail")
    assert "Mail from eve7@a.example to bob@example.com" in body(page)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        pytest.param(
            {"about": "4ZZZZZZZZZZ"},
            "there is no mailbox, managed domain or group 4ZZZZZZZZZZ, and no mail with this",
            id="unknown id",
        ),
        pytest.param({"about": "bob", "client": "mx.a.example"}, "is not an IP address", id="no client"),
        pytest.param({"about": "bob", "direction": "from"}, "whom the mail is to is missing", id="to nobody"),
        pytest.param({"about": "bob", "other": "bobby"}, "there is no mailbox bobby", id="unknown other side"),
        pytest.param({"asked": "[1]"}, "is none of this page's", id="a request that nobody offered"),
        pytest.param({"asked": '{"sender": 1}'}, "is none of this page's", id="a number as an address"),
        pytest.param({"asked": '{"nobody": "x"}'}, "is none of this page's", id="an unknown field"),
    ],
)
def test_question_that_makes_no_sense_says_what_to_type(place, asked, told):
    """In a line beside the form, which keeps what was typed."""
    reply = place.post("/", **asked)
    page = Markup(reply.body.decode())
    assert reply.status == 400
    assert told in body(page)
    assert not page.all("table")


def test_in_monitor_mode_the_answer_says_what_would_be(tmp_path):
    """Nobody may believe that a mail was refused which was let through."""
    place = make_place(tmp_path, mode=Mode.MONITOR)
    page = shown(place, "/", about="bob", other="x@y.example")
    assert page.text("h2").startswith("would be REJECT: bob takes mail")
    assert "the mail is let through" in body(page)


def test_refusal_is_asked_again_with_all_that_it_was(place):
    """A button asks for exactly that mail, also where its sender is no text that a browser would send unchanged."""
    hostile = mail("e\udcffve\n\u202e@a.example", "bob@example.com")
    place.decide(hostile, REFUSED, NOW + 1)
    page = shown(place, "/refusals", sender="e*ve*u202e*")
    page = shown(place, "/refusals", client="203.0.113.7")
    asked = next(each.attributes["value"] for each in page.all("button") if each.attributes.get("name") == "asked")
    assert json.loads(asked)["sender"] == hostile.sender
    answered = shown(place, "/", asked=asked)
    assert answered.text("h2").startswith("REJECT: bob takes mail")
    assert "e\\xffve\\x0a\\u202e@a.example" in body(answered)


# Refusals


def test_refusals_are_narrowed_and_turned(place):
    """From ten thousand to the one, and back page by page, without a link that has an address in it."""
    page = shown(place, "/refusals", sender="-eve")
    assert "would be REJECT" in body(page)
    assert "eve" not in page.text("tbody")

    seen, behind = [], None
    while True:
        page = shown(place, "/refusals", sender="eve -eve0@", **({"behind": behind} if behind else {}))
        seen += [each.text for each in page.all("b") if each.text.startswith("eve")]
        older = [each for each in page.all("button") if each.attributes.get("name") == "behind"]
        if not older:
            break
        behind = older[0].attributes["value"]
    assert seen == [f"eve{number}@a.example" for number in range(1, 40)]


def test_refusals_say_how_far_back_they_reach(place):
    """Who doesn't find a mail must know whether it can be here."""
    text = body(shown(place, "/refusals"))
    assert "of 1000 at most; all since 2026-11-25 09:21:00, 39 minutes ago" in text


def test_refusals_are_a_table_for_a_spreadsheet(place):
    """The same ones, all of them, under a name with the time."""
    table = place.table(sender="eve")
    assert table.media_type == "text/csv; charset=utf-8"
    assert table.headers["Content-Disposition"] == 'attachment; filename="refusals-20261125-1000.csv"'
    rows = [*csv.DictReader(b"".join(table.pieces).decode("utf-8-sig").splitlines())]
    assert len(rows) == 40
    assert rows[0]["sender"] == "eve0@a.example"


@pytest.mark.parametrize("path", ["/refusals", "/refusals.csv"])
def test_a_time_that_is_none_is_told_at_its_field(place, path):
    """And everything else is kept as it was typed; no file has more in it than was asked for."""
    page = shown(place, path, sender="eve", until="soon")
    field = next(each for each in page.all("input") if each.attributes["name"] == "until")
    assert field.attributes["aria-invalid"] == "true"
    assert next(each for each in page.all("input") if each.attributes["name"] == "sender").attributes["value"] == "eve"


# Mailbox and journal


def test_mailbox_says_what_is_in_force_and_who_said_so(place):
    """By its name, or by any form of its addresses."""
    for name in ("bob", "BOB@example.com", "robert+list@example.com"):
        text = body(shown(place, "/mailbox", name=name))
        assert "receives from insiders, as the mailbox itself says: internal mailbox" in text
        assert "bob@example.com, robert@example.com" in text
        assert "group:crew" in text
        assert "@.bulk.example" in text
        assert "group crew: bob joined" in text
        assert 'reason "" -> "internal mailbox"' in text


def test_an_address_that_is_nobodys_says_what_blocks_it(place):
    """An address outside is asked for as often: is it blocked here, and who says so."""
    text = body(shown(place, "/mailbox", name="x@foo.bulk.example"))
    assert "the domain foo.bulk.example is not managed" in text
    assert "@.bulk.example" in text
    text = body(shown(place, "/mailbox", name="nobody@example.com"))
    assert "policyd address add MAILBOX nobody@example.com" in text
    assert "No entry matches it" in text
    assert "there is no mailbox nobody" in body(shown(place, "/mailbox", name="nobody"))


def test_journal_has_each_value_before_and_after(place):
    """Who changed what is told in words, and field by field."""
    page = shown(place, "/journal", object="bob", actor="ann")
    rows = [cell.text for cell in page.elements if cell.name in ("th", "td")]
    at = rows.index("receive")
    assert rows[at : at + 3] == ["receive", "inherit", "insiders"]
    assert "root(sudo:ann)" in rows
    assert "There is no such change" in body(shown(place, "/journal", object="nobody"))


def test_journal_is_turned_by_page(place):
    """Each page goes on where the last one ended."""
    with place.session.reading() as queries:
        last = next(queries.changes_before(2**62)).id
    page = shown(place, "/journal", before="5")
    numbers = [each.text[0] for each in page.all("td") if each.attributes.get("data-label") == "Change"]
    assert numbers == ["4", "3", "2", "1"]
    assert last > 5


# Hostile data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A site on which everything that can be named is named by somebody who means harm."""
    folder = tmp_path_factory.mktemp("hostile")
    place = Place(folder)
    with place.session.changing(f"root(sudo:{HOSTILE})", SET, may_create=True) as made:
        edit = made.edit
        edit.add_domain(Domain("example.com", comment=HOSTILE))
        edit.restrict(
            edit.domain("example.com"), RestrictionTerms(Receive.INSIDERS, party_set("a<b>@a.example"), HOSTILE)
        )
        edit.add_mailbox(HOSTILE[:256], ["bob@example.com"], HOSTILE)
        bob = need_mailbox(edit.queries, "bob@example.com")
        edit.restrict(bob, RestrictionTerms(Receive.INSIDERS, party_set("a<b>@a.example"), HOSTILE))
        for number in range(60):
            who = party(f"<i>{number}</i>{LONG[:40]}@a.example")
            edit.block_sender(who, bob.party, EntryTerms(reason=HOSTILE, comment=HOSTILE))
        edit.block_sender(bob.party, OUTSIDE, EntryTerms(reason=HOSTILE))
        for name in (PLAIN, HOSTILE[:256]):
            edit.add_group(name, [bob.party], HOSTILE)
        plain, spelled = [need_group(edit.queries, name) for name in (PLAIN, HOSTILE[:256])]
        edit.join(plain, [spelled.party])
        edit.restrict(plain, RestrictionTerms(Receive.DOMAIN, frozenset((bob.party,)), HOSTILE))
        for number in range(60):
            name = f"{PLAIN}{number}"
            edit.add_mailbox(name, [f"a{number}@example.com"], HOSTILE)
            member = need_mailbox(edit.queries, name)
            edit.join(plain, [member.party])
            edit.restrict(member, RestrictionTerms(Receive.INSIDERS, None, HOSTILE))
            edit.block_sender(member.party, party("@example.com"), EntryTerms(reason=HOSTILE, comment=HOSTILE))
            edit.block_sender(member.party, plain.party, EntryTerms(reason=HOSTILE, comment=HOSTILE))
    for number in range(60):
        request = mail(
            f"{number}{HOSTILE}",
            "bob@example.com",
            sasl_username=HOSTILE,
            client_name=HOSTILE,
            policy_context=HOSTILE,
            queue_id=HOSTILE,
            instance=HOSTILE,
        )
        decision = MONITORED if number % 2 else REFUSED
        place.decide(request, decision._replace(mailbox=HOSTILE, reason=HOSTILE, by=HOSTILE, text=HOSTILE), NOW)
    texts = [HOSTILE] * 20
    finding = {
        "code": HOSTILE,
        "severity": "error",
        "about": HOSTILE,
        "finding": HOSTILE,
        "effect": HOSTILE,
        "advice": HOSTILE,
        "commands": texts[:3],
        "settings": texts[:3],
    }
    report = {"at": NOW, "findings": [finding] * 20, "not_looked_at": texts, "proof": texts}
    (folder / "doctor.json").write_text(json.dumps(report))
    return place


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/", {"about": HOSTILE, "other": HOSTILE, "login": HOSTILE, "client": HOSTILE, "context": HOSTILE}),
        ("/", {"about": f"{HOSTILE}@example.com", "other": f"{HOSTILE}@a.example", "login": HOSTILE}),
        ("/", {"about": "bob@example.com", "other": "<i>1</i>@a.example", "context": HOSTILE}),
        ("/", {"about": "bob@example.com", "direction": "from", "other": "x@y.example"}),
        ("/refusals", {}),
        ("/refusals", {"client": "203", "since": HOSTILE, "behind": HOSTILE}),
        ("/mailbox", {"name": "bob@example.com"}),
        ("/mailbox", {"name": HOSTILE}),
        ("/mailbox", {"name": f"{HOSTILE}@a.example"}),
        ("/domain", {"name": "example.com"}),
        ("/domain", {"name": HOSTILE, "after": HOSTILE}),
        ("/group", {"name": HOSTILE[:256]}),
        ("/group", {"name": PLAIN}),
        ("/group", {"name": HOSTILE, "after": HOSTILE}),
        ("/journal", {}),
        ("/journal", {"object": HOSTILE, "actor": HOSTILE, "before": HOSTILE}),
        ("/health", {}),
        (f"/{HOSTILE}", {}),
    ],
)
def test_nobody_who_names_things_gets_into_a_page(hostile, path, form):
    """Neither a script, nor a direction, nor 2 000 characters: a page stays what it is, and as small as it is."""
    reply = hostile.post(path, **form)
    text = reply.body.decode("utf-8")
    assert len(reply.body) < PAGE_BYTES
    page = Markup(text)
    assert [*page.faults()] == []
    assert len(page.all("script")) == 1
    assert not {*page.all("i")}
    assert "49" not in [each.text for each in page.all("b")]
    assert all(each.isprintable() or each == "\n" for each in unescape(text))


def test_hostile_names_are_shown_as_what_they_are(hostile):
    """The help desk sees what is written, with what doesn't print spelled out."""
    page = shown(hostile, "/", about="bob@example.com", other="x@y.example")
    assert SPELLED in page.all("h2")[0].text
    assert SPELLED in body(shown(hostile, "/health"))
    assert SPELLED in body(shown(hostile, "/journal"))
    assert SPELLED[:60] in body(shown(hostile, "/refusals"))


def test_no_tables_are_told_on_every_page(tmp_path):
    """A page without its database says so, and what to type; the others go on."""
    place = Place(tmp_path)
    for path, form in [("/", {"about": "bob"}), ("/mailbox", {"name": "bob"}), ("/journal", {})]:
        reply = place.post(path, **form)
        assert reply.status == 503
        assert "make it with: policyd database create" in reply.body.decode()
    assert "the database can&#39;t be read" in place.text("/health")
    assert place.get("/refusals").status == 200

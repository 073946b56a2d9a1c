"""Reply texts: what the sender's mail server, and so the sender, gets to read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.model import Rule
from policyd.reply import (
    DEFAULT_TEXTS,
    FIELDS,
    STATUS,
    TEXT_LIMIT,
    characters_over,
    read_ahead,
    render_text,
    template_problem,
    to_ascii,
)

BRACES = "may hold {recipient}, {sender}, {mailbox} and {reason}, and no other braces"
PERMANENT = "may start with an enhanced status code 5.x.x only, since the reply is permanent"

raw = st.binary(max_size=40).map(lambda each: each.decode("utf-8", "surrogateescape"))
texts = st.one_of(st.text(), raw, st.sampled_from(["4.7.1 try later", "{sender}", "2.0.0", " ", "…"]))
templates = st.lists(
    st.sampled_from([*(f"{{{name}}}" for name in FIELDS), "5.7.9 ", "4.2.2 ", " ", ": ", "ü", "no"]), max_size=6
).map("".join)


@pytest.mark.parametrize(
    ("rule", "reason", "text"),
    [
        pytest.param(
            Rule.BLOCKED_SENDER,
            "left the company",
            "5.7.1 This sender may not write to this recipient: left the company",
            id="a blocked sender with a reason",
        ),
        pytest.param(
            Rule.BLOCKED_SENDER, "", "5.7.1 This sender may not write to this recipient", id="a blocked sender without"
        ),
        pytest.param(Rule.UNLISTED_RECIPIENT, "", "5.1.1 This address does not receive mail", id="no mailbox"),
        pytest.param(
            Rule.RESTRICTED_RECIPIENT,
            "für die Prüfung",
            "5.7.1 This mailbox does not take mail from this sender: fuer die Pruefung",
            id="a restricted mailbox with a reason in German",
        ),
        pytest.param(
            Rule.RESTRICTED_RECIPIENT,
            "",
            "5.7.1 This mailbox does not take mail from this sender",
            id="a restricted mailbox without",
        ),
    ],
)
def test_default_text_names_status_and_reason(rule, reason, text):
    """The sender reads in the bounce why, and mailers know the failure is for good."""
    assert render_text(rule, DEFAULT_TEXTS[rule], reason=reason) == text


def test_every_refusing_rule_has_a_status_and_a_text_that_is_allowed():
    """No refusal goes out without a text."""
    assert set(STATUS) == set(DEFAULT_TEXTS)
    assert [template_problem(text) for text in DEFAULT_TEXTS.values()] == [""] * 3


@pytest.mark.parametrize(
    ("template", "fields", "text"),
    [
        pytest.param("No {mailbox}", {"mailbox": "bob"}, "5.7.1 No bob", id="a field"),
        pytest.param("{sender} to {recipient}", {"sender": "a@b", "recipient": "c@d"}, "5.7.1 a@b to c@d", id="fields"),
        pytest.param("No: {reason}", {"reason": "{sender}", "sender": "x"}, "5.7.1 No: {sender}", id="no field twice"),
        pytest.param("5.7.9 No", {}, "5.7.9 No", id="a status of the administrator's"),
        pytest.param("  5.7.9\tNo", {}, "5.7.9 No", id="a status behind blanks"),
        pytest.param("5.7.9 {reason}", {}, "5.7.9", id="a status alone"),
        pytest.param("{reason}", {}, "5.7.1", id="nothing to say"),
        pytest.param("No ({reason}", {}, "5.7.1 No", id="what leads up to an empty field goes too"),
        pytest.param("{reason}", {"reason": "4.2.2 try later"}, "5.7.1 4.2.2 try later", id="a reason with a status"),
        pytest.param("{sender}: no", {"sender": "2.0.0 ok@x"}, "5.7.1 2.0.0 ok@x: no", id="a sender with a status"),
        pytest.param("5.7.9{reason}", {"reason": " no"}, "5.7.1 5.7.9 no", id="a status only with the field"),
        pytest.param("No\r\n250 ok {sender}", {"sender": "a\nb"}, "5.7.1 No 250 ok a b", id="line breaks"),
        pytest.param("{sender}", {"sender": "\udcff\x1b[31m\x00a@b"}, "5.7.1 ? [31m a@b", id="bytes and escapes"),
        pytest.param("{recipient}", {"recipient": "\u202eevil"}, "5.7.1 evil", id="a bidirectional control"),
    ],
)
def test_text_is_the_template_with_its_fields_filled_in(template, fields, text):
    """The words are the administrator's; what comes from the network can't change what they say."""
    assert render_text(Rule.BLOCKED_SENDER, template, **fields) == text


@pytest.mark.parametrize(
    ("length", "text"),
    [
        pytest.param(194, "5.7.1 " + "x" * 194, id="200 characters are whole"),
        pytest.param(195, "5.7.1 " + "x" * 191 + "...", id="201 characters are cut"),
        pytest.param(9999, "5.7.1 " + "x" * 191 + "...", id="very many are cut"),
    ],
)
def test_text_has_at_most_200_characters(length, text):
    """An SMTP reply line has an end, and what is left out is told."""
    assert render_text(Rule.BLOCKED_SENDER, "{reason}", reason="x" * length) == text


@given(st.sampled_from(sorted(STATUS)), templates, st.fixed_dictionaries(dict.fromkeys(FIELDS, texts)))
def test_any_text_is_one_line_of_printable_ascii_with_a_permanent_status(rule, template, fields):
    """Whatever anybody writes, Postfix can send it, and no sender chooses the status."""
    if template_problem(template):
        return
    text = render_text(rule, template, **fields)
    assert len(text) <= TEXT_LIMIT
    assert re.fullmatch(r"[ -~]+", text)
    own = re.match(r"5\.7\.9 ", template.lstrip())
    assert text.startswith("5.7.9" if own else STATUS[rule])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("plain text", "plain text", id="ASCII"),
        pytest.param("Müller, Österreich, Übung", "Mueller, Oesterreich, Uebung", id="umlauts"),
        pytest.param("Mu\u0308ller", "Mueller", id="a decomposed umlaut"),
        pytest.param("Straße, façade, naïve", "Strasse, facade, naive", id="other Latin letters"),
        pytest.param("привет", "privet", id="Cyrillic"),
        pytest.param("“left” — 20 €", '"left" - 20 EUR', id="typographic signs"),
        pytest.param(" a \t\n b\u2028c\u00a0d ", "a b c d", id="white space of any kind is one blank"),
        pytest.param("\udcff\udcfe", "??", id="bytes that are not UTF-8"),
        pytest.param("a\x00\x1b\x7fb", "a b", id="control characters"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_reason_is_transliterated_for_the_reply(text, expected):
    """A reason in any language can be read in a bounce."""
    assert to_ascii(text) == expected


@given(texts)
def test_transliterating_twice_changes_nothing(text):
    """ASCII is left as it is."""
    assert to_ascii(to_ascii(text)) == to_ascii(text)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        pytest.param("{recipient} {sender} {mailbox} {reason}", "", id="every field"),
        pytest.param("Nein, für {recipient} nicht", "", id="umlauts"),
        pytest.param("5.7.1 No", "", id="a permanent status"),
        pytest.param("4.7.1a No", "", id="what only begins like a status"),
        pytest.param("{recipent}", BRACES, id="a misspelt field"),
        pytest.param("{}", BRACES, id="a field without a name"),
        pytest.param("{reason!r}", BRACES, id="a conversion"),
        pytest.param("{reason.__class__}", BRACES, id="an attribute"),
        pytest.param("{{reason}}", BRACES, id="double braces"),
        pytest.param("{{reason}sender}", BRACES, id="a field in a field"),
        pytest.param("{reason", BRACES, id="an open brace"),
        pytest.param("reason}", BRACES, id="a closing brace"),
        pytest.param("4.7.1 Later", PERMANENT, id="a temporary status"),
        pytest.param(" 4.7.1 Later", PERMANENT, id="a temporary status behind a blank"),
        pytest.param("2.0.0", PERMANENT, id="a success"),
        pytest.param("４.7.1 Later", PERMANENT, id="a temporary status in full-width digits"),
        pytest.param("", "must not be empty", id="nothing"),
        pytest.param(" \t", "must not be empty", id="white space"),
        pytest.param("\u200b", "must not be empty", id="nothing that can be seen"),
    ],
)
def test_template_is_checked_before_it_is_used(template, problem):
    """A slip in the settings is found at the start, not in a bounce."""
    assert template_problem(template) == problem


def test_nothing_is_left_to_read_once_all_was_read_ahead(monkeypatch):
    """The daemon's user may not be able to read where policyd is installed."""
    read_ahead()
    monkeypatch.setattr("builtins.open", lambda *_, **__: pytest.fail("a file was opened"))
    for block in range(0, 0x30000, 0x100):
        assert to_ascii(chr(block + 0x41)).isascii()


@pytest.mark.parametrize(("length", "over"), [(10, 0), (TEXT_LIMIT - 51, 0), (TEXT_LIMIT - 50, 1), (TEXT_LIMIT, 51)])
def test_how_much_of_a_reason_is_cut_is_known_before(length, over):
    """Whoever types a reason is told that its end, where the telephone number is, reaches nobody."""
    rule, template = Rule.BLOCKED_SENDER, DEFAULT_TEXTS[Rule.BLOCKED_SENDER]
    found = characters_over(rule, template, reason="x" * length)
    assert found == over
    assert render_text(rule, template, reason="x" * length).endswith("...") is bool(over)

"""`policyd address`: which mailbox an address belongs to."""

import pytest

from tests.support.command_line import command_line


@pytest.fixture
def policyd():
    """A company with one domain and two mailboxes."""
    with command_line(
        "domain add example.com",
        "mailbox add alice alice@example.com",
        "mailbox add Bob",
    ) as policyd:
        yield policyd


def test_first_address_is_the_primary_one(policyd):
    """It is the one that the mailbox sends under."""
    policyd.run("address add bob bob@example.com b.jones@example.com")
    assert policyd.run("address list") == (
        "alice@example.com\talice\tyes\nb.jones@example.com\tBob\tno\nbob@example.com\tBob\tyes\n"
    )


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        pytest.param("B.Jones@EXAMPLE.COM.", "b.jones@example.com", id="upper case and a trailing dot"),
        pytest.param("'\"bob jones\"@example.com'", "bob jones@example.com", id="quoted, with a blank"),
        pytest.param('\'"bob\\"s @ home"@example.com\'', 'bob"s @ home@example.com', id="quoted, with what needs it"),
        pytest.param("Jörg@example.com", "jörg@example.com", id="Unicode"),
        pytest.param("bob+lists@example.com", "bob+lists@example.com", id="with an extension of its own"),
    ],
)
def test_address_is_kept_as_postfix_sends_it(policyd, typed, kept):
    """Whatever quotes and case the administrator types."""
    policyd.run(f"address add bob {typed}")
    assert [each["address"] for each in policyd.json("address list") if each["mailbox"] == "Bob"] == [kept]
    assert policyd.json(f"address find {typed}") == {"address": kept, "mailbox": "Bob", "how": "exact"}


def test_address_in_a_strange_domain_names_the_command_that_adds_it(policyd):
    """Such an address would never be asked for."""
    assert policyd.refuses("address add bob bob@bücher.example") == (
        "policyd: bob@xn--bcher-kva.example: the domain xn--bcher-kva.example is not managed; "
        "add it with: policyd domain add xn--bcher-kva.example"
    )


def test_address_has_one_mailbox(policyd):
    """Else nobody could say whose restriction counts."""
    assert policyd.refuses("address add bob ALICE@example.com") == (
        "policyd: alice@example.com is an address of alice already; "
        "to take it away: policyd address remove alice@example.com"
    )


def test_several_addresses_are_added_all_or_none(policyd):
    """Half a change is worse than none; typed twice in one command, an address is one."""
    before = policyd.journal()
    policyd.refuses("address add bob b1@example.com b2@example.com alice@example.com")
    assert policyd.journal() == before
    policyd.run("address add bob b1@example.com B1@example.com b2@example.com")
    assert policyd.journal() == [*before, ("address.add", "b1@example.com"), ("address.add", "b2@example.com")]
    assert policyd.rows("SELECT count(DISTINCT changeset) FROM change") == [(4,)]


def test_unknown_mailbox_is_named(policyd):
    """With the commands that list and add mailboxes."""
    assert policyd.refuses("address add carol carol@example.com") == (
        "policyd: there is no mailbox carol; see: policyd mailbox list, or: policyd mailbox add"
    )


@pytest.mark.parametrize(
    "typed",
    [
        "alice",
        "@example.com",
        "alice@",
        "''",
        "alice@exa_mple..com",
        "'al\nice@example.com'",
        "'al\u202eice@example.com'",
    ],
)
def test_what_is_no_address_is_refused(policyd, typed):
    """As bad usage, on one line, whatever was typed."""
    assert policyd.refuses(f"address add bob {typed}", 2).endswith("See: policyd address add --help")


def test_several_addresses_are_removed_all_or_none(policyd):
    """One that isn't there keeps the others too."""
    before = policyd.journal()
    assert policyd.refuses("address remove alice@example.com a.smith@example.com") == (
        "policyd: a.smith@example.com is no mailbox's address; see: policyd address list"
    )
    assert policyd.journal() == before


def test_primary_passes_on_when_its_address_goes(policyd):
    """A mailbox with addresses always has one that it sends under."""
    policyd.run("address add alice a.smith@example.com")
    assert policyd.says("address remove alice@example.com") == [
        "address alice@example.com: removed",
        "address a.smith@example.com: is_primary no -> yes",
        "a login as alice@example.com is no longer known as the mailbox alice",
        "a.smith@example.com is the primary address of alice now: patterns of blocked senders look at that one",
    ]


@pytest.mark.parametrize(
    ("typed", "how"),
    [
        pytest.param("ALICE@Example.com", "exact", id="in upper case"),
        pytest.param("alice+news@example.com", "extension", id="with an extension"),
        pytest.param("IMCEAEX-_O=ORG_OU=SITE_CN=RECIPIENTS_CN=ALICE@example.com", "IMCEA", id="as IMCEAEX"),
        pytest.param("IMCEASMTP-alice+40example+2Ecom@example.com", "IMCEA", id="as IMCEASMTP"),
    ],
)
def test_find_says_how_an_address_leads_to_its_mailbox(policyd, typed, how):
    """It is what the daemon would find."""
    assert policyd.json(f"address find {typed}") == {
        "address": typed.lower(),
        "mailbox": "alice",
        "how": how,
    }


def test_find_honours_the_settings_delimiters(policyd):
    """Postfix's recipient_delimiter is a set."""
    policyd.settings.write_text('recipient_delimiter = "-"\n[audit]\nsyslog = "none"\n')
    assert policyd.run("address find alice-news@example.com") == (
        "address: alice-news@example.com\nmailbox: alice\nhow: extension\n"
    )
    assert policyd.refuses("address find alice+news@example.com").startswith("policyd: alice+news@example.com leads to")


def test_find_says_where_postfix_delivers(policyd):
    """Postfix takes the domain for another, and so the mailbox is the one there."""
    policyd.run("domain add strasse.example")
    policyd.run("mailbox add eva eva@strasse.example")
    found = {"address": "eva@strasse.example", "mailbox": "eva", "how": "exact"}
    assert policyd.json("address find eva@straße.example") == found
    assert policyd.json("address find '\"eva\"@STRAẞE.example'") == found


def test_find_says_what_to_do_about_a_stranger(policyd):
    """Unlisted in a managed domain, or in a domain that isn't managed: two different remedies."""
    assert policyd.refuses("address find carol@example.com") == (
        "policyd: carol@example.com leads to no mailbox; "
        "to give it to one: policyd address add MAILBOX carol@example.com"
    )
    assert policyd.refuses("address find carol@example.net") == (
        "policyd: carol@example.net: the domain example.net is not managed; add it with: policyd domain add example.net"
    )


def test_list_can_be_of_one_domain(policyd):
    """Of that domain itself: neither of a subdomain nor of one that ends alike."""
    for domain in ("sub.example.com", "notexample.com"):
        policyd.run(f"domain add {domain}")
        policyd.run(f"address add bob bob@{domain}")
    assert policyd.run("address list --domain EXAMPLE.com") == "alice@example.com\talice\tyes\n"
    assert policyd.refuses("address list --domain example.net") == (
        "policyd: no addresses: the domain example.net is not managed; add it with: policyd domain add example.net"
    )


def test_list_has_stable_json(policyd):
    """Scripts rely on these keys."""
    assert policyd.json("address list") == [{"address": "alice@example.com", "mailbox": "alice", "is_primary": True}]


@pytest.mark.parametrize(
    "stored",
    ["bob@[127.000.0.1]", "Bob@[127.0.0.1]", "bob@EXAMPLE.com", "bob@[abc]", "x y@[IPv6:0::1]", "bob@example.com."],
)
def test_address_that_is_stored_in_no_normal_form_can_be_removed(policyd, stored):
    """An earlier policyd stored such ones, and `database check` says: take it away."""
    policyd.rows(f"INSERT INTO address VALUES ('{stored}', (SELECT id FROM mailbox WHERE name = 'Bob'), 1)")
    policyd.run(f"address remove '{stored}'")
    assert [each["address"] for each in policyd.json("address list")] == ["alice@example.com"]
    assert policyd.says("database check")[0].startswith(f"{policyd.store} is sound")


def test_address_in_normal_form_is_removed_however_it_is_typed(policyd):
    """What is stored as it was typed goes first, and nothing else is taken for it."""
    policyd.run("address remove ALICE@Example.com.")
    assert policyd.json("address list") == []
    assert "[abc]" in policyd.refuses("address remove 'bob@[abc]'", 2)

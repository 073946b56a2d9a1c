"""`policyd domain`: which domains policyd has an opinion on, and what happens to strangers in them."""

import pytest

from tests.support.command_line import command_line


@pytest.fixture
def policyd():
    with command_line() as policyd:
        yield policyd


def test_added_domain_rejects_unlisted_recipients(policyd):
    """The article's inbound restriction is the default: who isn't listed gets no mail."""
    assert policyd.says("domain add example.com") == ["domain example.com: added: unlisted reject"]
    assert policyd.run("domain list") == "example.com\treject\n"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        pytest.param("EXAMPLE.Com", "example.com", id="upper case"),
        pytest.param("example.com.", "example.com", id="trailing dot"),
        pytest.param("Bücher.example", "xn--bcher-kva.example", id="Unicode"),
        pytest.param("xn--bcher-kva.example", "xn--bcher-kva.example", id="A-label"),
        pytest.param("[192.0.2.1]", "[192.0.2.1]", id="address literal"),
    ],
)
def test_domain_is_kept_in_its_one_normal_form(policyd, typed, kept):
    """However it is typed, it is the domain that Postfix will name."""
    policyd.run(f"domain add {typed}")
    assert [each["name"] for each in policyd.json("domain list")] == [kept]


def test_domain_in_both_of_its_spellings_is_one(policyd):
    """A domain can't be managed twice under two names."""
    policyd.run("domain add bücher.example")
    assert policyd.refuses("domain add XN--BCHER-KVA.example") == (
        "policyd: xn--bcher-kva.example is managed already; to change it: policyd domain set xn--bcher-kva.example"
    )


@pytest.mark.parametrize("typed", ["'two words'", "a..b", "user@example.com", "-x.example", "@example.com", "''"])
def test_what_is_no_domain_is_refused(policyd, typed):
    """A domain that no address can have would silently do nothing; nothing is made, not even the database."""
    message = policyd.refuses(f"domain add -- {typed}", 2)
    assert message.endswith("a domain looks like example.com. See: policyd domain add --help")
    assert not policyd.database.exists()


@pytest.mark.parametrize(
    ("typed", "other"),
    [
        pytest.param("straße.example", "strasse.example", id="sharp s"),
        pytest.param("STRAẞE.example.", "strasse.example", id="a capital sharp s"),
        pytest.param("xn--strae-oqa.example", "strasse.example", id="its A-label"),
        pytest.param("σίσυφος.example", "xn--kxa6akbbkh.example", id="a final sigma"),
    ],
)
def test_domain_that_postfix_takes_for_another_is_told(policyd, typed, other):
    """Who manages straße.example would not see that mail to strasse.example is delivered there, too."""
    told = policyd.warns(f"domain add {typed}")
    assert told.startswith("policyd: Postfix takes ")
    assert told.endswith(f" for {other}, so manage that, too: policyd domain add {other}")
    policyd.run(f"domain add {other}")
    policyd.run(f"domain remove {typed}")
    assert policyd.warns(f"domain add {typed}").endswith(f" for {other}, which is managed, too")


@pytest.mark.parametrize("typed", ["'[abc]'", "'[192.0.2]'", "'[IPv6:1]'", "'[IPv6:fe80::1%lo]'"])
def test_what_is_no_literal_is_refused(policyd, typed):
    """No mail can have it; the line shows one that can be."""
    message = policyd.refuses(f"domain add {typed}", 2)
    assert "one looks like [192.0.2.1] or [IPv6:2001:db8::1]" in message
    assert not policyd.database.exists()


def test_set_changes_what_happens_to_unlisted_recipients(policyd):
    """Said again, it changes nothing, leaves no journal row, and is no error."""
    policyd.run("domain add example.com --unlisted accept")
    assert policyd.says("domain set example.com --unlisted reject") == ["domain example.com: unlisted accept -> reject"]
    assert policyd.says("domain set example.com --unlisted reject") == ["nothing to change: it stands so already"]
    assert policyd.journal() == [("domain.add", "example.com"), ("domain.set", "example.com")]


@pytest.mark.parametrize("line", ["domain set other.example --unlisted accept", "domain remove other.example"])
def test_domain_that_is_not_managed_is_named(policyd, line):
    """A typing mistake must not look like success."""
    policyd.run("domain add example.com")
    assert policyd.refuses(line) == "policyd: the domain other.example is not managed; see: policyd domain list"


def test_unlisted_takes_its_two_words_only(policyd):
    """The message says which."""
    assert policyd.refuses("domain add example.com --unlisted bounce", 2) == (
        "policyd: Invalid value for '--unlisted': 'bounce' is not one of 'reject', 'accept'. "
        "See: policyd domain add --help"
    )


def test_domain_without_addresses_goes_without_asking(policyd):
    """There is nothing to lose."""
    policyd.run("domain add example.com")
    assert policyd.says("domain remove example.com") == ["domain example.com: removed"]
    assert policyd.run("domain list") == ""


def test_domain_with_addresses_needs_yes_in_a_script(policyd):
    """One word too many in a script must not cost a company its addresses."""
    policyd.run("domain add example.com")
    policyd.run("mailbox add alice alice@example.com a.smith@example.com")
    before = policyd.journal()
    assert policyd.refuses("domain remove example.com", 2) == (
        "policyd: example.com has 2 addresses, which would be removed with it. Add --yes. "
        "See: policyd domain remove --help"
    )
    assert policyd.journal() == before


def test_removed_domain_takes_its_own_addresses_only(policyd):
    """Neither a subdomain's nor those of a domain whose name merely ends alike; the trail names each."""
    for domain in ("example.com", "sub.example.com", "notexample.com", "ex_mple.com"):
        policyd.run(f"domain add {domain}")
    policyd.run("mailbox add alice a@sub.example.com a@example.com a@notexample.com a@ex_mple.com")
    policyd.run("domain remove ex_mple.com --yes")
    policyd.run("domain remove example.com --yes")
    assert policyd.run("address list") == "a@notexample.com\talice\tno\na@sub.example.com\talice\tyes\n"
    assert policyd.journal()[-4:] == [
        ("address.remove", "a@ex_mple.com"),
        ("domain.remove", "ex_mple.com"),
        ("address.remove", "a@example.com"),
        ("domain.remove", "example.com"),
    ]
    assert policyd.rows("SELECT count(DISTINCT changeset) FROM change WHERE id > 7") == [(3,)]


def test_mailbox_outlives_its_domain(policyd):
    """With the domain goes only what can't be without it."""
    policyd.run("domain add example.com")
    policyd.run("mailbox add alice alice@example.com")
    policyd.run("domain remove example.com --yes")
    assert policyd.json("mailbox show alice")["addresses"] == []


def test_domains_are_listed_by_name(policyd):
    """Columns for `cut`: name, unlisted."""
    policyd.run("domain add b.example --unlisted accept")
    policyd.run("domain add a.example")
    assert policyd.run("domain list") == "a.example\treject\nb.example\taccept\n"


@pytest.mark.parametrize(
    ("domain", "kept", "other"),
    [
        ("fußball.example", "xn--fuball-cta.example", "fussball.example"),
        ("βόλος.example", "xn--nxasmm1c.example", "xn--nxasmq6b.example"),
    ],
)
def test_domain_that_is_not_managed_is_told_with_the_one_that_postfix_takes_it_for(policyd, domain, kept, other):
    """Who manages the one alone wonders why its mail goes the other way."""
    told = policyd.refuses(f"mailbox add bob bob@{domain}")
    beginning = (
        f"policyd: bob@{kept}: the domain {kept} is not managed; add it with: policyd domain add {kept}. "
        f"Postfix takes {domain} for {other}, "
    )
    assert told == f"{beginning}so manage that, too: policyd domain add {other}"
    policyd.run(f"domain add {other}")
    assert policyd.refuses(f"mailbox add bob bob@{domain}") == f"{beginning}which is managed, too"

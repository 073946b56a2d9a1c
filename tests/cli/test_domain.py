"""`policyd domain`: which domains policyd has an opinion on, and what happens to strangers in them."""

import pytest

from tests.support.command_line import command_line

REFUSED = (
    "mail from outside to unlisted addresses in {0} is refused from now on; "
    "to let it in: policyd domain set {0} --unlisted accept"
)


@pytest.fixture
def policyd():
    with command_line() as policyd:
        yield policyd


def test_added_domain_rejects_unlisted_recipients(policyd):
    """The article's inbound restriction is the default: who isn't listed gets no mail."""
    assert policyd.says("domain add example.com") == [
        "domain example.com: added: unlisted reject",
        REFUSED.format("example.com"),
    ]
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
    assert policyd.says("domain set example.com --unlisted reject") == [
        "domain example.com: unlisted accept -> reject",
        REFUSED.format("example.com"),
    ]
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


@pytest.mark.parametrize("stored", ["[127.000.0.1]", "[abc]", "EXAMPLE.org", "example.org."])
def test_domain_that_is_stored_in_no_normal_form_can_be_removed(policyd, stored):
    """An earlier policyd stored such ones, with addresses in them, and `database check` says: take it away."""
    policyd.run("domain add example.net")
    policyd.run("mailbox add zed")
    policyd.rows(f"INSERT INTO domain VALUES ('{stored}', 'reject', NULL, 'anyone', '', NULL, '')")
    policyd.rows(f"INSERT INTO address VALUES ('zed@{stored}', (SELECT id FROM mailbox WHERE name = 'zed'), 1)")
    policyd.run(f"domain remove --yes '{stored}'")
    assert stored not in policyd.run("domain list")
    assert stored not in policyd.run("address list")


# --- Restrictions, alias domains, and what a domain changes beyond itself


@pytest.fixture
def company(policyd):
    """Two mailboxes in example.com, one of them in example.net, too."""
    policyd.run("domain add example.com")
    policyd.run("domain add example.net")
    policyd.run("mailbox add alice alice@example.com alice@example.net")
    policyd.run("mailbox add Bob bob@example.com")
    return policyd


def test_restrict_says_whom_it_is_about(company):
    """A new mailbox starts with what its domain says; what a mailbox or its groups say stands before it."""
    company.run("mailbox open bob")
    company.run("domain add example.org --alias-of example.com")
    company.run("mailbox add carol carol@example.org")
    company.run("group add staff carol")
    company.run("group restrict staff")
    assert company.says("domain restrict EXAMPLE.com --receive nobody --reason 'not yet'") == [
        'domain example.com: receive anyone -> nobody, reason "" -> "not yet"',
        "the restriction of example.com is about 3 mailboxes; 1 keeps its own: Bob; 1 keeps what its groups say: carol",
        "bounces from outside are refused there, too; to let them in: policyd domain accept example.com '<>'",
    ]
    assert company.json("domain show example.com") == {
        "name": "example.com",
        "unlisted": "reject",
        "alias_of": None,
        "receive": "nobody",
        "accept": [],
        "reason": "not yet",
        "until": None,
        "comment": "",
        "aliases": ["example.org"],
        "mailboxes": 3,
        "keep_own": ["Bob", "carol"],
    }
    of_target, of_alias = company.json("domain show example.com"), company.json("domain show example.org")
    assert of_alias == {**of_target, "name": "example.org", "alias_of": "example.com", "aliases": []}

    # And so in the list, where `anyone` beside the alias would be what nobody is told.
    listed = {each["name"]: each for each in company.json("domain list")}
    assert listed["example.org"] == {**listed["example.com"], "name": "example.org", "alias_of": "example.com"}
    assert listed["example.org"]["receive"] == "nobody"


def test_mailbox_in_two_domains_shows_what_each_says(company):
    """A restriction is that of the address that the mail is to."""
    company.run("domain restrict example.com --accept @partner.example")
    assert company.json("mailbox show alice")["in_force"] == [
        {
            "receive": "insiders",
            "by": "domain",
            "domain": "example.com",
            "reason": "",
            "accept": ["@partner.example"],
        },
        {"receive": "anyone", "by": None, "domain": "example.net", "reason": "", "accept": []},
    ]
    assert (
        "in force in example.com: receive insiders, by domain, accept @partner.example\n"
        "in force in example.net: receive anyone\n"
    ) in company.run("mailbox show alice")
    company.run("domain restrict example.net")
    assert company.says("domain lift example.com") == [
        'domain example.com: receive insiders -> anyone, accept @partner.example -> ""',
    ]
    assert company.says("mailbox restrict alice") == ["mailbox alice: receive inherit -> insiders"]
    assert company.says("mailbox lift alice")[1:] == [
        "alice still receives from insiders only in example.net, as domain example.net says"
    ]


def test_alias_domain_has_no_say_of_its_own(company):
    """Restriction and unlisted recipients are its target's; one step, no chains."""
    told = company.says("domain add example.org --alias-of EXAMPLE.com")
    assert told[0].endswith("alias_of example.com")
    assert told[1] == (
        "mail from outside to unlisted addresses in example.org is refused from now on; "
        "to let it in: policyd domain set example.com --unlisted accept"
    )
    refused = [
        company.refuses(f"domain {line}", status)
        for line, status in (
            ("restrict example.org", 1),
            ("accept example.org @partner.example", 1),
            ("set example.org --unlisted accept", 2),
            ("add a.example --alias-of example.org", 1),
            ("add a.example --alias-of nowhere.example", 1),
            ("add a.example --alias-of a.example", 1),
            ("add a.example --alias-of example.com --unlisted accept", 2),
            ("set example.com --alias-of example.net", 1),
            ("set example.org --alias-of example.net --no-alias", 2),
            ("set example.org", 2),
            ("remove example.com --yes", 1),
        )
    ]
    stands, see = "policyd: example.org stands for example.com", "See: policyd domain"
    assert refused == [
        f"{stands}, whose restriction counts; type: policyd domain restrict example.com",
        f"{stands}, whose restriction counts; type: policyd domain accept example.com",
        f"policyd: of an alias domain, what its target says counts: policyd domain set example.com. {see} set --help",
        f"{stands} itself; type --alias-of example.com",
        "policyd: nowhere.example is not managed; add it with: policyd domain add nowhere.example",
        "policyd: a.example can't stand for itself",
        f"policyd: of an alias domain, what example.com says counts; leave --unlisted out. {see} add --help",
        f"{stands}, which so can't stand for another one",
        "policyd: either --alias-of or --no-alias. See: policyd domain set --help",
        "policyd: say what shall be: --unlisted, --alias-of, --no-alias or --comment. See: policyd domain set --help",
        f"{stands}; first type: policyd domain set example.org --no-alias, or: policyd domain remove example.org",
    ]
    assert company.says("domain set example.org --no-alias") == [
        'domain example.org: alias_of example.com -> ""',
        "the addresses of example.com are no longer reached through example.org",
        REFUSED.format("example.org"),
    ]
    company.run("domain restrict example.org")
    assert company.refuses("domain set example.org --alias-of example.com") == (
        "policyd: example.org has a restriction of its own; first type: policyd domain lift example.org"
    )


@pytest.mark.parametrize("accepted", ["boss@partner.example", "@partner.example", "@.example"])
def test_domain_says_what_turns_from_written_to_proven_and_back(company, accepted):
    """Where a domain is managed, MAIL FROM alone proves nothing; where it is not, anybody can forge it."""
    company.run(f"mailbox accept bob {accepted} @elsewhere.test")
    company.run("group add staff alice")
    company.run(f"group restrict staff --accept {accepted}")
    company.run(f"sender block anyone --to outside --except-sender {accepted}")
    places = f"{accepted} (mailbox Bob), {accepted} (group:staff), {accepted} (entry 1)"
    assert company.says("domain add partner.example") == [
        "domain partner.example: added: unlisted reject",
        REFUSED.format("partner.example"),
        f"accepted only if they are proven now, by a login or from an insider: {places}",
    ]
    assert company.says("domain remove partner.example") == [
        "domain partner.example: removed",
        f"accepted as MAIL FROM says now, which anybody can forge: {places}",
    ]


def test_list_shows_what_there_is_to_say_and_is_narrowed(company):
    """name, unlisted, and as far as they say something alias_of, receive, until, accept, reason, comment."""
    company.run("domain add bücher.example --alias-of example.com")
    assert company.run("domain list") == (
        "example.com\treject\t\nexample.net\treject\t\nxn--bcher-kva.example\treject\texample.com\n"
    )
    company.run("domain restrict example.net --reason intern")
    assert company.run("domain list 'example.*'") == (
        "example.com\treject\t\tanyone\t\t\t\nexample.net\treject\t\tinsiders\t\t\tintern\n"
    )
    assert [each["name"] for each in company.json("domain list BÜCHER")] == ["xn--bcher-kva.example"]
    company.rows("UPDATE domain SET until = 1000000000 WHERE name = 'example.net'")
    assert "(ended)" in company.run("domain list")
    assert "in force: receive anyone\n" in company.run("mailbox show bob")


def test_domain_that_accepts_unlisted_recipients_says_of_nothing_that_it_is_refused(policyd):
    """Nor does one that is changed in other ways, or that refused them before."""
    policyd.run("domain add example.com")
    for line in (
        "domain add example.net --unlisted accept",
        "domain set example.com --comment x",
        "domain add alias.example --alias-of example.net",
        "domain set example.com --unlisted accept",
    ):
        assert "refused from now on" not in "".join(policyd.says(line)), line
    assert policyd.says("domain set alias.example --no-alias --unlisted accept")[1:] == [
        "the addresses of example.net are no longer reached through alias.example"
    ]

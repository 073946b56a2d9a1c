"""The pages of a domain and of a group, and the ways that lead there and from there."""

import pytest

from policyd.model import OUTSIDE, Domain, Receive
from policyd.store.edit import EntryTerms, RestrictionTerms, need_group, need_mailbox
from tests.support.help_desk import ANN, END, SET, Place
from tests.support.markup import Markup
from tests.support.parties import party, party_set

MEMBERS = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A domain that is internal, with an alias; a group of sixty in another one; and blocks of all of them."""
    place = Place(tmp_path_factory.mktemp("about"))
    with place.session.changing(ANN, SET, may_create=True) as made:
        edit = made.edit
        edit.add_domain(Domain("example.com", comment="the company's own"))
        edit.add_domain(Domain("example.org", alias_of="example.com"))
        edit.add_domain(Domain("old.example"))
        names = [f"user{number:02}" for number in range(MEMBERS)]
        for name in names:
            edit.add_mailbox(name, [f"{name}@example.com", f"a-{name}@example.org"], "")
        edit.add_mailbox("alone", ["alone@old.example"], "")
        terms = RestrictionTerms(Receive.INSIDERS, party_set("@partner.example"), "internal", END)
        edit.restrict(edit.domain("example.com"), terms)
        edit.restrict(need_mailbox(edit.queries, "user03"), RestrictionTerms(Receive.NOBODY, None, "on leave"))
        edit.add_group("staff")
        edit.add_group("crew", [party(name) for name in names])
        edit.join(need_group(edit.queries, "staff"), [party("group:crew"), party("alone")])
        edit.restrict(need_group(edit.queries, "crew"), RestrictionTerms(Receive.DOMAIN, None, "the crew's"))
    with place.session.changing("root", SET + 86400) as made:
        edit = made.edit
        edit.block_sender(party("@example.com"), OUTSIDE, EntryTerms(reason="not yet", until=END))
        edit.block_sender(party("@.bulk.example"), party("@example.com"), EntryTerms(reason="no advertising"))
        edit.block_sender(party("group:staff"), party("@bank.example"), EntryTerms(reason="ask the treasurer"))
        edit.block_sender(party("@poll.example"), party("group:crew"), EntryTerms())
    return place


def shown(place: Place, path: str, **form: str) -> Markup:
    """The page, whose markup is as it should be."""
    page = Markup(place.post(path, **form).body.decode("utf-8"))
    assert [*page.faults()] == []
    return page


def body(page: Markup) -> str:
    """The text of the page, with single blanks."""
    return " ".join(page.all("main")[0].text.split())


def commands(page: Markup) -> list[str]:
    """What stands there to be copied."""
    return [each.text for each in page.all("code")]


def cells(page: Markup, label: str) -> list[str]:
    """What stands in the cells of the column with this *label*."""
    found = [each for each in page.all("td") if each.attributes.get("data-label") == label]
    return [" ".join(each.text.split()) for each in found]


def leads(page: Markup) -> set[tuple[str, str]]:
    """Where the page leads: which page, and what is typed there."""
    return {
        (each.attributes["formaction"], each.attributes["value"])
        for each in page.all("button")
        if "formaction" in each.attributes
    }


def every_row(place: Place, path: str, name: str, label: str) -> list[str]:
    """The cells of that column on this page and all further ones."""
    found: list[str] = []
    after = ""
    while True:
        page = shown(place, path, name=name, after=after)
        found += cells(page, label)
        more = [each for each in page.all("button") if each.attributes.get("name") == "after"]
        if not more or not more[0].attributes["value"]:
            return found
        after = more[0].attributes["value"]


# Domain


def test_domain_says_what_is_in_force_and_who_said_so(place):
    """Who may write to its mailboxes, until when, whom it takes mail from all the same, and who decided that."""
    page = shown(place, "/domain", name="Example.COM.")
    text = body(page)
    assert "Mailboxes that say nothing themselves, nor by a group, receive from insiders" in text
    assert "receive insiders, reason: internal, until 2026-12-31 23:59:59, accepts @partner.example" in text
    assert "Mail from outside to what is no mailbox’s address is refused" in text
    assert "Its aliases example.org" in text
    assert "the company's own" in text
    assert "60 mailboxes" in text
    assert "domain example.com: receive anyone -> insiders" in text
    assert "root(sudo:ann)" in text


def test_domain_has_entries_both_ways(place):
    """With reason, end, and the command that takes each away."""
    page = shown(place, "/domain", name="example.com")
    assert cells(page, "Who") == ["@example.com", "@.bulk.example"]
    assert cells(page, "Reason") == ["not yet", "no advertising"]
    assert "policyd sender unblock --to outside @example.com" in commands(page)
    assert "policyd sender unblock --to @example.com @.bulk.example" in commands(page)
    assert "blocked sender @.bulk.example to @example.com: added" in body(page)


def test_domain_has_the_commands_that_change_it(place):
    """What is restricted can be lifted; what rejects can accept."""
    assert commands(shown(place, "/domain", name="example.com"))[:4] == [
        "policyd domain accept example.com SENDER",
        "policyd domain lift example.com",
        "policyd domain set --unlisted accept example.com",
        "policyd address add MAILBOX ADDRESS@example.com",
    ]
    assert "policyd domain restrict old.example" in commands(shown(place, "/domain", name="old.example"))
    assert "policyd domain set --no-alias example.org" in commands(shown(place, "/domain", name="example.org"))


def test_domain_has_each_mailbox_once_page_by_page(place):
    """One with an address in the alias, too, as the restriction is about it once."""
    assert sorted(every_row(place, "/domain", "example.com", "Mailbox")) == [f"user{n:02}" for n in range(MEMBERS)]
    assert every_row(place, "/domain", "old.example", "Mailbox") == ["alone"]


def test_domain_says_of_each_mailbox_what_counts_for_it(place):
    """A mailbox's own word counts before its group's, and that before the domain's."""
    page = shown(place, "/domain", name="example.com")
    said = dict(zip(cells(page, "Mailbox"), cells(page, "Receives from"), strict=True))
    assert said["user03"] == "nobody, as it says itself: on leave"
    assert said["user04"] == "its own domains, as group:crew says: the crew's"


def test_alias_says_what_its_target_says(place):
    """And entries about either match a sender in it."""
    page = shown(place, "/domain", name="example.org")
    assert "It stands for example.com: what that says counts here, too." in body(page)
    assert "accepts @partner.example" in body(page)
    assert cells(page, "Who") == ["@example.com", "@.bulk.example"]
    assert ("domain", "example.com") in leads(page)


def test_entry_about_subdomains_leads_to_their_domain(place):
    """What is above them is the nearest that has a page, and has the entry."""
    assert ("domain", "bulk.example") in leads(shown(place, "/domain", name="example.com"))
    assert cells(shown(place, "/domain", name="bulk.example"), "Who") == ["@.bulk.example"]


def test_domain_that_is_not_managed_says_what_blocks_it(place):
    """The partner's domain is asked about as often as one's own."""
    page = shown(place, "/domain", name="@news.bulk.example")
    assert "the domain news.bulk.example is not managed" in body(page)
    assert commands(page)[0] == "policyd domain add --unlisted accept news.bulk.example"
    assert cells(page, "Who") == ["@.bulk.example"]


# Group


def test_group_says_what_is_in_force_and_who_said_so(place):
    """Of whom it is made, what it is in, and who decided that."""
    page = shown(place, "/group", name="group:CREW")
    text = body(page)
    assert "Mailboxes in it that say nothing themselves receive from its own domains" in text
    assert "receive domain, reason: the crew's" in text
    assert "60 mailboxes in it" in text
    assert "Groups that it is in group:staff" in text
    assert "blocked sender group:staff to @bank.example: added" in text
    assert "policyd group lift crew" in commands(page)
    joined = body(shown(place, "/group", name="staff"))
    assert "group staff: group:crew joined" in joined


def test_group_has_entries_both_ways(place):
    """Also those of a group that it is in, since they are about its members."""
    page = shown(place, "/group", name="crew")
    assert cells(page, "Who") == ["group:staff", "@poll.example"]
    assert cells(page, "May not send to") == ["@bank.example", "group:crew"]
    assert "policyd sender unblock --to group:crew @poll.example" in commands(page)
    assert cells(shown(place, "/group", name="staff"), "Who") == ["group:staff"]


def test_group_has_its_members_and_theirs_page_by_page(place):
    """First who is in it directly, then who is in it through another group, which is named."""
    members = every_row(place, "/group", "staff", "Member")
    assert members[:3] == ["group:crew", "alonealone@old.example", "user00user00@example.com and 1 address more"]
    assert len(members) == MEMBERS + 2
    ways = every_row(place, "/group", "staff", "Is in it")
    assert ways == ["directly"] * 2 + ["through group:crew"] * MEMBERS


def test_group_says_of_each_mailbox_what_counts_for_it(place):
    """That its domain's word counts where neither it nor a group says anything."""
    said = cells(shown(place, "/group", name="staff"), "Receives from")
    assert said[:3] == ["–", "what its domain says", "its own domains, as group:crew says: the crew's"]


def test_group_that_is_none_says_what_to_type(place):
    """In the words of the command."""
    reply = place.post("/group", name="nobody")
    assert reply.status == 400
    assert "there is no group nobody; see: policyd group list" in body(Markup(reply.body.decode()))


@pytest.mark.parametrize("after", ["", "x", "0 0", "1", "9 9 9", "99999999999999999999 1", "²³ 1", "-1 5"])
def test_no_position_breaks_a_page(place, after):
    """What a browser sends back may be anything."""
    assert place.post("/group", name="staff", after=after).status == 200
    assert place.post("/domain", name="example.com", after=after).status == 200


# The ways from one to the other


@pytest.mark.parametrize(
    ("path", "typed", "title"),
    [
        pytest.param("/", "example.com", "Domain", id="a domain"),
        pytest.param("/", "@partner.example", "Domain", id="a domain that is not managed, as a pattern"),
        pytest.param("/", "crew", "Group", id="a group that no mailbox is called like"),
        pytest.param("/", "group:nobody", "Group", id="a group that is none"),
        pytest.param("/", "user03", "Why was it refused?", id="a mailbox"),
        pytest.param("/", "user03@example.com", "Why was it refused?", id="an address"),
        pytest.param("/", "@.example.com", "Why was it refused?", id="more than one domain"),
        pytest.param("/mailbox", "group:crew", "Group", id="a group for a mailbox"),
        pytest.param("/mailbox", "example.com", "Domain", id="a domain for a mailbox"),
        pytest.param("/mailbox", "nobody", "Mailbox", id="nothing"),
    ],
)
def test_what_is_typed_leads_to_its_page(place, path, typed, title):
    """Who asks about a domain or a group sees what there is to know; the navigation says where that is."""
    page = shown(place, path, **{"about" if path == "/" else "name": typed})
    assert page.text("h1") == title
    current = next(each for each in page.all("a") if "aria-current" in each.attributes)
    assert current.text == ("Ask" if title.startswith("Why") else title)


@pytest.mark.parametrize(
    ("path", "form", "expected"),
    [
        ("/mailbox", {"name": "user03"}, {("group", "group:crew"), ("mailbox", "user03@example.com")}),
        ("/mailbox", {"name": "alone"}, {("group", "group:staff"), ("domain", "bank.example")}),
        ("/domain", {"name": "example.com"}, {("domain", "partner.example"), ("group", "group:crew")}),
        ("/group", {"name": "staff"}, {("mailbox", "alone"), ("domain", "bank.example"), ("group", "group:crew")}),
        (
            "/",
            {"about": "user04"},
            {("mailbox", "user04"), ("group", "group:crew"), ("domain", "example.com")},
        ),
        ("/journal", {}, {("domain", "example.com"), ("group", "group:staff")}),
    ],
)
def test_what_is_named_leads_to_its_page(place, path, form, expected):
    """One click further, by a form that is posted: no name stands in a URL."""
    found = leads(shown(place, path, **form))
    assert expected <= found
    assert not {name for _, name in found} & {"outside", "anyone"}

"""Every change that knows groups, aliases and parties: what it makes, what it refuses, and that it can be undone."""

from collections.abc import Callable

import pytest

from policyd.admin import upkeep
from policyd.errors import RefusedError
from policyd.model import Domain, Mailbox, Receive, Unlisted
from policyd.store.connection import Database
from policyd.store.database import changing, reading
from policyd.store.edit import NO_END, Editor, EntryTerms, RestrictionTerms, block_advice, entries_found
from policyd.store.queries import Queries
from policyd.store.undo import undo_changeset
from tests.support.engine import new_database
from tests.support.parties import parties, party, party_set
from tests.support.writing import NOW, editor_on

Edit = Callable[[Editor], object]
DAY = 86400


def texts(some) -> list[str]:
    """Parties as people write them."""
    return sorted(map(str, some))


class Company:
    """A database, changed as by commands: each call of `does` is one changeset."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def does(self, *edits: Edit, verb: str = "", now: int = NOW) -> int:
        """Make the changes of *edits* in one changeset; return its number."""
        with changing(self.database) as connection:
            editor = editor_on(connection, verb=verb, now=now)
            for edit in edits:
                edit(editor)
            return editor.journal.changeset

    def refuses(self, edit: Edit) -> str:
        """What is said where *edit* makes no sense; nothing was changed."""
        before = self.contents()
        with pytest.raises(RefusedError) as caught:
            self.does(edit)
        assert self.contents() == before
        return str(caught.value)

    def undo(self, changeset: int) -> None:
        """Undo a changeset."""
        self.does(lambda edit: undo_changeset(edit, changeset), verb="undo")

    def cant_undo(self, changeset: int) -> str:
        """What is in the way of undoing a changeset; nothing was changed."""
        return self.refuses(lambda edit: undo_changeset(edit, changeset)).partition("build on it: ")[2]

    def contents(self):
        """Everything in the tables, numbers and times included."""
        with reading(self.database) as connection:
            found = Queries(connection)
            return (
                [*found.domains()],
                [*found.mailboxes()],
                [*found.groups()],
                [*found.memberships()],
                [*found.addresses()],
                [*found.blocked_senders()],
            )

    def group(self, name: str):
        """A group as it is stored."""
        with reading(self.database) as connection:
            found = Queries(connection).group_named(name)
            assert found is not None
            return found

    def mailbox(self, name: str) -> Mailbox:
        """A mailbox as it is stored."""
        with reading(self.database) as connection:
            found = Queries(connection).mailbox_named(name)
            assert found is not None
            return found

    def members(self, name: str) -> list[str]:
        """Who is in a group, as people write it."""
        with reading(self.database) as connection:
            return [str(each.member) for each in Queries(connection).members_of(self.group(name).id)]

    def entries(self) -> list[str]:
        """Every entry, in words."""
        with reading(self.database) as connection:
            return [
                " ".join(
                    map(str, (each.who, "to", each.to, "except", texts(each.allowed), texts(each.allowed_senders)))
                )
                for each in Queries(connection).blocked_senders()
            ]

    def journal(self, changeset: int) -> list[tuple[str, str, str | None, str | None]]:
        """The rows of a changeset, the first first."""
        with reading(self.database) as connection:
            rows = [*Queries(connection).changes_of(changeset)]
        return [(row.operation, row.object, row.before, row.after) for row in reversed(rows)]

    def findings(self) -> list[str]:
        """What `database check` says."""
        found: list[str] = []
        upkeep.check(self.database, lambda check: check.run(lambda each: found.append(str(each)), lambda: None))
        return found


@pytest.fixture
def company(tmp_path):
    """One domain, three mailboxes, and two groups, one in the other."""
    with new_database(tmp_path) as database:
        company = Company(database)
        company.does(
            lambda edit: edit.add_domain(Domain("example.com")),
            lambda edit: edit.add_mailbox("Alice", ["alice@example.com", "a@example.com"], ""),
            lambda edit: edit.add_mailbox("Bob", ["bob@example.com"], ""),
            lambda edit: edit.add_mailbox("Carol", [], ""),
            lambda edit: edit.add_group("Staff", parties("Bob"), "all of us"),
            lambda edit: edit.add_group("All", parties("group:Staff", "Carol")),
        )
        yield company
        assert company.findings() == []


def block(who: str, to: str, *, allowed=(), senders=()) -> Edit:
    """An entry, with exceptions."""
    terms = EntryTerms(
        allowed=party_set(*allowed) if allowed else None, allowed_senders=party_set(*senders) if senders else None
    )
    return lambda edit: edit.block_sender(party(who), party(to) if to else None, terms)


def restrict_group(*accepted: str, receive: Receive | None = None) -> Edit:
    """A restriction of Staff."""
    terms = RestrictionTerms(receive, party_set(*accepted) if accepted else None, "ours", NOW + DAY)
    return lambda edit: edit.restrict(edit.group("Staff"), terms)


KINDS: list[tuple[str, list[Edit], Edit]] = [
    ("domain restrict", [], lambda edit: edit.restrict(edit.domain("example.com"), RestrictionTerms(reason="r"))),
    (
        "domain lift",
        [lambda edit: edit.restrict(edit.domain("example.com"), RestrictionTerms(Receive.DOMAIN, party_set("Bob")))],
        lambda edit: edit.lift(edit.domain("example.com")),
    ),
    (
        "domain accept",
        [lambda edit: edit.restrict(edit.domain("example.com"), RestrictionTerms())],
        lambda edit: edit.accept(edit.domain("example.com"), parties("group:Staff", "@p.example", "Carol")),
    ),
    (
        "domain unaccept",
        [lambda edit: edit.restrict(edit.domain("example.com"), RestrictionTerms(accepted=party_set("Bob", "x@")))],
        lambda edit: edit.unaccept(edit.domain("example.com"), parties("bob")),
    ),
    ("domain add alias", [], lambda edit: edit.add_domain(Domain("alias.example", alias_of="example.com"))),
    (
        "domain set alias",
        [lambda edit: edit.add_domain(Domain("b.example"))],
        lambda edit: edit.set_domain("b.example", alias_of="example.com", comment="c"),
    ),
    (
        "domain set no alias",
        [lambda edit: edit.add_domain(Domain("b.example", alias_of="example.com"))],
        lambda edit: edit.set_domain("b.example", Unlisted.ACCEPT, alias_of=""),
    ),
    ("mailbox open", [], lambda edit: edit.open_mailbox(edit.mailbox("Bob"), NOW + DAY)),
    ("mailbox set", [], lambda edit: edit.set_mailbox(edit.mailbox("Bob"), "a note")),
    ("mailbox accept, inheriting", [], lambda edit: edit.accept(edit.mailbox("Bob"), parties("Alice", "group:All"))),
    ("mailbox remove", [restrict_group("Bob")], lambda edit: edit.remove_mailbox("Bob")),
    ("group add", [], lambda edit: edit.add_group("New", parties("Bob", "a@example.com", "group:All"))),
    ("group set", [], lambda edit: edit.set_group(edit.group("Staff"), "other")),
    ("group rename", [], lambda edit: edit.rename_group("Staff", "Crew")),
    ("group join", [], lambda edit: edit.join(edit.group("Staff"), parties("Carol", "alice@example.com"))),
    ("group leave", [], lambda edit: edit.leave(edit.group("All"), parties("group:staff", "carol"))),
    ("group restrict", [], restrict_group("Alice", "group:All", receive=Receive.NOBODY)),
    ("group lift", [restrict_group("Alice")], lambda edit: edit.lift(edit.group("Staff"))),
    ("group accept", [restrict_group()], lambda edit: edit.accept(edit.group("Staff"), parties("<>"))),
    ("group unaccept", [restrict_group("Bob")], lambda edit: edit.unaccept(edit.group("Staff"), parties("Bob"))),
    (
        "group remove",
        [
            restrict_group("group:All"),
            block("group:Staff", "outside"),
            block("@x.example", "group:Staff"),
            block("Alice", "anyone", allowed=["group:Staff"], senders=["group:Staff"]),
            lambda edit: edit.restrict(
                edit.mailbox("Alice"), RestrictionTerms(Receive.NOBODY, party_set("group:Staff", "Bob"))
            ),
        ],
        lambda edit: edit.remove_group("Staff"),
    ),
    ("sender block group", [], block("group:Staff", "", allowed=["@p.example"], senders=["Bob"])),
    ("sender block anyone", [], block("anyone", "@competitor.example", senders=["group:Staff"])),
    ("sender block to group", [], block("@x.example", "group:All", allowed=["Bob"])),
    (
        "sender except",
        [block("Bob", "anyone")],
        lambda edit: edit.add_exceptions(party("Bob"), None, parties("Carol", "@p.example"), parties("group:All")),
    ),
    (
        "sender unexcept",
        [block("Bob", "anyone", allowed=["Carol", "@p.example"], senders=["group:All"])],
        lambda edit: edit.remove_exceptions(party("Bob"), None, parties("Carol"), parties("group:all")),
    ),
]


@pytest.mark.parametrize(("before", "edit"), [kind[1:] for kind in KINDS], ids=[kind[0] for kind in KINDS])
def test_every_change_is_journalled_undone_and_made_again(company, before, edit):
    """Nobody has to know how to take a command back; and `database check` knows each of them."""
    company.does(*before)
    was = company.contents()
    changeset = company.does(edit)
    done = company.contents()
    assert done != was
    assert company.journal(changeset)
    assert company.findings() == []
    company.undo(changeset)
    assert company.contents() == was
    company.undo(changeset + len(company.journal(changeset)))
    assert company.contents() == done


def test_group_is_made_with_members_by_name_address_and_prefix(company):
    """Each once, however often it is named."""
    company.does(lambda edit: edit.add_group("x", parties("BOB", "a@example.com", "alice", "group:STAFF")))
    assert company.members("x") == ["Bob", "Alice", "group:Staff"]


def test_who_is_in_a_group_joins_it_without_a_trace(company):
    """Done again, a command says so and leaves no row."""
    changeset = company.does(lambda edit: edit.join(edit.group("staff"), parties("bob")))
    assert company.journal(changeset) == []


def test_membership_is_an_object_of_its_own(company):
    """Ten thousand joins must not write ten thousand lists of members, and each can be undone by itself."""
    first = company.does(lambda edit: edit.join(edit.group("staff"), parties("Carol")))
    company.does(lambda edit: edit.join(edit.group("staff"), parties("Alice")))
    after = '{"id": 4, "group": {"group": 1, "name": "Staff"}, "member": {"mailbox": 3, "name": "Carol"}}'
    assert company.journal(first) == [("group.join", "group:Staff", None, after)]
    company.undo(first)
    assert company.members("staff") == ["Bob", "Alice"]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        pytest.param(
            lambda edit: edit.join(edit.group("Staff"), parties("group:All")),
            "group:All can't join group:Staff, which is in it already; groups make no circle",
            id="a circle",
        ),
        pytest.param(
            lambda edit: edit.join(edit.group("Staff"), parties("group:staff")),
            "group:Staff can't join group:Staff, which is in it already; groups make no circle",
            id="a group in itself",
        ),
        pytest.param(
            lambda edit: edit.join(edit.group("Staff"), parties("x@example.com")),
            "x@example.com is no mailbox's address; see: policyd mailbox list, or: policyd mailbox add",
            id="an address of nobody",
        ),
        pytest.param(
            lambda edit: edit.leave(edit.group("Staff"), parties("Alice")),
            "Alice: not in group:Staff; see: policyd group show Staff",
            id="who is not in it leaves",
        ),
        pytest.param(
            lambda edit: edit.add_group("STAFF"),
            "there is a group STAFF already; to put somebody into it: policyd group join STAFF MEMBER",
            id="a group twice",
        ),
        pytest.param(
            lambda edit: edit.rename_group("Staff", "ALL"),
            "there is a group All already; choose another name",
            id="a name that is taken",
        ),
        pytest.param(
            lambda edit: edit.accept(edit.group("Staff"), parties("Bob")),
            "Staff receives from anyone, so this would do nothing; "
            "to restrict it: policyd group restrict Staff --accept SENDER",
            id="a group that restricts nobody accepts",
        ),
        pytest.param(
            lambda edit: edit.lift(edit.group("Staff")),
            "Staff is not restricted; nothing to lift",
            id="a group without a restriction is lifted",
        ),
        pytest.param(
            lambda edit: edit.add_domain(Domain("b.example", alias_of="c.example")),
            "c.example is not managed; add it with: policyd domain add c.example",
            id="an alias of a domain that is not managed",
        ),
        pytest.param(
            block("anyone", ""),
            "who blocks anyone must say to whom: add --to outside, or --to @competitor.example",
            id="anyone, to nobody in particular",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(company, edit, told):
    """With what to do instead."""
    assert company.refuses(edit) == told


def test_alias_domains_make_no_chain(company):
    """One step: whoever looks an address up has two domains to ask, not a row of them."""
    company.does(lambda edit: edit.add_domain(Domain("b.example", alias_of="example.com")))
    told = company.refuses(lambda edit: edit.add_domain(Domain("c.example", alias_of="b.example")))
    assert told == "b.example stands for example.com itself; type --alias-of example.com"
    company.does(lambda edit: edit.add_domain(Domain("d.example")))
    told = company.refuses(lambda edit: edit.set_domain("example.com", alias_of="d.example"))
    assert told == "b.example stands for example.com, which so can't stand for another one"
    told = company.refuses(lambda edit: edit.set_domain("d.example", alias_of="d.example"))
    assert told == "d.example can't stand for itself"


def test_alias_domain_has_no_restriction_of_its_own(company):
    """Its target's counts, for the one address in both spellings."""
    company.does(lambda edit: edit.add_domain(Domain("b.example", alias_of="example.com")))
    told = company.refuses(lambda edit: edit.restrict(edit.domain("b.example"), RestrictionTerms()))
    assert told.startswith("b.example stands for example.com, whose restriction counts; type: policyd domain restrict")
    company.does(
        lambda edit: edit.add_domain(Domain("c.example")),
        lambda edit: edit.restrict(edit.domain("c.example"), RestrictionTerms()),
    )
    told = company.refuses(lambda edit: edit.set_domain("c.example", alias_of="example.com"))
    assert told == "c.example has a restriction of its own; first type: policyd domain lift c.example"


def test_domain_that_others_stand_for_stays(company):
    """Else the alias would stand for nothing."""
    company.does(lambda edit: edit.add_domain(Domain("b.example", alias_of="example.com")))
    assert company.refuses(lambda edit: edit.remove_domain("example.com")).startswith("b.example stands for")


def test_opened_mailbox_is_closed_again_by_lifting(company):
    """`lift` makes it inherit again, whichever way it said something itself."""
    company.does(lambda edit: edit.restrict(edit.mailbox("Bob"), RestrictionTerms(reason="r", until=NOW + DAY)))
    company.does(lambda edit: edit.open_mailbox(edit.mailbox("Bob")))
    bob = company.mailbox("bob")
    assert (bob.receive, bob.reason, bob.until) == (Receive.ANYONE, "", None)
    company.does(lambda edit: edit.lift(edit.mailbox("Bob")))
    assert company.mailbox("bob") == Mailbox("Bob", id=2)


def test_lift_takes_whom_an_opened_mailbox_accepts_too(company):
    """Else they would get past the next restriction of its group or domain, and nobody would know why."""
    company.does(lambda edit: edit.accept(edit.mailbox("Bob"), parties("@partner.example")))
    company.does(lambda edit: edit.open_mailbox(edit.mailbox("Bob")))
    company.does(lambda edit: edit.lift(edit.mailbox("Bob")))
    assert company.mailbox("bob") == Mailbox("Bob", id=2)


def test_accepted_senders_stay_while_a_mailbox_is_open(company):
    """They count again when it inherits again, without anybody's doing."""
    company.does(lambda edit: edit.accept(edit.mailbox("Bob"), parties("Alice")))
    company.does(lambda edit: edit.open_mailbox(edit.mailbox("Bob"), NOW + DAY))
    assert company.mailbox("bob").accepted == {party("Alice", 1)}
    company.does(lambda edit: edit.open_mailbox(edit.mailbox("Bob"), NO_END))
    assert company.mailbox("bob").until is None
    assert "receives from anyone" in company.refuses(lambda edit: edit.accept(edit.mailbox("Bob"), parties("Carol")))


def test_restriction_that_has_ended_is_in_force_again_when_it_is_set_again(company):
    """Of groups and domains as of mailboxes."""
    company.does(restrict_group("Alice"))
    company.does(lambda edit: edit.restrict(edit.group("Staff"), RestrictionTerms(reason="x")), now=NOW + 2 * DAY)
    staff = company.group("staff")
    assert (staff.receive, staff.reason, staff.until, staff.accepted) == (
        *(Receive.INSIDERS, "x", None),
        {party("Alice", 1)},
    )


@pytest.mark.parametrize(
    ("who", "to"),
    [
        ("Bob", "outside"),
        ("group:Staff", "outside"),
        ("@example.com", "outside"),
        ("alice@example.com", "outside"),
        ("@spam.example", "anyone"),
        ("user@", "anyone"),
    ],
)
def test_block_without_recipients_is_to_outside_for_our_own(company, who, to):
    """Who left the company writes to nobody outside; a stranger to nobody at all."""
    company.does(block(who, ""))
    assert company.entries() == [f"{who} to {to} except [] []"]


ALIAS = Domain("b.example", alias_of="example.com")


@pytest.mark.parametrize(
    ("to", "exception", "told"),
    [
        pytest.param("outside", "Alice", "Alice is inside, and this entry leaves", id="outside, but a mailbox"),
        pytest.param("outside", "group:Staff", "group:Staff is inside", id="outside, but a group"),
        pytest.param("outside", "@example.com", "example.com is managed", id="outside, but inside"),
        pytest.param("Alice", "Bob", "Bob is another mailbox than Alice", id="a mailbox, but another"),
        pytest.param("Alice", "Alice", "leaves nothing of the entry", id="a mailbox, but that one"),
        pytest.param("Bob", "group:All", "leaves nothing of the entry", id="a mailbox, but a group it is in"),
        pytest.param("group:Staff", "group:All", "leaves nothing of the entry", id="a group, but one around it"),
        pytest.param("Alice", "@x.example", "x.example is not managed", id="a mailbox, but outside"),
        pytest.param("@x.example", "@x.example", "leaves nothing of the entry", id="a domain, but that one"),
        pytest.param("@a.x.example", "@.x.example", "leaves nothing of the entry", id="a domain, but those around"),
        pytest.param("u@x.example", "u@", "leaves nothing of the entry", id="an address, but that local part"),
        pytest.param("@x.example", "@y.example", "no recipient that @x.example matches is one", id="another domain"),
        pytest.param("@x.example", "u@y.example", "no recipient that @x.example matches", id="an address elsewhere"),
        pytest.param("@x.example", "Bob", "x.example is not managed, so Bob has no", id="a domain, but a mailbox"),
        pytest.param("@b.example", "@example.com", "leaves nothing of the entry", id="an alias, but its target"),
        pytest.param("anyone", "<>", "no recipient is the null sender", id="the null sender"),
        pytest.param("group:Staff", "Bob", "", id="a group, but one in it"),
        pytest.param("group:Staff", "Alice", "", id="a group, but one who may join it"),
        pytest.param("@x.example", "u@", "", id="a domain, but a local part"),
        pytest.param("@x.example", "u@x.example", "", id="a domain, but an address in it"),
        pytest.param("@.x.example", "@a.x.example", "", id="domains, but one of them"),
        pytest.param("@.x.example", "@x.example", "no recipient that @.x.example", id="subdomains, but not one"),
        pytest.param("u@x.example", "u+news@x.example", "", id="an address, but one extension"),
        pytest.param("@example.com", "Bob", "", id="our domain, but a mailbox"),
        pytest.param("@example.com", "@b.example", "", id="our domain, but by its alias"),
        pytest.param("anyone", "group:Staff", "", id="anyone, but a group"),
        pytest.param("outside", "@partner.example", "", id="outside, but a partner"),
    ],
)
def test_exception_by_recipient_is_neither_nothing_nor_everything(company, to, exception, told):
    """A typing error would silently leave everybody free, or nobody."""
    company.does(lambda edit: edit.add_domain(ALIAS))
    entry = block("@spam.example", to, allowed=[exception])
    if told:
        assert told in company.refuses(entry)
    else:
        company.does(entry)


@pytest.mark.parametrize("who", ["Alice", "anyone", "@spam.example", "<>"])
def test_entry_to_the_null_sender_is_refused(company, who):
    """It can match no recipient: whoever typed it meant mail from the null sender."""
    assert "no recipient is the null sender" in company.refuses(block(who, "<>"))
    assert company.entries() == []


@pytest.mark.parametrize(
    ("who", "exception", "is_refused"),
    [
        pytest.param("@x.example", "@x.example", True, id="what can be forged, all of it"),
        pytest.param("@x.example", "u@x.example", False, id="one of them"),
        pytest.param("<>", "<>", True, id="the null sender"),
        pytest.param("@example.com", "@example.com", False, id="our own, where they prove it"),
        pytest.param("Bob", "Bob", False, id="a mailbox, where it is proven"),
        pytest.param("anyone", "group:Staff", False, id="anyone but a group"),
    ],
)
def test_exception_by_sender_leaves_something(company, who, exception, is_refused):
    """What has to be proven lets the forger's half be blocked; what is as written, nothing."""
    entry = block(who, "@competitor.example", senders=[exception])
    if is_refused:
        assert "leaves nothing of the entry" in company.refuses(entry)
    else:
        company.does(entry)


def test_address_of_a_mailbox_finds_the_entries_of_the_mailbox(company):
    """Whoever unblocks alice by one of her addresses means Alice."""
    company.does(block("Alice", "outside"))
    with reading(company.database) as connection:
        found = Queries(connection)
        assert [str(each.who) for each in entries_found(found, party("a@example.com"))] == ["Alice"]
        advice = block_advice(found, party("a@example.com"))
        assert advice.endswith("to block the mailbox: policyd sender block Alice")
        assert block_advice(found, party("@example.com")) == block_advice(found, party("Alice")) == ""
    company.does(block("a@example.com", "outside"))
    company.does(lambda edit: edit.unblock_sender(party("a@example.com"), None))
    assert company.entries() == ["Alice to outside except [] []"]
    company.does(lambda edit: edit.unblock_sender(party("a@example.com"), None))
    assert company.entries() == []


# --- What bites in the journal and in undo


def test_group_that_something_refers_to_stays_when_its_addition_is_undone(company):
    """Else a list would be closed silently, or a block opened."""
    uses: list[Edit] = [
        lambda edit: edit.join(edit.group("New"), parties("Alice")),
        lambda edit: edit.join(edit.group("All"), parties("group:New")),
        lambda edit: edit.restrict(edit.mailbox("Bob"), RestrictionTerms(accepted=party_set("group:New"))),
        lambda edit: edit.restrict(edit.domain("example.com"), RestrictionTerms(accepted=party_set("group:New"))),
        restrict_group("group:New"),
        block("group:New", "outside"),
        block("Bob", "group:New"),
        block("Alice", "anyone", allowed=["group:New"]),
        block("Carol", "anyone", senders=["group:New"]),
    ]
    added = company.does(lambda edit: edit.add_group("New"))
    for use in uses:
        used = company.does(use)
        assert company.cant_undo(added) == "group:New: what hangs on it" or "group:New: change" in company.cant_undo(
            added
        )
        company.undo(used)
    company.undo(added)


def test_mailbox_that_something_refers_to_stays_when_its_addition_is_undone(company):
    """The same."""
    added = company.does(lambda edit: edit.add_mailbox("Dave", [], ""))
    uses: list[Edit] = [
        lambda edit: edit.join(edit.group("All"), parties("Dave")),
        lambda edit: edit.accept(edit.mailbox("Bob"), parties("Dave")),
        block("Alice", "anyone", allowed=["Dave"]),
        block("Alice", "anyone", senders=["Dave"]),
    ]
    for use in uses:
        used = company.does(use)
        assert company.cant_undo(added) == "Dave: what hangs on it"
        company.undo(used)
    company.undo(added)


def test_removed_mailbox_is_taken_from_the_lists_of_others_row_by_row(company):
    """What goes along stands in the journal, before the mailbox: so the undo finds the mailbox there."""
    company.does(
        lambda edit: edit.restrict(edit.mailbox("Alice"), RestrictionTerms(Receive.NOBODY, party_set("Bob", "x@"))),
        block("Bob", "outside"),
        block("@x.example", "Bob"),
        block("Alice", "anyone", allowed=["Bob", "@p.example"], senders=["Bob"]),
    )
    was = company.contents()
    changeset = company.does(lambda edit: edit.remove_mailbox("Bob"))
    assert [(operation, name) for operation, name, *_ in company.journal(changeset)] == [
        ("address.remove", "bob@example.com"),
        ("sender.unblock", "Bob"),
        ("sender.unblock", "@x.example"),
        ("sender.unexcept", "Alice"),
        ("mailbox.unaccept", "Alice"),
        ("group.leave", "group:Staff"),
        ("mailbox.remove", "Bob"),
    ]
    assert company.entries() == ["Alice to anyone except ['@p.example'] []"]
    company.undo(changeset)
    assert company.contents() == was


def test_undo_makes_no_circle(company):
    """Each of two steps was right by itself; their undoing in another order is not."""
    left = company.does(lambda edit: edit.leave(edit.group("All"), parties("group:Staff")))
    company.does(lambda edit: edit.join(edit.group("Staff"), parties("group:All")))
    assert "group:All: " in company.cant_undo(left)


def test_undo_makes_no_chain_of_aliases(company):
    """The same of alias domains."""
    company.does(
        lambda edit: edit.add_domain(Domain("a.example", alias_of="example.com")),
        lambda edit: edit.add_domain(Domain("x.example")),
    )
    removed = company.does(lambda edit: edit.remove_domain("a.example"))
    company.does(
        *(lambda edit, name=name: edit.remove_address(name) for name in ("bob@example.com",)),
        lambda edit: edit.set_domain("example.com", alias_of="x.example"),
    )
    assert company.cant_undo(removed) == "a.example: what hangs on it"


def test_domain_that_something_refers_to_stays_when_its_addition_is_undone(company):
    """An alias of nothing could not even be stored."""
    added = company.does(lambda edit: edit.add_domain(Domain("t.example")))
    company.does(lambda edit: edit.add_domain(Domain("a.example", alias_of="t.example")))
    assert company.cant_undo(added) == "t.example: what hangs on it"


def test_undo_of_a_list_waits_for_who_is_gone(company):
    """A mailbox that was removed since can't be accepted again."""
    company.does(lambda edit: edit.accept(edit.mailbox("Alice"), parties("Carol", "Bob")))
    taken = company.does(lambda edit: edit.unaccept(edit.mailbox("Alice"), parties("Carol")))
    company.does(lambda edit: edit.remove_mailbox("Carol"))
    assert company.cant_undo(taken) == "Alice: what hangs on it"


def test_second_primary_address_is_in_the_way(company):
    """The table itself allows one; the undo says so in words."""
    removed = company.does(lambda edit: edit.remove_address("bob@example.com"))
    company.does(lambda edit: edit.add_address("Bob", "b@example.com"))
    assert company.cant_undo(removed) == "bob@example.com: what hangs on it"


def test_numbers_are_given_once(company):
    """Also across kinds that were removed, and after an undo."""
    for _ in range(2):
        changeset = company.does(lambda edit: edit.add_group("x", parties("Bob")))
        company.undo(changeset)
    company.does(lambda edit: edit.add_group("x", parties("Bob")), block("Bob", "outside"))
    assert company.group("x").id == 5
    with reading(company.database) as connection:
        found = Queries(connection)
        assert [each.id for each in found.members_of(5)] == [6]

"""postfix: hand-written access(5) and virtual(5) maps, and maps of an export."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.model import ANYONE, OUTSIDE, BlockedSender, Domain, Group, Mailbox, Receive, Unlisted
from policyd.records import KEEP, AddressRow, BlockRow, DomainRow, ListEdit, MailboxRow, Record
from policyd.transfer import postfix
from policyd.transfer.formats import Into
from policyd.transfer.text import LINE_LIMIT
from tests.support.parties import party, party_set
from tests.support.randomised import examples
from tests.support.tables_strategies import FixedTables, tables
from tests.support.transfer_reading import problem_of, read_all, rows_of, written

BOTH = "both stand or fall together"


def made_of(address: str, **said) -> MailboxRow:
    """The row of a mailbox that is named after its address."""
    name = address.rpartition("@")[0]
    return MailboxRow(name, addresses=ListEdit(add=(address,)), **said, is_named_by_address=True)


def blocked(*senders: str, reason=KEEP, to: str = "anyone") -> list[BlockRow]:
    """The rows of blocked senders."""
    return [BlockRow(party(sender), party(to), reason=reason) for sender in senders]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param("Eve@Example.com REJECT", blocked("eve@example.com"), id="an address"),
        pytest.param("eve@example.com\treject gone", blocked("eve@example.com", reason="gone"), id="a text"),
        pytest.param("eve@ REJECT", blocked("eve@"), id="a local part"),
        pytest.param("<> REJECT", blocked("<>"), id="the null sender"),
        pytest.param("spam.example REJECT", blocked("@spam.example", "@.spam.example"), id="a domain and those in it"),
        pytest.param("top REJECT", blocked("@top", "@.top"), id="a top-level domain"),
        pytest.param(".spam.example REJECT", blocked("@.spam.example"), id="subdomains"),
        pytest.param("@spam.example REJECT", blocked("@spam.example"), id="a domain with an at"),
        pytest.param("[192.0.2.1] REJECT", blocked("@[192.0.2.1]"), id="an address literal"),
        pytest.param('"john doe"@example.com REJECT', blocked("john doe@example.com"), id="a quoted address"),
        pytest.param("a@b.c 550 5.7.1 no  way", blocked("a@b.c", reason="no  way"), id="codes in front of the text"),
        pytest.param("a@b.c REJECT 5.1.1 no", blocked("a@b.c", reason="no"), id="an enhanced code"),
        pytest.param("a@b.c REJECT 5 apples", blocked("a@b.c", reason="5 apples"), id="a number that is no code"),
        pytest.param("a@b.c REJECT a\n\n# x\n\t b\n", blocked("a@b.c", reason="a b"), id="a continued line"),
    ],
)
def test_refused_senders_are_blocked(text, rows):
    """Who has restricted by hand so far moves over with one command."""
    assert rows_of(postfix, text) == rows


def test_dotted_keys_show_that_domains_stand_alone():
    """With parent_domain_matches_subdomains changed, `domain` no longer means its subdomains."""
    assert rows_of(postfix, "a.example REJECT\n.b.example REJECT\n") == blocked("@a.example", "@.b.example")


def test_map_of_recipients_makes_closed_mailboxes():
    """check_recipient_access with REJECT is what `receive = nobody` is."""
    (row,) = rows_of(postfix, "list@example.com REJECT internal list", into=Into.MAILBOXES)
    assert row == made_of("list@example.com", receive=Receive.NOBODY, reason="internal list")


@pytest.mark.parametrize("key", ["example.com", "a@", "<>", "@example.com"])
def test_map_of_recipients_holds_addresses_only(key):
    """A mailbox can't be a whole domain."""
    assert "is not one recipient" in problem_of(postfix, f"{key} REJECT", into=Into.MAILBOXES)[1]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a@b.c OK", "ok"),
        ("a@b.c ok", "ok"),
        ("b.c 1234567", "ok"),
        ("a@b.c DUNNO", "dunno"),
        ("a@b.c PERMIT", "permit"),
        ("b.c RELAY", "relay"),
        ("a@b.c 450 later", "defer"),
        ("a@b.c DEFER_IF_PERMIT later", "defer"),
        ("a@b.c HOLD", "hold"),
        ("a@b.c FILTER smtp:[127.0.0.1]", "filter"),
        ("a@b.c reject_unverified_sender, permit", "restriction"),
        ("192.0.2.1 REJECT", "client"),
        ("192.0.2 REJECT", "client"),
        ("192.0.2.0/24 REJECT", "client"),
        ("2001:db8::/32 REJECT", "client"),
        ("[2001:db8::]/32 REJECT", "client"),
    ],
)
def test_what_policyd_does_not_do_is_counted(text, word):
    """The map stays in use for these; the administrator is told how many."""
    (record,) = read_all(postfix, text)
    assert (record.rows, record.problems, record.skipped) == ((), (), (word,))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param("Info@example.com info", [AddressRow("info@example.com", "info")], id="a mailbox"),
        pytest.param("a@example.com B@example.com", [AddressRow("a@example.com", "b@example.com")], id="an address"),
        pytest.param("a@example.com A@Example.com", [made_of("a@example.com")], id="itself"),
        pytest.param("Example.com anything", [DomainRow("example.com")], id="a domain"),
        pytest.param('a@example.com "j d"@example.com', [AddressRow("a@example.com", "j d@example.com")], id="quoted"),
    ],
)
def test_virtual_aliases_are_addresses(text, rows):
    """Without its aliases, a mailbox would be refused its mail as unlisted."""
    assert rows_of(postfix, text) == rows


def test_bare_alias_is_in_the_domain_given():
    """virtual(5) completes it with $myorigin, which a file does not hold."""
    assert rows_of(postfix, "root alice", domain="example.com") == [AddressRow("root@example.com", "alice")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a@example.com", "nothing stands right", id="a key alone"),
        pytest.param('"a@example.com', "is no entry", id="an open quote"),
        pytest.param("/^spam/ REJECT", "regular expression", id="a regular expression"),
        pytest.param("endif", "nothing stands right", id="the end of a condition"),
        pytest.param("if /x/", "regular expression", id="a condition"),
        pytest.param("a@b.c 554", "a number alone means OK", id="a code alone"),
        pytest.param("@example.com |/bin/cat", "neither an address nor", id="a command for a domain"),
        pytest.param("example.com smtp:[192.0.2.1]", "of transport(5)", id="transport(5)"),
        pytest.param("a@example.com smtp:[192.0.2.1]", "of transport(5)", id="transport(5), of an address"),
        pytest.param("a@example.com ,", "leads to 0 targets", id="no target"),
        pytest.param("example.com my_class", "restriction class", id="a restriction class"),
        pytest.param("a@example.com |/bin/cat", "neither an address nor", id="a command"),
        pytest.param("a@example.com @example.org", "neither an address nor", id="a domain as a target"),
        pytest.param("a@example.com b@", "neither an address nor", id="a local part as a target"),
        pytest.param("a@example.com <>", "neither an address nor", id="the null sender as a target"),
        pytest.param("root: alice", "is not an address", id="aliases(5)"),
        pytest.param("a..b REJECT", "is not a domain", id="a broken domain"),
        pytest.param("a@b.c REJECT \x07", "control character", id="a control character"),
        pytest.param("a@b.c REJECT " + "x" * LINE_LIMIT, "has more than", id="a line that is too long"),
        pytest.param(
            "a@b.c REJECT\n" + " xx xx\n" * (LINE_LIMIT // 6), "has more than", id="an entry that is too long"
        ),
    ],
)
def test_bad_entry_says_what_is_wrong(text, message):
    """What can't move over must be told, or mail is refused that was welcome."""
    assert message in problem_of(postfix, text)[1]


def excepting(sender: str, *senders: str) -> BlockRow:
    """The row of a blocked sender with exceptions by sender, which nobody has to prove."""
    edit = ListEdit(add=tuple(party(each) for each in senders))
    return BlockRow(party(sender), ANYONE, allowed_senders=edit, needs_no_proof=True)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param(
            "spam.example REJECT\nEve@Spam.example OK",
            [excepting("@spam.example", "eve@spam.example"), *blocked("@.spam.example")],
            id="an address in a domain",
        ),
        pytest.param(
            "good.a.spam.example OK\nspam.example\t550",
            [],
            id="a subdomain, above a number",
        ),
        pytest.param(
            "good.a.spam.example OK\nspam.example\tREJECT",
            [*blocked("@spam.example"), excepting("@.spam.example", "@good.a.spam.example", "@.good.a.spam.example")],
            id="a subdomain, above",
        ),
        pytest.param(
            ".Spam.example REJECT\ngood.spam.example DUNNO",
            [excepting("@.spam.example", "@good.spam.example")],
            id="a subdomain, dotted",
        ),
        pytest.param(
            "boss@ reject\nboss@example.com OK\nspam.example OK",
            [excepting("boss@", "boss@example.com", "@spam.example", "@.spam.example")],
            id="of a local part",
        ),
        pytest.param(
            "x@a.example REJECT\nx+y@a.example OK\nxy@a.example OK",
            [excepting("x@a.example", "x+y@a.example")],
            id="an extension",
        ),
        pytest.param(
            "@a.example REJECT\nx@a.example relay",
            [excepting("@a.example", "x@a.example")],
            id="a domain with an at",
        ),
        pytest.param(
            "a.example REJECT\nb.a.example OK\nc.b.a.example REJECT\nx@c.b.a.example 12",
            [
                *blocked("@a.example"),
                excepting("@.a.example", "@b.a.example", "@.b.a.example", "x@c.b.a.example"),
                excepting("@c.b.a.example", "x@c.b.a.example"),
                *blocked("@.c.b.a.example"),
            ],
            id="exceptions in exceptions",
        ),
        pytest.param(
            "x@a.example OK\nx@a.example REJECT\na.example REJECT",
            [excepting("@a.example", "x@a.example"), *blocked("@.a.example")],
            id="the first of two counts",
        ),
    ],
)
def test_what_is_let_through_is_an_exception_of_what_is_refused(text, rows):
    """The one customer who is let through would be refused unnoticed."""
    assert [row for record in read_all(postfix, text) if isinstance(record, Record) for row in record.rows] == rows


def test_an_exception_stands_with_what_it_is_one_of():
    """Where that can't be applied, the exception has to be corrected with it."""
    first, second, third = read_all(postfix, "a.example REJECT\nx@a.example OK\ny@a.example HOLD")
    assert (first.line, second.stands_with, second.skipped) == (1, (1,), ())
    assert (third.stands_with, third.skipped) == ((1,), ("hold",))  # let through; what else happens, the map does


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("450 later", "policyd has no '450'"),
        ("DEFER_IF_PERMIT", "policyd has no 'DEFER_IF_PERMIT'"),
        ("discard", "policyd has no 'discard'"),
        ("check_client_access hash:/etc/x, reject", "policyd has no 'check_client_access'"),
        ("my_class", "policyd has no 'my_class'"),
        ("partners", "policyd has no 'partners'"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_what_can_not_be_excepted_falls_with_all_that_belongs_to_it(answer, why, is_first):
    """Half of it would refuse mail that was welcome, or let through what was put off."""
    lines = [f"x@a.example {answer}", "a.example REJECT"]
    first, second, third = read_all(postfix, "\n".join([*(lines if is_first else lines[::-1]), "y@b.a.example OK"]))
    exception, refusal = (first, second) if is_first else (second, first)
    assert [problem.message for problem in exception.problems] == [
        f"this is an exception to 'a.example' in line {refusal.line} that can't be carried over: {why}; {BOTH}"
    ]
    (problem,) = refusal.problems
    assert problem.message == (
        f"line {exception.line} makes an exception to this, for 'x@a.example',"
        f" that can't be carried over: {why}; {BOTH}"
    )
    assert [problem.message for problem in third.problems] == [
        f"this is an exception to 'a.example' in line {refusal.line}, which is wrong; {BOTH}"
    ]


@pytest.mark.parametrize(
    "refusal", ["*@a.example REJECT", "*.a.example REJECT", "a.example REJECT \x07", "a.example 554"]
)
def test_exception_from_what_is_wrong_waits_for_it(refusal):
    """Corrected and imported alone, the refusal would refuse whom the map lets through."""
    _, exception = read_all(postfix, f"{refusal}\nx@b.a.example OK")
    assert BOTH in exception.problems[0].message


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(".spam.example REJECT\nx@spam.example OK", id="the domain is not refused"),
        pytest.param("spam.example OK\nx@spam.example REJECT", id="the other way round"),
        pytest.param("spam.example REJECT\nx@ OK", id="a local part, which is looked up last"),
        pytest.param("x@ OK\nx@spam.example REJECT", id="the same of an address"),
        pytest.param("# spam.example REJECT\nx@spam.example OK", id="a comment"),
        pytest.param("spam.example HOLD\nx@spam.example OK", id="not refused"),
    ],
)
def test_what_is_let_through_anyway_is_skipped(text):
    """Maps are full of these; they need no attention."""
    assert not any(record.problems for record in read_all(postfix, text))


def test_map_of_recipients_may_have_exceptions():
    """There each address is a mailbox of its own."""
    first, second = read_all(postfix, "x@example.com OK\nx@ REJECT", into=Into.MAILBOXES)
    assert first.rows == (made_of("x@example.com"),)
    assert second.problems


def test_entries_keep_their_place_and_text():
    """The rejected ones are written out to be corrected."""
    bad, good = read_all(postfix, "# x\n\na@b.c b,\n  c\n# y\nd@b.c REJECT\n")
    assert (bad.line, bad.source) == (3, "a@b.c b,\n  c")
    assert (good.line, good.rows) == (6, tuple(blocked("d@b.c")))


def test_export_reads_back():
    """Nobody is locked in, and nobody is locked out: what the maps can say comes back."""
    held = FixedTables(
        (Domain("example.com"), Domain("example.org", Unlisted.ACCEPT)),
        (
            (Mailbox("alice", Receive.INSIDERS), ("alice@example.com", "a@example.com")),
            (Mailbox("bob"), ("bob@example.com",)),
            (Mailbox("eve", Receive.NOBODY, "5.1.1 gone"), ("eve@example.com",)),
        ),
        (
            BlockedSender(party("alice")),
            BlockedSender(party("@spam.example"), to=ANYONE, reason="spam"),
            BlockedSender(party("@.spam.example"), to=ANYONE),
        ),
    )
    text, _ = written(postfix, held)
    assert rows_of(postfix, text) == [
        DomainRow("example.com", unlisted=Unlisted.REJECT),
        DomainRow("example.org", unlisted=Unlisted.ACCEPT),
        made_of("alice@example.com", receive=Receive.INSIDERS),
        made_of("bob@example.com", receive=Receive.INHERIT),
        made_of("eve@example.com", receive=Receive.NOBODY, reason="5.1.1 gone"),
        AddressRow("a@example.com", "alice@example.com"),
        made_of("a@example.com", receive=Receive.INSIDERS),
        *blocked("@spam.example", reason="spam"),
        *blocked("@.spam.example"),
        *blocked("alice@example.com", "a@example.com", to="outside"),
    ]


def test_postmaster_stays_open_in_an_export():
    """RFC 5321 §4.5.1: whoever has the address, and whether anybody has it."""
    closed = (Mailbox("pam", Receive.NOBODY), ("postmaster@example.com", "postmaster+x@example.com"))
    held = FixedTables((Domain("example.com"), Domain("example.org")), (closed,))
    text, _ = written(postfix, held)
    lines = [line for line in text.splitlines() if line.startswith("postmaster")]
    assert lines == [
        "postmaster@example.com\tDUNNO always accepted",
        "postmaster@example.org\tDUNNO always accepted, no mailbox",
        "postmaster+x@example.com\tpostmaster@example.com",
        "postmaster+x@example.com\tDUNNO always accepted",
    ]
    assert [row for row in rows_of(postfix, text) if isinstance(row, MailboxRow)] == [
        made_of("postmaster@example.com", receive=KEEP),
        made_of("postmaster+x@example.com", receive=KEEP),
    ]


def test_logins_of_an_export_are_names_and_whole_addresses():
    """A name with a blank or a mark of its own in it can't be a key; a pattern is no login."""
    held = FixedTables(
        (Domain("example.com"),),
        (
            (Mailbox("Alice"), ("alice@example.com",)),
            (Mailbox("two words"), ("j d@example.com",)),
            (Mailbox("#1"), ()),
        ),
        (
            BlockedSender(party("Alice")),
            BlockedSender(party("two words")),
            BlockedSender(party("#1")),
            *(BlockedSender(party(pattern)) for pattern in ("<>", "user@", "@a.example", "@.a.example")),
            BlockedSender(party("Alice"), to=ANYONE, reason="bösartig"),
            BlockedSender(party("alice@example.com")),
        ),
    )
    text, _ = written(postfix, held)
    assert text.partition("file: login_access\n")[2].partition("\n\n")[0].splitlines() == [
        "alice\tREJECT 5.7.1 boesartig",
        "alice@example.com\tREJECT 5.7.1 boesartig",
        '"j d"@example.com\tpolicyd_outside',
    ]


def test_what_maps_cannot_say_is_counted():
    """An administrator who leaves must know what stays behind."""
    held = FixedTables(
        (),
        (
            (Mailbox("Alice", Receive.INSIDERS, "r", 1, "c", party_set("<>")), ("a@example.com",)),
            (Mailbox("empty"), ()),
        ),
        (
            BlockedSender(party("Alice"), reason="r", until=1, comment="c", allowed=party_set("a@")),
            BlockedSender(party("Alice"), to=ANYONE, reason="kept"),
            BlockedSender(party("empty")),
            BlockedSender(party("<>"), to=party("Alice")),
        ),
    )
    text, lost = written(postfix, held)
    assert "sender_access\na@example.com\tREJECT 5.7.1 kept\n\n" in text
    assert "sender_outside\na@example.com\tpolicyd_outside\n\n" in text
    assert "login_access\nalice\tREJECT 5.7.1 kept\na@example.com\tREJECT 5.7.1 kept\nempty\tpolicyd_outside\n" in text
    assert lost == {
        "mailbox": 1,
        "mailbox name": 1,
        "accept": 1,
        "reason": 2,
        "until": 2,
        "comment": 2,
        "except": 1,
        "created_at": 4,
        "blocked mailbox": 3,
        "blocked sender": 1,
    }


def test_domain_that_takes_its_own_people_alone_is_closed_and_counted():
    """No map knows whose address somebody has; the recipients that no mailbox has are closed with the domain."""
    held = FixedTables(
        (
            Domain("a.example", Unlisted.ACCEPT, receive=Receive.DOMAIN),
            Domain("b.example", receive=Receive.DOMAIN),
            Domain("c.example", alias_of="a.example"),
        ),
        ((Mailbox("alice"), ("alice@b.example",)), (Mailbox("bob", Receive.ANYONE), ("bob@b.example",))),
        (),
    )
    text, lost = written(postfix, held)
    closed = "REJECT 5.7.1 This mailbox does not take mail from this sender"
    for key in ("a.example", "c.example", "alice@b.example"):
        assert f"\n{key}\t{closed}\n" in text
    assert lost["receive = domain"] == 2


def test_login_by_a_further_address_is_matched_as_it_is_written():
    """A pattern is asked of the login itself, too, whatever the primary address is: also in an alias domain."""
    held = FixedTables(
        (Domain("a.example"), Domain("b.example"), Domain("c.example", alias_of="a.example")),
        ((Mailbox("alice"), ("alice@a.example", "info@b.example")),),
        (BlockedSender(party("@b.example"), to=ANYONE), BlockedSender(party("@c.example"))),
    )
    text, _ = written(postfix, held)
    logins = text.partition("file: login_access\n")[2].partition("\n\n")[0].splitlines()
    assert logins == [
        "info@b.example\tREJECT 5.7.1 This sender may not write to this recipient",
        "alice@c.example\tpolicyd_outside",
    ]


def test_login_that_no_key_stands_for_is_counted():
    """Postfix asks for a login without quotes and splits keys at blanks: who is blocked by it alone goes free."""
    names = ("Carol Jones", "Jörg", "#1", "plain")
    held = FixedTables(
        (),
        (
            *((Mailbox(name), (f"a{number}@example.com",)) for number, name in enumerate(names)),
            (Mailbox("no key"), ()),
            (Mailbox("quoted"), ("j d@example.com",)),
        ),
        (
            *(BlockedSender(party(name)) for name in (*names, "no key", "quoted")),
            BlockedSender(party("Carol Jones"), to=party("plain")),
        ),
    )
    _, lost = written(postfix, held)
    assert (lost["login"], lost["blocked sender"]) == (4, 2)


def test_recipient_that_holds_another_address_is_refused_unless_it_is_listed():
    """It may lead to a closed mailbox, and in a domain that takes everybody nothing else would stop it."""
    held = FixedTables(
        (Domain("a.example"), Domain("[192.0.2.1]", Unlisted.ACCEPT)),
        ((Mailbox("alice"), ("alice@a.example", "50%off@a.example", "prvs=1=x+y@a.example")),),
        (),
    )
    text, _ = written(postfix, held)
    assert text.partition("file: wrapped_recipients\n")[2].splitlines() == [
        r"/^50%off@a\.example$/" + "\tDUNNO",
        r"/^prvs=1=x\+y@a\.example$/" + "\tDUNNO",
        r"/(^imcea(ex|smtp)-|^prvs=|[%!@]).*@a\.example$/" + "\tREJECT 5.1.1 This address does not receive mail",
        r"/(^imcea(ex|smtp)-|^prvs=|[%!@]).*@\[192\.0\.2\.1\]$/" + "\tREJECT 5.1.1 This address does not receive mail",
    ]


@pytest.mark.parametrize(
    ("part", "line", "message"),
    [
        ("recipient_access", "example.com HOLD", "a domain is DUNNO, policyd_unlisted, policyd_insiders or REJECT"),
        ("recipient_access", "a@example.com HOLD", "is DUNNO, policyd_insiders or REJECT"),
        ("sender_access", "a@example.com HOLD", "a sender is REJECT"),
        ("sender_outside", "a@example.com REJECT", "a sender is policyd_outside"),
    ],
)
def test_export_that_was_changed_says_what_its_parts_hold(part, line, message):
    """People edit what they get."""
    assert message in problem_of(postfix, f"# policyd file: {part}\n{line}\n")[1]


def test_unknown_part_is_a_comment():
    """Only the marks of an export change how the rest is read."""
    assert rows_of(postfix, "# policyd file: other\na@b.c REJECT\n") == blocked("a@b.c")


@examples(few=25, many=100)
@given(tables())
def test_every_export_reads_back_without_problems(held):
    """Whatever people have called their mailboxes; an address in a domain is also one in those that stand for it."""
    found = rows_of(postfix, written(postfix, held)[0])
    addresses = {
        row.addresses.add[0] for row in found if isinstance(row, MailboxRow) and isinstance(row.addresses, ListEdit)
    }
    own = {address for _, own in held.mailboxes() for address in own}
    aliases = {(domain.name, domain.alias_of) for domain in held.domains()}
    there = {f"{local}@{alias}" for alias, target in aliases for local in _locals_in(own, target)}
    assert addresses == own | there


def _locals_in(addresses: set[str], domain: str) -> set[str]:
    return {address.rpartition("@")[0] for address in addresses if address.rpartition("@")[2] == domain}


def test_what_maps_cant_say_of_a_recipient_is_refused():
    """Who gets in by an accepted sender, or by a domain that they prove, must not be guessed from MAIL FROM."""
    tables = FixedTables(
        (
            Domain("open.example", Unlisted.ACCEPT, receive=Receive.INSIDERS),
            Domain("x.example", receive=Receive.NOBODY, reason="closed", accepted=party_set("boss")),
            Domain("alias.example", alias_of="x.example"),
        ),
        (
            (Mailbox("boss", Receive.ANYONE), ("boss@x.example",)),
            (Mailbox("ann"), ("ann@x.example", "ann@open.example")),
            (Mailbox("bob"), ("bob@x.example",)),
            (Mailbox("dan", Receive.DOMAIN), ("dan@x.example",)),
        ),
        (
            BlockedSender(party("group:all"), to=ANYONE, reason="all"),
            BlockedSender(party("@x.example"), to=OUTSIDE),
            BlockedSender(party("anyone"), to=OUTSIDE),
        ),
        (
            (Group("staff", Receive.INSIDERS), (party("bob"),)),
            (Group("all", Receive.ANYONE), (party("group:staff"),)),
        ),
    )
    text, lost = written(postfix, tables)
    maps = text.split("# policyd file: ")
    recipients = "".join(part for part in maps if part.startswith("recipient_access"))
    for line in (
        "open.example\tpolicyd_insiders",
        "x.example\tpolicyd_unlisted",
        "alias.example\tpolicyd_unlisted",
        "boss@x.example\tDUNNO",
        "ann@x.example\tREJECT 5.7.1 closed",
        "ann@alias.example\tREJECT 5.7.1 closed",
        "ann@open.example\tpolicyd_insiders",
        "bob@alias.example\tpolicyd_insiders",
        "dan@x.example\tREJECT 5.7.1 This mailbox does not take mail from this sender",
    ):
        assert f"{line}\n" in recipients
    senders = next(part for part in maps if part.startswith("sender_access"))
    assert "bob@x.example\tREJECT 5.7.1 all\nbob@alias.example\tREJECT 5.7.1 all\n" in senders
    outside = next(part for part in maps if part.startswith("sender_outside"))
    for key in ("x.example", "alias.example", "ann@open.example"):
        assert f"{key}\tpolicyd_outside\n" in outside
    logins = next(part for part in maps if part.startswith("login_access"))
    for login in ("ann", "ann@open.example", "dan", "boss"):
        assert f"{login}\tpolicyd_outside\n" in logins
    counted = ("accept", "group", "receive = domain", "blocked sender", "blocked group")
    assert {word: lost[word] for word in counted} == {
        "accept": 1, "group": 2, "receive = domain": 1, "blocked sender": 1, "blocked group": 1,
    }  # fmt: skip


@pytest.mark.parametrize("local", [",", "a,b", ", ,", "@", "@@", "@a", "a@", "/", ":a", "|a", "<>", "a b", '"', "\\"])
def test_alias_may_lead_to_any_address(local):
    """A comma in quotes separates no targets, and an @ in quotes is no catch-all: the alias would be lost."""
    primary = f"{local}@example.com"
    held = FixedTables(
        (Domain("example.com"),),
        ((Mailbox("0"), (primary, "00@example.com")),),
        (BlockedSender(party(primary), ANYONE, reason="no"),),
    )
    found = rows_of(postfix, written(postfix, held)[0])
    assert AddressRow("00@example.com", primary) in found
    assert blocked(primary, reason="no")[0] in found


_WORDS = ["a@b.c", "b.c", "REJECT", "OK", "x", " ", "\t", "\n", "#", '"', "<>", "@", ".", "/", "550", ",", "\x00", "_"]


@given(st.lists(st.sampled_from([*_WORDS, "# policyd file: sender_access\n"])).map("".join))
def test_damaged_maps_give_problems_only(text):
    """A traceback in the middle of an import tells an administrator nothing."""
    read_all(postfix, text)
    read_all(postfix, text, into=Into.MAILBOXES, domain="example.com")


@given(st.binary())
def test_any_bytes_give_problems(raw):
    """Somebody will import the map that postmap made."""
    read_all(postfix, raw)


# --- What people have in their maps beside


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("@a.example OK", [DomainRow("a.example", is_catch_all=True)], id="everybody in a domain"),
        pytest.param(
            "@a.example info@b.example", [DomainRow("a.example", is_catch_all=True)], id="everybody to one address"
        ),
        pytest.param("@a.example @A.example", [DomainRow("a.example", is_catch_all=True)], id="a domain to itself"),
        pytest.param(
            "@a.example @b.example",
            [DomainRow("a.example", alias_of="b.example", is_catch_all=True)],
            id="a domain to another",
        ),
    ],
)
def test_catch_all_takes_every_address_of_its_domain(text, said):
    """Mail to whoever is in no map arrives today, and must go on to."""
    assert rows_of(postfix, text, into=Into.MAILBOXES) == said


@pytest.mark.parametrize("target", ["|/usr/bin/program", "@b.example,@c.example", ":include:/etc/list"])
def test_catch_all_to_what_is_no_mailbox_is_wrong(target):
    """Nobody may think that policyd knows what becomes of it."""
    assert "is neither an address nor a mailbox" in problem_of(postfix, f"@a.example {target}", into=Into.MAILBOXES)[1]


@pytest.mark.parametrize(
    ("text", "skipped", "opens"),
    [
        pytest.param("a@b.example 450 later", "defer", ("b.example",), id="somebody who is put off"),
        pytest.param("example.com OK", "ok", (), id="a domain"),
        pytest.param("<> DUNNO", "dunno", (), id="bounces"),
        pytest.param("root@ OK", "ok", (), id="a local part in any domain"),
    ],
)
def test_recipients_that_are_no_mailbox_are_counted(text, skipped, opens):
    """Of who is put off the map does not say whether he is there: a domain that comes in must not refuse him."""
    (record,) = read_all(postfix, text, into=Into.MAILBOXES)
    assert (record.rows, record.skipped, record.opens) == ((), (skipped,), opens)


def test_number_alone_beside_a_recipient_is_wrong():
    """Postfix takes it for OK, and whoever wrote it meant a refusal: neither may be guessed."""
    assert "a number alone means OK to Postfix" in problem_of(postfix, "a@b.example 550", into=Into.MAILBOXES)[1]


def test_where_mail_is_stored_is_nobodys_name():
    """virtual_mailbox_maps: beside a path, a word is a place, too."""
    text = "a@b.example b.example/a/\nc@b.example spool\n"
    assert rows_of(postfix, text) == [made_of("a@b.example"), made_of("c@b.example")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("b.example local_only", "is perhaps a restriction class", id="a restriction class"),
        pytest.param("b.example smtp:[mx.b.example]", "is of transport(5)", id="a transport"),
    ],
)
def test_domain_beside_what_is_more_than_any_word_is_wrong(text, problem):
    """Of another map, managing the domain would refuse whoever is in it."""
    assert problem in problem_of(postfix, text)[1]


@pytest.mark.parametrize(
    ("text", "doubts"),
    [
        pytest.param("a@b.example local_only", ["perhaps a restriction class"], id="a restriction class"),
        pytest.param("a@b.example x", ["for a mailbox of each address: --into mailboxes"], id="a word for nothing"),
        pytest.param(
            "a@b.example Boss\nc@b.example boss",
            ["first type: policyd mailbox add Boss", "first type: policyd mailbox add boss"],
            id="one word beside several",
        ),
    ],
)
def test_word_that_may_be_no_mailbox_is_doubted(text, doubts):
    """It counts where there is a mailbox of that name, and is told as wrong elsewhere, with what may be meant."""
    rows = rows_of(postfix, text)
    assert [row.target.lower() for row in rows] == [line.split()[1].lower() for line in text.splitlines()]
    assert all(doubt in row.doubt for row, doubt in zip(rows, doubts, strict=True))


def test_line_that_is_there_twice_is_counted_without_a_word():
    """postmap warns of it; nothing else is meant by it."""
    first, again = read_all(postfix, "eve@a.example REJECT\nEVE@a.example REJECT\n")
    assert first.rows
    assert (again.rows, again.skipped) == ((), ("repeated",))


def test_alias_in_a_map_of_senders_is_an_alias():
    """Two maps put together: what is an address and where it leads says so itself."""
    rows = rows_of(postfix, "eve@a.example REJECT\ninfo@b.example bob@b.example\n")
    assert rows[1:] == [AddressRow("info@b.example", "bob@b.example")]


@pytest.mark.parametrize(
    ("exception", "problem"),
    [
        pytest.param("bob@a.example 550", "a number alone means OK to Postfix", id="a number alone"),
        pytest.param("b*b@a.example OK", "no * or ?", id="a key that can't be read"),
    ],
)
def test_exception_that_can_not_be_read_takes_the_refusal_along(exception, problem):
    """To block the domain without it would refuse whom the map lets through."""
    wrong = [record for record in read_all(postfix, f"a.example REJECT\n{exception}\n") if record.problems]
    assert [record.line for record in wrong] == [1, 2]
    assert problem in wrong[0].problems[0].message
    assert BOTH in wrong[0].problems[0].message


def test_bounces_are_an_exception_to_nothing():
    """<> is in no domain, and has no local part."""
    assert rows_of(postfix, "a.example REJECT\nroot@ REJECT\n") == blocked("@a.example", "@.a.example", "root@")
    first, second, third = read_all(postfix, "a.example REJECT\nroot@ REJECT\n<> OK\n")
    assert first.rows == tuple(blocked("@a.example", "@.a.example"))
    assert second.rows == tuple(blocked("root@"))
    assert (third.skipped, third.stands_with) == (("ok",), ())


def test_extension_in_an_alias_domain_is_whose_address_stands_there():
    """bob+list is Carol's in the target, and Bob's in the alias domain, where he has bob: Postfix must ask for that."""
    held = FixedTables(
        (Domain("a.example"), Domain("b.example", alias_of="a.example")),
        (
            (Mailbox("Bob"), ("bob@b.example",)),
            (Mailbox("Carol", Receive.NOBODY), ("bob+list@a.example", "carol@a.example")),
        ),
    )
    text, _ = written(postfix, held)
    keys = {line.split("\t")[0] for line in text.splitlines() if "\t" in line}
    assert {"bob@b.example", "bob+list@a.example", "carol@b.example"} <= keys
    assert "bob+list@b.example" not in keys

"""`policyd sender`: who may not send, and to whom."""

import time

import pytest

from tests.support.command_line import command_line


@pytest.fixture
def policyd():
    """A company with one domain, two mailboxes and a partner outside."""
    with command_line(
        "domain add example.com",
        "mailbox add alice alice@example.com",
        "mailbox add Bob bob@example.com",
    ) as policyd:
        yield policyd


def listed(policyd, *keys):
    """The entries in force, of each only *keys*."""
    return [tuple(each[key] for key in keys) for each in policyd.json("sender list")]


@pytest.mark.parametrize(
    ("sender", "to"),
    [
        pytest.param("alice", "outside", id="a mailbox"),
        pytest.param("x@example.com", "outside", id="an address in a managed domain"),
        pytest.param("@example.com", "outside", id="a managed domain"),
        pytest.param("x@example.net", "anyone", id="a strange address"),
        pytest.param("@example.net", "anyone", id="a strange domain"),
        pytest.param("@.example.com", "anyone", id="subdomains, none of them managed"),
        pytest.param("newsletter@", "anyone", id="a local part anywhere"),
        pytest.param("'<>'", "anyone", id="the null sender"),
    ],
)
def test_block_takes_the_likely_recipients_and_says_which(policyd, sender, to):
    """One's own people are kept from the Internet, strangers from everybody."""
    name = sender.strip("'")
    assert policyd.says(f"sender block {sender}")[-1] == f"{name} is blocked to {to}, since --to was not given"
    assert listed(policyd, "sender", "to") == [(name, to)]


def test_block_of_what_was_given_says_no_more_than_that(policyd):
    """The administrator has chosen."""
    assert policyd.says("sender block alice --to anyone --reason 'left the company'") == [
        'blocked sender alice to anyone: added: reason "left the company"'
    ]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        pytest.param("JOE@Example.NET.", "joe@example.net", id="upper case and a trailing dot"),
        pytest.param("@Bücher.example", "@xn--bcher-kva.example", id="Unicode domain"),
        pytest.param("@.Bücher.example", "@.xn--bcher-kva.example", id="subdomains of a Unicode domain"),
        pytest.param("'\"joe blow\"@example.net'", "joe blow@example.net", id="quoted"),
        pytest.param("JOE@", "joe@", id="a local part anywhere"),
        pytest.param("@[192.0.2.1]", "@[192.0.2.1]", id="an address literal"),
        pytest.param("BOB", "Bob", id="a mailbox in another case"),
    ],
)
def test_sender_is_kept_in_its_one_normal_form(policyd, typed, kept):
    """However it is typed, it is the same entry."""
    policyd.run(f"sender block {typed}")
    assert policyd.says(f"sender block {typed.swapcase()}")[0] == "nothing to change: it stands so already"
    assert listed(policyd, "sender") == [(kept,)]


def test_block_again_replaces_what_is_given_and_keeps_the_rest(policyd):
    """Lists as a whole; the entry keeps its number and its maker."""
    policyd.run("sender block alice --except @a.example --except @b.example --reason gone --comment x --until +9d")
    (first,) = policyd.json("sender show alice")
    policyd.run("sender block alice --except @c.example")
    policyd.run("sender block alice --reason 'left the company'")
    assert policyd.json("sender show alice") == [first | {"except": ["@c.example"], "reason": "left the company"}]
    policyd.run("sender block alice --reason '' --comment '' --until never")
    assert listed(policyd, "reason", "comment", "until", "except") == [("", "", None, ["@c.example"])]
    assert policyd.journal()[-4:] == [("sender.block", "alice")] * 4


@pytest.mark.parametrize(
    "again",
    [
        "sender block alice",
        "sender block ALICE alice --to outside",
        "sender block alice --except @b.example --except @a.example --reason gone",
        "sender except alice @A.example",
    ],
)
def test_what_is_so_already_changes_nothing(policyd, again):
    """No journal row, and no error: scripts may say it every night."""
    policyd.run("sender block alice --except @a.example --except @b.example --reason gone")
    before = policyd.journal()
    assert policyd.says(again)[0] == "nothing to change: it stands so already"
    assert policyd.json(again) == {"changeset": None, "changes": []}
    assert policyd.journal() == before


def test_entries_for_different_recipients_stand_side_by_side(policyd):
    """Blocking alice to Bob is another thing than blocking her to the Internet."""
    policyd.run("sender block alice --to BOB --reason quarrel")
    policyd.run("sender block alice")
    policyd.run("sender block alice --to anyone --until +1d")
    assert listed(policyd, "id", "to", "reason") == [(1, "Bob", "quarrel"), (2, "outside", ""), (3, "anyone", "")]


def test_block_of_several_is_all_or_nothing_in_one_changeset(policyd):
    """One command, one change to undo; one wrong name, no change."""
    before = policyd.journal()
    assert policyd.refuses("sender block alice @spam.example carol") == (
        "policyd: there is no mailbox carol; see: policyd mailbox list, or: policyd mailbox add"
    )
    assert policyd.journal() == before
    policyd.run("sender block alice @spam.example bob")
    assert policyd.rows("SELECT changeset, object FROM change WHERE operation = 'sender.block'") == [
        (6, "alice"),
        (6, "@spam.example"),
        (6, "Bob"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            "sender block alice --to carol",
            "there is no mailbox carol; see: policyd mailbox list, or: policyd mailbox add",
            id="to an unknown mailbox",
        ),
        pytest.param(
            "sender unblock alice",
            "alice is not blocked; see: policyd sender list",
            id="unblock who isn't blocked",
        ),
        pytest.param(
            "sender unblock carol",
            "there is no mailbox carol; see: policyd mailbox list, or: policyd mailbox add",
            id="unblock an unknown mailbox",
        ),
        pytest.param(
            "sender unblock @example.net",
            "@example.net is not blocked; see: policyd sender list",
            id="unblock a pattern that isn't there",
        ),
        pytest.param(
            "sender unblock Bob --to anyone",
            "Bob is not blocked to anyone; see: policyd sender list",
            id="unblock to other recipients",
        ),
        pytest.param(
            "sender except alice @a.example",
            "alice is not blocked; see: policyd sender list",
            id="except of who isn't blocked",
        ),
        pytest.param(
            "sender unexcept Bob @a.example @b.example",
            "@b.example: no exception of Bob; see: policyd sender show Bob",
            id="unexcept what is no exception",
        ),
        pytest.param(
            "sender except Bob '<>'",
            "the exception <> would do nothing: no recipient is the null sender; leave it out",
            id="except the null sender",
        ),
        pytest.param(
            "sender block alice --to '<>'",
            "no recipient is the null sender, so an entry to <> would do nothing; "
            "to block the null sender: policyd sender block '<>'",
            id="block to the null sender",
        ),
        pytest.param(
            "sender except Bob @example.com",
            "the exception @example.com would do nothing: example.com is managed, "
            "and this entry leaves recipients in managed domains alone anyway; leave it out",
            id="except insiders from a block to outside",
        ),
        pytest.param(
            "sender block alice --to Bob --except x@example.net",
            "the exception x@example.net would do nothing: example.net is not managed, "
            "so Bob has no address there; leave it out",
            id="except outsiders from a block to a mailbox",
        ),
        pytest.param(
            "sender show alice",
            "alice is not blocked; see: policyd sender list",
            id="show who isn't blocked",
        ),
    ],
)
def test_what_would_silently_do_nothing_is_refused(policyd, line, message):
    """With what to do instead; the tables stay as they were."""
    policyd.run("sender block Bob --except @a.example")
    before = policyd.journal()
    assert policyd.refuses(line) == f"policyd: {message}"
    assert policyd.journal() == before


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("sender block @", "a pattern is user@example.com, @example.com", id="an at sign alone"),
        pytest.param("sender block ''", "a name has 1 to 256 characters", id="nothing"),
        pytest.param("sender block 'a\nb'", "holds a control character", id="a line break"),
        pytest.param("sender block outside", "--to outside has a meaning of its own", id="a word of --to"),
        pytest.param("sender block group:", "a name has 1 to 256 characters", id="a group without a name"),
        pytest.param("sender block alice --to ''", "a name has 1 to 256 characters", id="to nobody"),
        pytest.param("sender block alice --except outside", "--to outside has a meaning", id="except a word"),
        pytest.param("sender block alice --until yesterday", "is not a time", id="until a word"),
        pytest.param("sender block alice --reason 'a\x1bb'", "holds a control character", id="a terminal sequence"),
        pytest.param("sender unblock alice --to outsid\u0065\u202e", "holds a control character", id="bidi override"),
    ],
)
def test_what_can_be_nothing_is_bad_usage(policyd, line, told):
    """Said on one line without a single character that a terminal would obey."""
    message = policyd.refuses(line, 2)
    assert told in message
    assert message.isprintable()


def test_unblock_removes_every_entry_of_the_sender(policyd):
    """Without --to: then she can send again, whatever there was."""
    policyd.run("sender block alice Bob")
    policyd.run("sender block alice --to Bob")
    assert policyd.says("sender unblock ALICE") == [
        "blocked sender alice to outside: removed",
        "blocked sender alice to Bob: removed",
    ]
    assert listed(policyd, "sender") == [("Bob",)]


def test_unblock_with_recipients_removes_that_entry_only(policyd):
    """The others stay."""
    policyd.run("sender block alice")
    policyd.run("sender block alice --to Bob")
    policyd.run("sender unblock alice --to bob")
    assert listed(policyd, "to") == [("outside",)]


def test_unblock_of_several_is_all_or_nothing(policyd):
    """A wrong name keeps the others blocked, and so does a name that is typed twice."""
    policyd.run("sender block alice")
    assert policyd.refuses("sender unblock alice Bob") == "policyd: Bob is not blocked; see: policyd sender list"
    assert listed(policyd, "sender") == [("alice",)]


def test_except_adds_and_unexcept_takes(policyd):
    """Unlike `block --except`, which says the whole list."""
    policyd.run("sender block alice --except @a.example")
    policyd.run("sender except alice @B.example vip@ @.c.example")
    assert listed(policyd, "except") == [(["@.c.example", "@a.example", "@b.example", "vip@"],)]
    policyd.run("sender unexcept alice @a.example VIP@")
    assert listed(policyd, "except") == [(["@.c.example", "@b.example"],)]


def test_except_can_be_for_one_entry(policyd):
    """A sender may be blocked to several recipients."""
    policyd.run("sender block alice --to outside")
    policyd.run("sender block alice --to anyone")
    policyd.run("sender except alice @a.example --to anyone")
    assert listed(policyd, "to", "except") == [("outside", []), ("anyone", ["@a.example"])]
    policyd.run("sender except alice @b.example")
    policyd.run("sender unexcept alice @a.example")
    assert listed(policyd, "to", "except") == [("outside", ["@b.example"]), ("anyone", ["@b.example"])]


def test_expired_entries_are_listed_apart(policyd):
    """What is in force by default; `show` tells both."""
    policyd.run("sender block alice Bob --until +1d")
    policyd.rows(f"UPDATE blocked_sender SET until = {int(time.time()) - 1} WHERE id = 1")
    assert listed(policyd, "sender") == [("Bob",)]
    assert [each["sender"] for each in policyd.json("sender list --expired")] == ["alice"]
    assert policyd.json("sender show alice")[0]["id"] == 1


def test_block_again_after_the_end_is_in_force_at_once(policyd):
    """An end that has passed is no end of the new block, which would silently do nothing."""
    policyd.run("sender block alice --until +1d --reason gone")
    policyd.rows(f"UPDATE blocked_sender SET until = {int(time.time()) - 1}")
    policyd.run("sender block alice")
    assert listed(policyd, "sender", "until", "reason") == [("alice", None, "gone")]


def test_list_has_columns_for_scripts(policyd):
    """id, sender, to, until, except, reason, comment."""
    policyd.run("sender block alice --except @b.example --except @a.example --reason 'left us' --comment 'ticket 5'")
    policyd.run("sender block '<>' @spam.example --to Bob")
    assert policyd.run("sender list") == (
        "1\talice\toutside\t\t@a.example @b.example\tleft us\tticket 5\n"
        "2\t<>\tBob\t\t\t\t\n"
        "3\t@spam.example\tBob\t\t\t\t\n"
    )


def test_entries_have_stable_json(policyd):
    """Scripts rely on these keys; times are Unix seconds."""
    began = int(time.time())
    policyd.run("sender block alice --until 2096-02-29T12:00Z")
    (entry,) = policyd.json("sender list")
    assert began <= entry.pop("created_at") <= time.time()
    assert entry.pop("created_by")
    assert entry == {
        "id": 1,
        "sender": "alice",
        "to": "outside",
        "except": [],
        "except_sender": [],
        "reason": "",
        "until": 3981355200,
        "comment": "",
    }
    assert policyd.json("sender show alice")[0]["until"] == 3981355200


def test_show_tells_each_entry_a_line_a_field(policyd):
    """An empty line between two."""
    policyd.run("sender block alice --reason gone")
    policyd.run("sender block alice --to Bob")
    first, second = policyd.run("sender show ALICE").split("\n\n")
    assert first.startswith(
        "id: 1\nsender: alice\nto: outside\nexcept:\nexcept_sender:\nreason: gone\nuntil:\ncomment:\ncreated_at: "
    )
    assert second.startswith("id: 2\nsender: alice\nto: Bob\n")


def test_reason_keeps_its_umlauts(policyd):
    """Only the SMTP reply has to do without."""
    policyd.run("sender block alice --reason 'Ärger mit Öl'")
    assert listed(policyd, "reason") == [("Ärger mit Öl",)]


@pytest.mark.parametrize("stored", ["bob@[127.000.0.1]", "@EXAMPLE.org", "BOB@", "@[abc]"])
def test_pattern_that_is_stored_in_no_normal_form_can_be_unblocked(policyd, stored):
    """It matches nobody, and `database check` says: take it away."""
    policyd.run("sender block x@example.org")
    policyd.rows(f"UPDATE blocked_sender SET pattern = '{stored}' WHERE pattern = 'x@example.org'")
    policyd.run(f"sender unblock '{stored}'")
    assert stored not in [each["sender"] for each in policyd.json("sender list")]


# --- Groups, anyone, and to whom


@pytest.mark.parametrize(
    ("line", "to"),
    [
        pytest.param("sender block group:staff", "outside", id="a group"),
        pytest.param("sender block alice --to group:STAFF", "group:staff", id="to a group"),
        pytest.param("sender block alice --to @Competitor.example", "@competitor.example", id="to a domain"),
        pytest.param("sender block alice --to joe@competitor.example", "joe@competitor.example", id="to an address"),
        pytest.param(
            "sender block anyone --to @.competitor.example", "@.competitor.example", id="anyone below a domain"
        ),
        pytest.param("sender block anyone --to bob", "Bob", id="anyone to a mailbox"),
        pytest.param("sender block ANYONE --to Outside", "outside", id="anyone to the outside"),
    ],
)
def test_block_takes_whom_people_speak_of(policyd, line, to):
    """Each is shown, unblocked and found as it was typed."""
    policyd.run("group add staff alice bob")
    policyd.run(line)
    sender = line.split()[2]
    assert listed(policyd, "to") == [(to,)]
    assert [each["to"] for each in policyd.json(f"sender show {sender}")] == [to]
    policyd.run(f"sender unblock {sender} --to {to}")
    assert listed(policyd, "to") == []


def test_anyone_is_blocked_to_somebody_only_who_is_named(policyd):
    """One word too few must not stop a company's mail; and the outside is more than the Internet."""
    assert policyd.refuses("sender block anyone") == (
        "policyd: who blocks anyone must say to whom: add --to outside, or --to @competitor.example"
    )
    assert policyd.says("sender block anyone --to outside --except @partner.example") == [
        "blocked sender anyone to outside: added: except @partner.example",
        "outside is every domain that is not managed, those that Postfix relays for, too",
    ]


def test_block_of_an_address_says_how_to_block_the_mailbox(policyd):
    """With MAIL FROM of another of her addresses, alice would go on sending."""
    assert policyd.says("sender block alice@example.com")[-1] == (
        "alice@example.com is an address of the mailbox alice, which may have others; to block the mailbox: "
        "policyd sender block alice"
    )


def test_address_finds_the_entries_of_its_mailbox(policyd):
    """It is what stands in the log; an entry of its own comes first."""
    policyd.run("sender block alice --reason gone")
    assert [each["sender"] for each in policyd.json("sender show alice@example.com")] == ["alice"]
    policyd.run("sender block alice@example.com")
    assert [each["sender"] for each in policyd.json("sender show alice@example.com")] == ["alice@example.com"]
    policyd.run("sender unblock alice@example.com")
    policyd.run("sender unblock alice@example.com")
    assert listed(policyd, "sender") == []


def test_show_says_what_else_a_sender_matches(policyd):
    """To unblock what is shown is not enough where her group, or the domain, is blocked, too."""
    policyd.run("group add staff alice")
    for who in (
        "group:staff",
        "@example.com --to anyone",
        "alice@example.com",
        "@partner.example",
        "anyone --to @x.example",
    ):
        policyd.run(f"sender block {who}")
    policyd.run("sender block alice --to @y.example --until 2098-01-01")
    ended = policyd.ends("-v sender show alice@example.com")
    assert (ended.status, ended.err.splitlines()) == (
        0,
        [
            "alice@example.com matches entry 1, too: group:staff may not send to outside",
            "alice@example.com matches entry 2, too: @example.com may not send to anyone",
            "alice@example.com matches entry 6, too: alice may not send to @y.example",
        ],
    )
    assert policyd.ends("sender show alice@example.com").err == ""
    assert policyd.refuses("sender show eve@example.com") == (
        "policyd: eve@example.com has no entry, but @example.com has; see: policyd sender show @example.com"
    )


def test_exceptions_by_sender_are_added_and_taken(policyd):
    """Mailboxes, groups and patterns; beside those by recipient."""
    policyd.run("group add staff bob")
    policyd.run("sender block anyone --to outside --except-sender group:staff --except-sender bob")
    policyd.run("sender except anyone --except-sender alice --except-sender bounces@example.com @partner.example")
    (entry,) = policyd.json("sender show anyone")
    assert entry["except_sender"] == ["Bob", "alice", "bounces@example.com", "group:staff"]
    assert entry["except"] == ["@partner.example"]
    (told,) = policyd.says("sender unexcept anyone --except-sender bounces@example.com @partner.example")
    assert told == (
        'blocked sender anyone to outside: except @partner.example -> "", except_sender '
        '"group:staff alice Bob bounces@example.com" -> "group:staff alice Bob"'
    )
    assert policyd.run("sender list").endswith("\tBob alice group:staff\n")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("sender block outside", "outside has a meaning of its own", id="outside sends nothing"),
        pytest.param("sender block alice --except anyone", "anyone has a meaning of its own", id="except anyone"),
        pytest.param("sender block alice --except-sender outside", "outside has a meaning", id="except outside"),
        pytest.param("sender except alice", "say which recipients, or which senders", id="except nobody"),
        pytest.param("sender unexcept alice", "say which recipients, or which senders", id="unexcept nobody"),
        pytest.param("sender block '*@example.com'", "write @example.com", id="an asterisk for a domain"),
        pytest.param("sender block alice --to '*@x.example'", "write @x.example", id="an asterisk as recipient"),
        pytest.param("sender block '@*.example.com'", "write @.example.com", id="an asterisk for subdomains"),
        pytest.param("sender block a@x.example,b@x.example", "several addresses in one word", id="two in a word"),
        pytest.param("sender block 'a@x.example b@x.example'", "several addresses in one word", id="with a blank"),
        pytest.param("sender block smtp:a@x.example", "type it without smtp: in front", id="SMTP: in front"),
        pytest.param("sender block 'a(b)@x.example'", 'needs quotes: "a(b)"@x.example', id="what needs quotes"),
    ],
)
def test_what_can_match_nothing_is_bad_usage(policyd, line, told):
    """An entry that silently does nothing is worse than none."""
    policyd.run("sender block alice --reason x")
    before = policyd.journal()
    assert told in policyd.refuses(line, 2)
    assert policyd.journal() == before


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("alice --except bob", "Bob is inside, and this entry leaves recipients in managed", id="inside"),
        pytest.param("alice --except group:staff", "group:staff is inside, and this entry leaves", id="a group"),
        pytest.param("alice --to bob --except bob", "leaves nothing of the entry", id="the whole entry"),
        pytest.param("alice --to bob --except group:staff", "leaves nothing of the entry", id="a group around it"),
        pytest.param("alice --to bob --except alice", "alice is another mailbox than Bob", id="another mailbox"),
        pytest.param("alice --to @x.example --except @x.example", "leaves nothing of the entry", id="the same domain"),
        pytest.param("alice --to @a.x.example --except @.x.example", "leaves nothing of the entry", id="around it"),
        pytest.param("alice --to @x.example --except @y.example", "no recipient that @x.example", id="another"),
        pytest.param("alice --to @x.example --except '<>'", "no recipient is the null sender", id="the null sender"),
        pytest.param(
            "@spam.example --to bob --except-sender @spam.example", "leaves nothing of the entry", id="all its senders"
        ),
    ],
)
def test_useless_exception_is_refused(policyd, line, told):
    """It covers all of the entry, or nothing of it."""
    policyd.run("group add staff bob")
    before = policyd.journal()
    assert told in policyd.refuses(f"sender block {line}")
    assert policyd.journal() == before


def test_list_is_narrowed_by_sender_or_recipient(policyd):
    """A text is in one of them, in any case; a glob is the whole of one."""
    policyd.run("sender block alice --to Bob")
    policyd.run("sender block @spam.example")
    found = [
        [each["sender"] for each in policyd.json(f"sender list {text}")] for text in ("BOB", "'@*'", "spam", "'al?ce'")
    ]
    assert found == [["alice"], ["@spam.example"], ["@spam.example"], ["alice"]]


def test_ended_entry_is_shown_as_ended(policyd):
    """What is shown as in force is in force."""
    policyd.run("sender block alice --until +1d")
    policyd.rows("UPDATE blocked_sender SET until = 1000000000")
    assert policyd.json("sender show alice")[0]["ended"] is True
    assert "(ended)\n" in policyd.run("sender show alice")
    assert "blocked: may not send to outside (entry 1, ended)" in policyd.run("mailbox show alice")

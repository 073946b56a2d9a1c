"""`policyd mailbox`: mailboxes, and who may send to them."""

import time
from datetime import datetime

import pytest

from tests.support.command_line import command_line


@pytest.fixture
def policyd():
    """A company with one domain and two mailboxes."""
    with command_line(
        "domain add example.com",
        "mailbox add alice alice@example.com",
        "mailbox add Bob bob@example.com",
    ) as policyd:
        yield policyd


def shown(policyd, name="alice"):
    """Who may send to the mailbox, of what `show --json` tells."""
    mailbox = policyd.json(f"mailbox show {name}")
    return {key: mailbox[key] for key in ("receive", "accept", "reason", "until")}


OPEN: dict[str, object] = {"receive": "inherit", "accept": [], "reason": "", "until": None}


def test_new_mailbox_receives_from_anyone(policyd):
    """Adding a mailbox restricts nothing; its first address is the primary one."""
    assert policyd.says("mailbox add Carol c@example.com carol@example.com --comment 'since May'") == [
        'mailbox Carol: added: receive inherit, comment "since May"',
        "address c@example.com: added: mailbox Carol, is_primary yes",
        "address carol@example.com: added: mailbox Carol",
    ]
    assert shown(policyd, "CAROL") == OPEN


def test_mailbox_with_a_strange_address_is_not_added_at_all(policyd):
    """The command that would make it possible is named; nothing of the command stays."""
    before = policyd.journal()
    assert policyd.refuses("mailbox add carol carol@example.com carol@example.net") == (
        "policyd: carol@example.net: the domain example.net is not managed; add it with: policyd domain add example.net"
    )
    assert policyd.journal() == before
    assert policyd.rows("SELECT name FROM mailbox") == [("alice",), ("Bob",)]


def test_names_are_compared_without_case(policyd):
    """As Exchange compared them."""
    assert policyd.refuses("mailbox add ALICE") == (
        "policyd: there is a mailbox ALICE already; to give it an address: policyd address add ALICE ADDRESS"
    )
    assert policyd.refuses("mailbox add BOB").startswith("policyd: there is a mailbox BOB already")
    policyd.run("mailbox add 'Straße Süd'")
    assert policyd.json("mailbox show 'STRASSE SU\u0308D'")["name"] == "Straße Süd"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param("a@b", "a name has no @ and isn't <>", id="an at sign"),
        pytest.param("<>", "a name has no @ and isn't <>", id="the null sender"),
        pytest.param("''", "a name has 1 to 256 characters, no blank at an end", id="nothing"),
        pytest.param("' '", "a name has 1 to 256 characters, no blank at an end", id="a blank"),
        pytest.param("x" * 257, "a name has 1 to 256 characters, no blank at an end", id="257 characters"),
        pytest.param("'a\nb'", "holds a control character; type it without", id="a line break"),
        pytest.param("'a\x1b[31m'", "holds a control character; type it without", id="a terminal sequence"),
        pytest.param("Outside", "--to outside has a meaning of its own", id="outside, a word of --to"),
        pytest.param("anyone", "--to anyone has a meaning of its own", id="anyone, a word of --to"),
    ],
)
def test_what_can_name_no_mailbox_is_refused(policyd, name, told):
    """A name must be told from a pattern, and fit on a line of a log."""
    message = policyd.refuses(f"mailbox add {name}", 2)
    assert message.endswith(f"{told}. See: policyd mailbox add --help")
    assert message.isprintable()


def test_longest_name_is_taken(policyd):
    """256 characters."""
    policyd.run(f"mailbox add {'x' * 256}")


@pytest.mark.parametrize(
    "line",
    [
        "mailbox show carol",
        "mailbox remove carol",
        "mailbox rename carol dave",
        "mailbox restrict carol",
        "mailbox restrict alice carol",
        "mailbox lift carol",
        "mailbox accept carol @partner.example",
        "mailbox unaccept carol @partner.example",
    ],
)
def test_unknown_mailbox_is_refused_with_what_to_do(policyd, line):
    """A typing mistake must not look like a restriction; no command does half of its work."""
    before = policyd.journal()
    assert policyd.refuses(line) == (
        "policyd: there is no mailbox carol; see: policyd mailbox list, or: policyd mailbox add"
    )
    assert policyd.journal() == before


def test_restrict_lets_insiders_send_only(policyd):
    """Without a word more, that is what the article's dialog box did."""
    assert policyd.says("mailbox restrict alice") == ["mailbox alice: receive inherit -> insiders"]
    assert shown(policyd) == OPEN | {"receive": "insiders"}


def test_restrict_again_replaces_what_is_given_and_keeps_the_rest(policyd):
    """Lists as a whole: what is said is what shall be."""
    policyd.run("mailbox restrict alice --receive nobody --accept @a.example --accept B@b.example --reason internal")
    assert policyd.says("mailbox restrict alice --accept @c.example") == [
        'mailbox alice: accept "@a.example b@b.example" -> @c.example'
    ]
    assert shown(policyd) == {"receive": "nobody", "accept": ["@c.example"], "reason": "internal", "until": None}
    policyd.run("mailbox restrict alice --reason moved")
    assert shown(policyd) == {"receive": "nobody", "accept": ["@c.example"], "reason": "moved", "until": None}
    policyd.run("mailbox restrict alice --receive insiders --reason ''")
    assert shown(policyd) == {"receive": "insiders", "accept": ["@c.example"], "reason": "", "until": None}


@pytest.mark.parametrize(
    "again",
    [
        "mailbox restrict alice",
        "mailbox restrict ALICE alice",
        "mailbox restrict alice --receive insiders --reason internal",
        "mailbox restrict alice --accept @b.example --accept @A.example --accept @a.example",
        "mailbox accept alice @a.example",
        "mailbox rename alice alice",
    ],
)
def test_what_is_so_already_changes_nothing(policyd, again):
    """No journal row, and no error: scripts may say it every night."""
    policyd.run("mailbox restrict alice --accept @a.example --accept @b.example --reason internal")
    before = policyd.journal()
    assert policyd.says(again) == ["nothing to change: it stands so already"]
    assert policyd.json(again) == {"changeset": None, "changes": []}
    assert policyd.journal() == before


def test_restriction_of_several_is_one_changeset(policyd):
    """One command, one change to undo."""
    policyd.run("mailbox restrict alice Bob --reason internal")
    assert policyd.rows("SELECT changeset, object FROM change WHERE operation = 'mailbox.restrict'") == [
        (6, "alice"),
        (6, "Bob"),
    ]


def test_restriction_ends_when_it_is_told_to(policyd):
    """The time is stored in UTC; `never` takes it away, and so does nothing else."""
    policyd.run("mailbox restrict alice --until 2096-02-29T12:00Z")
    assert shown(policyd)["until"] == 3981355200
    policyd.run("mailbox restrict alice --reason moved")
    assert shown(policyd)["until"] == 3981355200
    policyd.run("mailbox restrict alice --until never")
    assert shown(policyd)["until"] is None


def test_restricting_after_the_end_is_in_force_at_once(policyd):
    """An end that has passed is no end of the new restriction, which would silently do nothing."""
    policyd.run("mailbox restrict alice --until +1d")
    past = int(time.time()) - 5
    policyd.rows(f"UPDATE mailbox SET until = {past} WHERE until > 0")
    assert policyd.ends("check --recipient alice@example.com").status == 0
    policyd.run("mailbox restrict alice")
    assert shown(policyd)["until"] is None
    assert policyd.ends("check --recipient alice@example.com").status == 1


@pytest.mark.parametrize(
    "pattern",
    ["@", "''", "@.[192.0.2.1]", "@a..b", "'x\ny@example.com'"],
)
def test_pattern_that_can_match_nothing_is_refused(policyd, pattern):
    """Before anything is done."""
    before = policyd.journal()
    for line in (f"mailbox restrict alice --accept {pattern}", f"mailbox accept alice {pattern}"):
        message = policyd.refuses(line, 2)
        assert message.isprintable()
        assert message.endswith("--help")
    assert policyd.journal() == before


def test_receive_anyone_names_the_commands_that_open(policyd):
    """To open a mailbox is a command of its own."""
    assert policyd.refuses("mailbox restrict alice --receive anyone", 2) == (
        "policyd: Invalid value for '--receive': 'anyone' is not one of 'insiders', 'domain', 'nobody'; to let anyone "
        "send: policyd mailbox open NAME, or: policyd mailbox lift NAME. See: policyd mailbox restrict --help"
    )


@pytest.mark.parametrize("receive", ["Insiders", "none", ""])
def test_receive_takes_its_words_only(policyd, receive):
    """As they are written in the documents."""
    assert policyd.refuses(f"mailbox restrict alice --receive '{receive}'", 2) == (
        f"policyd: Invalid value for '--receive': '{receive}' is not one of 'insiders', 'domain', 'nobody'. "
        "See: policyd mailbox restrict --help"
    )


def test_lift_takes_the_whole_restriction_away(policyd):
    """Nothing of it comes back with the next one."""
    policyd.run("mailbox restrict alice --accept @a.example --reason internal --until +1d")
    policyd.run("mailbox lift alice")
    assert shown(policyd) == OPEN
    policyd.run("mailbox restrict alice")
    assert shown(policyd) == OPEN | {"receive": "insiders"}


def test_lift_of_what_is_open_is_refused(policyd):
    """For all names of the command."""
    policyd.run("mailbox restrict Bob")
    before = policyd.journal()
    assert policyd.refuses("mailbox lift Bob alice") == "policyd: alice is not restricted; nothing to lift"
    assert policyd.journal() == before


def test_accept_adds_and_unaccept_takes(policyd):
    """Unlike `restrict --accept`, which says the whole list."""
    policyd.run("mailbox restrict alice --accept @a.example")
    policyd.run("mailbox accept alice @B.example user@ '<>'")
    assert shown(policyd)["accept"] == ["<>", "@a.example", "@b.example", "user@"]
    policyd.run("mailbox unaccept alice @a.example USER@")
    assert shown(policyd)["accept"] == ["<>", "@b.example"]


def test_mailbox_that_inherits_accepts_senders(policyd):
    """They may send to it, whatever its groups and its domain say."""
    policyd.run("mailbox accept alice @a.example")
    assert (shown(policyd)["receive"], shown(policyd)["accept"]) == ("inherit", ["@a.example"])


def test_unaccept_of_what_is_not_accepted_is_refused_as_a_whole(policyd):
    """One wrong pattern keeps the right one."""
    policyd.run("mailbox restrict alice --accept @a.example")
    assert policyd.refuses("mailbox unaccept alice @a.example @b.example").startswith(
        "policyd: alice does not accept @b.example; see: policyd mailbox show"
    )
    assert shown(policyd)["accept"] == ["@a.example"]


def test_renamed_mailbox_keeps_all_it_has(policyd):
    """A marriage changes neither addresses nor restriction nor blocks."""
    policyd.run("mailbox restrict alice --reason internal")
    policyd.run("sender block alice")
    policyd.run("mailbox rename alice 'Alice Smith'")
    mailbox = policyd.json("mailbox show 'alice smith'")
    assert (mailbox["name"], mailbox["reason"], mailbox["addresses"]) == (
        "Alice Smith",
        "internal",
        ["alice@example.com"],
    )
    assert policyd.json("sender list")[0]["sender"] == "Alice Smith"


def test_rename_may_change_the_case_but_not_take_another_name(policyd):
    """Two mailboxes can't share a name."""
    policyd.run("mailbox rename alice ALICE")
    assert policyd.refuses("mailbox rename ALICE BOB") == (
        "policyd: there is a mailbox Bob already; choose another name"
    )


def test_mailbox_with_one_address_goes_without_asking(policyd):
    """One row is what the command says."""
    policyd.run("mailbox remove alice")
    assert policyd.journal()[-2:] == [("address.remove", "alice@example.com"), ("mailbox.remove", "alice")]


def test_mailbox_with_more_needs_yes_in_a_script(policyd):
    """Blocks that would go count, too, each once."""
    policyd.run("sender block alice --to alice")
    before = policyd.journal()
    assert policyd.refuses("mailbox remove alice", 2) == (
        "policyd: 1 address and 1 blocked sender would be removed with alice. Add --yes. "
        "See: policyd mailbox remove --help"
    )
    assert policyd.journal() == before


def test_removed_mailbox_leaves_nothing_behind(policyd):
    """Each row that goes with it has a line in the trail, all of one changeset."""
    policyd.run("mailbox restrict alice --accept @a.example")
    policyd.run("sender block alice --except @b.example")
    policyd.run("sender block Bob --to alice")
    policyd.run("mailbox remove alice --yes")
    assert policyd.journal()[-4:] == [
        ("address.remove", "alice@example.com"),
        ("sender.unblock", "alice"),
        ("sender.unblock", "Bob"),
        ("mailbox.remove", "alice"),
    ]
    for table in ("accepted_sender", "blocked_sender", "allowed_recipient"):
        assert policyd.rows(f"SELECT count(*) FROM {table}") == [(0,)]
    assert policyd.run("address list") == "bob@example.com\tBob\tyes\n"


def test_show_has_stable_json(policyd):
    """Scripts rely on these keys."""
    policyd.run("sender block alice --reason gone")
    policyd.run("sender block @spam.example --to alice")
    mailbox = policyd.json("mailbox show alice")
    assert [*mailbox] == [
        *("id", "name", "receive", "accept", "reason", "until", "comment", "addresses", "blocked", "blocked_to_it"),
        *("groups", "in_force"),
    ]
    assert [each["reason"] for each in mailbox["blocked"]] == ["gone"]
    assert [each["sender"] for each in mailbox["blocked_to_it"]] == ["@spam.example"]


def test_show_tells_a_person_all_about_a_mailbox(policyd):
    """Both kinds of blocks included."""
    policyd.run("mailbox restrict alice --accept @a.example --reason 'internal only' --until 2096-02-29T12:00Z")
    policyd.run("sender block alice --reason gone")
    policyd.run("sender block @spam.example --to alice")
    until = datetime.fromtimestamp(3981355200).astimezone().isoformat(sep=" ", timespec="seconds")
    assert policyd.run("mailbox show alice") == (
        "id: 1\n"
        "name: alice\n"
        "receive: insiders\n"
        "accept: @a.example\n"
        "reason: internal only\n"
        f"until: {until}\n"
        "comment:\n"
        "addresses: alice@example.com\n"
        "groups:\n"
        "in force: receive insiders, by mailbox, accept @a.example\n"
        "blocked: may not send to outside (entry 1: gone)\n"
        "blocked: @spam.example may not send to it (entry 2)\n"
    )


def test_list_has_columns_for_scripts(policyd):
    """name, receive, until, addresses (the primary one first), accept, reason."""
    policyd.run("address add alice a@example.com")
    policyd.run("mailbox restrict alice --accept @b.example --accept @a.example --reason 'internal only'")
    assert policyd.run("mailbox list") == (
        "alice\tinsiders\t\talice@example.com a@example.com\t@a.example @b.example\tinternal only\n"
        "Bob\tinherit\t\tbob@example.com\t\t\n"
    )
    assert [*policyd.json("mailbox list")[0]] == [
        *("id", "name", "receive", "accept", "reason", "until", "comment", "addresses")
    ]


def test_reason_is_one_line(policyd):
    """It goes into a reply and a log, where a line break would forge one."""
    message = policyd.refuses("mailbox restrict alice --reason 'a\nb'", 2)
    assert message == (
        "policyd: Invalid value for '--reason': the text 'a\\nb' holds a control character; type it without. "
        "See: policyd mailbox restrict --help"
    )


# --- Opened mailboxes, and those that inherit


def test_opened_mailbox_receives_from_anyone_whatever_others_say(policyd):
    """The one list that the press writes to, in a company that is closed otherwise."""
    policyd.run("domain restrict example.com --receive nobody")
    assert policyd.says("mailbox open alice@example.com --until 2096-02-29T12:00Z")[0].startswith(
        "mailbox alice: receive inherit -> anyone, until never -> 2096-02-29"
    )
    assert [each["receive"] for each in policyd.json("mailbox show alice")["in_force"]] == ["anyone"]
    assert policyd.says("mailbox open ALICE alice") == ["nothing to change: it stands so already"]
    assert policyd.says("mailbox lift alice")[1:] == [
        "alice still receives from nobody only, as domain example.com says"
    ]
    policyd.run("mailbox restrict alice --reason x --accept @x.example")
    policyd.run("mailbox open alice")
    assert shown(policyd) == OPEN | {"receive": "anyone"}


def test_mailbox_that_inherits_accepts_beside_whom_others_accept(policyd):
    """Beside those whom its groups or its domain accept; an opened one accepts anybody."""
    policyd.run("domain restrict example.com --accept @partner.example")
    assert policyd.says("mailbox accept alice @x.example bob") == ['mailbox alice: accept "" -> "Bob @x.example"']
    (each,) = policyd.json("mailbox show alice")["in_force"]
    assert (each["by"], each["accept"]) == ("domain", ["@partner.example", "@x.example", "Bob"])
    policyd.run("mailbox unaccept alice bob")
    policyd.run("mailbox open alice")
    assert policyd.refuses("mailbox accept alice @x.example") == (
        "policyd: alice receives from anyone, so this would do nothing; "
        "to restrict it: policyd mailbox restrict alice --accept SENDER"
    )


@pytest.mark.parametrize(
    "line",
    [
        "mailbox set alice@example.com --comment x",
        "mailbox show Alice@Example.com",
        "mailbox restrict alice@example.com",
        "mailbox open alice@example.com",
        "mailbox accept alice@example.com @x.example",
        "address add alice@example.com a@example.com",
    ],
)
def test_an_address_stands_for_its_mailbox(policyd, line):
    """It is what the person who complains gives."""
    policyd.run(line)


@pytest.mark.parametrize("line", ["mailbox remove alice@example.com", "mailbox rename alice@example.com x"])
def test_whole_mailbox_is_removed_and_renamed_by_its_name_only(policyd, line):
    """Who types an address there may mean only the address."""
    assert "alice@example.com is an address or a pattern, not a mailbox name" in policyd.refuses(line, 2)


def test_address_of_nobody_is_no_mailbox(policyd):
    """As is a name that is nobody's."""
    assert policyd.refuses("mailbox restrict carol@example.com") == (
        "policyd: carol@example.com is no mailbox's address; see: policyd mailbox list, or: policyd mailbox add"
    )


def test_note_is_set_and_taken_away(policyd):
    """For administrators; it changes nothing else."""
    assert policyd.says("mailbox set alice --comment 'since May'") == ['mailbox alice: comment "" -> "since May"']
    assert policyd.says("mailbox set alice --comment ''") == ['mailbox alice: comment "since May" -> ""']


def test_removal_lists_all_that_goes(policyd):
    """Its place in groups, in others' lists and exceptions, too; one undo brings all of it back."""
    policyd.run("group add staff alice bob")
    policyd.run("mailbox restrict bob --accept alice")
    policyd.run("sender block anyone --to @x.example --except-sender alice")
    assert policyd.refuses("mailbox remove alice", 2) == (
        "policyd: 1 address, 1 membership, 1 exception of others and 1 place among accepted "
        "senders would be removed with alice. Add --yes. See: policyd mailbox remove --help"
    )
    changeset = policyd.json("mailbox remove alice --yes")["changeset"]
    assert shown(policyd, "bob")["accept"] == []
    policyd.run(f"undo {changeset}")
    assert shown(policyd, "bob")["accept"] == ["alice"]
    assert policyd.json("group show staff")["members"] == ["alice", "Bob"]
    assert policyd.json("sender list")[0]["except_sender"] == ["alice"]


def test_list_is_narrowed_by_name_or_address(policyd):
    """A text is in one of them, in any case; a glob is the whole of one."""
    policyd.run("address add bob b.jones@example.com")
    found = [
        [each["name"] for each in policyd.json(f"mailbox list {text}")]
        for text in ("ALI", "jones", "'b*'", "'*@example.com'", "'?ob'", "zed")
    ]
    assert found == [["alice"], ["Bob"], ["Bob"], ["alice", "Bob"], ["Bob"], []]


def test_ended_restriction_is_shown_as_ended(policyd):
    """What is shown as in force is in force."""
    policyd.run("mailbox restrict alice --until +1d")
    assert "ended" not in policyd.json("mailbox show alice")
    policyd.rows("UPDATE mailbox SET until = 1000000000 WHERE name = 'alice'")
    assert policyd.json("mailbox show alice")["ended"] is True
    told = policyd.run("mailbox show alice")
    assert "(ended)\n" in told
    assert "in force: receive anyone\n" in told

"""`policyd group`: who is in a group, and who may send to each of its mailboxes."""

import pytest

from tests.support.command_line import command_line

NO_MAILBOX = "policyd: there is no mailbox nobody; see: policyd mailbox list, or: policyd mailbox add"
NO_GROUP = "policyd: there is no group nobody; see: policyd group list, or: policyd group add nobody"


@pytest.fixture
def policyd():
    """A company with three mailboxes and a group in a group."""
    with command_line(
        "domain add example.com",
        *(f"mailbox add {name} {name}@example.com" for name in ("alice", "Bob", "carol")),
        "group add staff alice bob@example.com",
        "group add all group:staff carol",
    ) as policyd:
        yield policyd


def members(policyd, name):
    return policyd.json(f"group show {name}")["members"]


def in_force(policyd, name):
    """Who may send to the mailbox, and who says so."""
    (each,) = policyd.json(f"mailbox show {name}")["in_force"]
    return each["receive"], each["by"]


# --- Who is in it


def test_group_holds_mailboxes_by_name_or_address_and_groups(policyd):
    """Each is named as it is called, in the order in which it came."""
    assert members(policyd, "staff") == ["alice", "Bob"]
    assert members(policyd, "group:ALL") == ["group:staff", "carol"]
    assert policyd.says("group add board BOB --comment 'since May'") == [
        'group board: added: receive anyone, comment "since May"',
        "group board: Bob joined",
    ]


def test_who_is_in_already_joins_without_a_trace(policyd):
    """Scripts may say it every night."""
    before = policyd.journal()
    assert policyd.says("group join staff ALICE alice@example.com") == ["nothing to change: it stands so already"]
    assert policyd.journal() == before


def test_members_join_and_leave_a_row_each(policyd):
    """The journal tells who; the group's own row does not grow with its members."""
    assert policyd.says("group join staff carol") == ["group staff: carol joined"]
    assert policyd.says("group leave staff carol@example.com bob") == [
        "group staff: carol left",
        "group staff: Bob left",
    ]
    assert members(policyd, "staff") == ["alice"]
    assert policyd.run("history --object group:STAFF --limit 2").splitlines()[-1].endswith("group:staff\tBob left")


@pytest.mark.parametrize("member", ["group:all", "group:staff"])
def test_a_circle_is_refused_where_it_is_typed(policyd, member):
    """It would do no harm, and nobody means it."""
    before = policyd.journal()
    assert policyd.refuses(f"group join staff carol {member}") == (
        f"policyd: {member} can't join group:staff, which is in it already; groups make no circle"
    )
    assert policyd.journal() == before


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("group join staff nobody", NO_MAILBOX, id="an unknown mailbox joins"),
        pytest.param("group join staff carol group:nobody", NO_GROUP, id="an unknown group joins"),
        pytest.param("group join nobody alice", NO_GROUP, id="an unknown group is joined"),
        pytest.param("group add new nobody", NO_MAILBOX, id="a new group of an unknown mailbox"),
        pytest.param("group leave nobody alice", NO_GROUP, id="an unknown group is left"),
        pytest.param(
            "group leave staff alice carol",
            "policyd: carol: not in group:staff; see: policyd group show staff",
            id="somebody leaves who is not in it",
        ),
        pytest.param(
            "group join staff @example.com",
            "policyd: @example.com is no mailbox's address; see: policyd mailbox list, or: policyd mailbox add",
            id="a pattern",
        ),
        pytest.param(
            "group add STAFF",
            "policyd: there is a group STAFF already; to put somebody into it: policyd group join STAFF MEMBER",
            id="a group that is there",
        ),
        pytest.param(
            "group rename all Staff", "policyd: there is a group staff already; choose another name", id="a taken name"
        ),
        pytest.param("group show nobody", NO_GROUP, id="show"),
        pytest.param("group remove nobody", NO_GROUP, id="remove"),
        pytest.param("group set nobody --comment x", NO_GROUP, id="set"),
        pytest.param(
            "group restrict staff nobody", "policyd: there is no group nobody; type: --receive nobody", id="restrict"
        ),
        pytest.param("group restrict staff --accept nobody", NO_MAILBOX, id="accept an unknown mailbox"),
        pytest.param("group restrict staff --accept group:nobody", NO_GROUP, id="accept an unknown group"),
        pytest.param("group lift staff", "policyd: staff is not restricted; nothing to lift", id="lift what is open"),
        pytest.param(
            "group accept staff @partner.example",
            "policyd: staff receives from anyone, so this would do nothing; to restrict it: "
            "policyd group restrict staff --accept SENDER",
            id="accept where anyone is",
        ),
        pytest.param("mailbox restrict alice --accept group:nobody", NO_GROUP, id="a mailbox accepts an unknown group"),
        pytest.param("sender block group:nobody", NO_GROUP, id="block an unknown group"),
        pytest.param("sender block alice --to group:nobody", NO_GROUP, id="block to an unknown group"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(policyd, line, told):
    """No command does half of its work."""
    before = policyd.journal()
    assert policyd.refuses(line) == told
    assert policyd.journal() == before


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("mailbox add group:x", "what begins with group: is a group", id="a mailbox called group:"),
        pytest.param("mailbox rename alice Group:x", "what begins with group: is a group", id="in another case"),
        pytest.param("group add x@example.com", "a name has no @", id="a group called as an address"),
        pytest.param("group add group:", "a name has 1 to 256 characters", id="a group without a name"),
        pytest.param("group add group:group:x", "what begins with group: is a group", id="group: twice"),
        pytest.param("group join staff anyone", "anyone has a meaning of its own", id="anyone joins"),
        pytest.param("group restrict staff --accept outside", "outside has a meaning", id="outside accepted"),
        pytest.param("group restrict staff --receive anyone", "is not one of 'insiders', 'domain'", id="anyone"),
        pytest.param("group restrict staff --receive inherit", "is not one of 'insiders'", id="inherit"),
        pytest.param("group set staff", "Missing option '--comment'", id="set of nothing"),
    ],
)
def test_what_can_be_nothing_is_bad_usage(policyd, line, told):
    """One line that says how it is typed."""
    assert told in policyd.refuses(line, 2)


def test_group_can_be_called_as_a_reserved_word(policyd):
    """With group: in front it is no word of --to."""
    policyd.run("group add anyone alice")
    policyd.run("sender block group:anyone")
    assert [each["sender"] for each in policyd.json("sender list")] == ["group:anyone"]


# --- Who may send to it


def test_restrict_says_what_it_changes_beyond_what_it_names(policyd):
    """Most who restrict a group think of its list's address, and not of the bounces to each member."""
    policyd.run("mailbox restrict bob --receive nobody")
    assert policyd.says("group restrict all") == [
        "group all: receive anyone -> insiders",
        "the restriction of group:all is about 3 mailboxes; 1 keeps its own: Bob",
        "bounces from outside are refused there, too; to let them in: policyd group accept all '<>'",
        "mail to a list's own address is mail to another mailbox; to restrict that, too: policyd mailbox restrict LIST",
    ]
    assert policyd.says("group restrict staff --receive nobody --accept '<>'") == [
        'group staff: receive anyone -> nobody, accept "" -> <>',
        "the restriction of group:staff is about 2 mailboxes; 1 keeps its own: Bob",
        "mail to a list's own address is mail to another mailbox; to restrict that, too: policyd mailbox restrict LIST",
    ]
    assert policyd.says("group restrict all --reason intern")[1] == (
        "the restriction of group:all is about 3 mailboxes; 1 keeps its own: Bob; 1 keeps what its groups say: alice"
    )


def test_mailbox_shows_who_restricts_it(policyd):
    """Its own stands before its groups', of which the strictest counts, and those before the domain's."""
    assert in_force(policyd, "alice") == ("anyone", None)
    policyd.run("domain restrict example.com")
    assert in_force(policyd, "alice") == ("insiders", "domain")
    policyd.run("group restrict all --receive domain --reason 'ours only' --accept @partner.example")
    policyd.run("mailbox accept alice @x.example")
    assert in_force(policyd, "alice@example.com") == ("domain", "group:all")
    assert (
        "groups: group:all group:staff\nin force: receive domain, by group:all, accept @partner.example @x.example\n"
    ) in policyd.run("mailbox show alice")
    policyd.run("group restrict staff --receive nobody")
    assert in_force(policyd, "alice") == ("nobody", "group:staff")
    policyd.run("mailbox open alice")
    assert in_force(policyd, "alice") == ("anyone", None)


def test_lift_says_who_restricts_it_still(policyd):
    """An open mailbox is what was meant, and is not what there is."""
    policyd.run("domain restrict example.com")
    policyd.run("group restrict staff all --receive nobody")
    policyd.run("mailbox restrict alice")
    assert policyd.says("mailbox lift alice") == [
        "mailbox alice: receive insiders -> inherit",
        "alice still receives from nobody only, as group:all says",
    ]
    assert policyd.says("group lift all") == [
        "group all: receive nobody -> anyone",
        "of 3 mailboxes in group:all, these are restricted still: alice, Bob",
    ]
    assert policyd.says("group lift staff") == ["group staff: receive nobody -> anyone"]
    policyd.run("mailbox restrict carol")
    assert (
        policyd.says("mailbox lift carol")[-1] == "carol still receives from insiders only, as domain example.com says"
    )


def test_restriction_again_changes_what_is_given(policyd):
    """As of a mailbox."""
    policyd.run("group restrict staff --accept group:all --accept alice --reason intern")
    before = policyd.journal()
    assert policyd.says("group restrict staff --reason intern")[0] == "nothing to change: it stands so already"
    assert policyd.journal() == before
    policyd.run("group accept staff @partner.example")
    policyd.run("group unaccept staff ALICE")
    shown = policyd.json("group show staff")
    assert (shown["receive"], shown["accept"], shown["reason"]) == (
        "insiders",
        ["@partner.example", "group:all"],
        "intern",
    )


def test_ended_restriction_is_shown_as_ended(policyd):
    """What is shown as in force is in force."""
    policyd.run("group restrict staff --until +1d")
    policyd.rows("UPDATE mailbox_group SET until = 1000000000 WHERE name = 'staff'")
    assert in_force(policyd, "alice") == ("anyone", None)
    assert policyd.json("group show staff")["ended"] is True
    assert "(ended)" in policyd.run("group show staff")
    assert "(ended)" in policyd.run("group list staff")
    assert "ended" not in policyd.json("group show all")


# --- Renaming and removing


def test_rename_is_in_nobodys_way(policyd):
    """Whoever refers to it shows the new name, and an undo of what was before still works."""
    policyd.run("mailbox restrict carol --receive nobody --accept group:staff")
    changeset = policyd.json("sender block group:staff --to carol")["changeset"]
    policyd.run("group rename staff employees")
    assert policyd.json("mailbox show carol")["accept"] == ["group:employees"]
    assert members(policyd, "all") == ["group:employees", "carol"]
    policyd.run(f"undo {changeset}")
    assert policyd.json("sender list") == []


def test_removal_lists_what_goes_and_asks(policyd):
    """A block that goes with a group opens something; each goes as a row of the journal, and comes back by undo."""
    policyd.run("sender block group:staff --to carol")
    policyd.run("sender block anyone --to @x.example --except-sender group:staff")
    policyd.run("mailbox restrict carol --accept group:staff")
    before = policyd.journal()
    assert policyd.refuses("group remove staff", 2) == (
        "policyd: 3 memberships, 1 blocked sender, 1 exception of others and 1 place among accepted senders would "
        "be removed with staff. Add --yes. See: policyd group remove --help"
    )
    assert policyd.journal() == before
    changeset = policyd.json("group remove staff --yes")["changeset"]
    assert [operation for operation, _ in policyd.journal()[len(before) :]] == [
        "sender.unblock",
        "sender.unexcept",
        "mailbox.unaccept",
        "group.leave",
        "group.leave",
        "group.leave",
        "group.remove",
    ]
    assert policyd.json("mailbox show carol")["accept"] == []
    policyd.run(f"undo {changeset}")
    assert members(policyd, "staff") == ["alice", "Bob"]
    assert policyd.json("mailbox show carol")["accept"] == ["group:staff"]
    assert [each["except_sender"] for each in policyd.json("sender list")] == [[], ["group:staff"]]


def test_empty_group_goes_without_asking(policyd):
    """There is nothing to lose."""
    policyd.run("group add empty")
    assert policyd.says("group remove empty") == ["group empty: removed"]


# --- Lists


def test_list_has_columns_for_scripts_and_is_narrowed(policyd):
    """name, members, receive, until, accept, reason, comment; a text is in the name, a glob is the whole of it."""
    policyd.run("group add 'sales team' --comment x")
    assert policyd.run("group list") == (
        "all\tgroup:staff carol\tanyone\t\t\t\t\nsales team\t\tanyone\t\t\t\tx\nstaff\talice Bob\tanyone\t\t\t\t\n"
    )
    assert [each["name"] for each in policyd.json("group list TA")] == ["staff"]
    assert [each["name"] for each in policyd.json("group list 's*'")] == ["sales team", "staff"]
    assert [each["name"] for each in policyd.json("group list 'a?l'")] == ["all"]
    assert policyd.json("group list 'x*'") == []


def test_show_tells_all_about_a_group(policyd):
    """Its members, the groups it is in, whom it is about, and the entries about it."""
    policyd.run("group restrict staff --accept @partner.example --reason intern")
    policyd.run("mailbox open bob")
    policyd.run("sender block group:staff --except @partner.example --reason gone")
    policyd.run("sender block @spam.example --to group:staff")
    assert policyd.run("group show staff") == (
        "id: 1\n"
        "name: staff\n"
        "receive: insiders\n"
        "accept: @partner.example\n"
        "reason: intern\n"
        "until:\n"
        "comment:\n"
        "members: alice Bob\n"
        "groups: group:all\n"
        "mailboxes: 2\n"
        "keep_own: Bob\n"
        "blocked: may not send to outside but for @partner.example (entry 1: gone)\n"
        "blocked: @spam.example may not send to it (entry 2)\n"
    )

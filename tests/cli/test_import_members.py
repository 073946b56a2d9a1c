"""LDIF of changes to groups: who joins and leaves in the directory joins and leaves here."""

import pytest

from tests.support.command_line import command_line

PEOPLE = "OU=People,DC=example,DC=com"
SYNCHRONISED = f"""\
# What the directory synchronisation wrote in the night of 2026-11-24
version: 1

dn: CN=carla,{PEOPLE}
changetype: add
objectClass: user
cn: carla
mailNickname: carla
proxyAddresses: SMTP:carla@example.com
proxyAddresses: X400:C=US;A= ;P=Example;O=Exchange;S=Clark;G=Carla;

dn: CN=Partner Desk,OU=Contacts,DC=example,DC=com
changetype: add
objectClass: contact
cn: Partner Desk
targetAddress: SMTP:desk@partner.example

dn: CN=staff,OU=Lists,DC=example,DC=com
changetype: modify
add: member
member: CN=carla,{PEOPLE}
member:: Q049Qm9iIFNtaXRoLE9VPVBlb3BsZSxEQz1leGFtcGxlLERDPWNvbQ==
member: CN=Partner Desk,OU=Contacts,DC=example,DC=com
-
delete: member
member: CN=alice,{PEOPLE}
-
replace: whenChanged
whenChanged: 20261124021500.0Z
-

"""


@pytest.fixture
def policyd():
    """Commands on a database with a group of alice and dirk."""
    with command_line(
        "domain add example.com",
        *(f"mailbox add '{name}'" for name in ("alice", "dirk", "Bob Smith")),
        "group add staff alice dirk",
        "group add board dirk",
    ) as policyd:
        yield policyd


def changed(policyd, *changes, group="CN=staff,OU=Lists,DC=example,DC=com"):
    """How the import of *changes* to *group* ends."""
    file = policyd.folder / "changes.ldif"
    file.write_text(f"dn: {group}\nchangetype: modify\n" + "".join(f"{each}\n-\n" for each in changes))
    return policyd.ends(f"import {file}")


def members(policyd, group="staff"):
    """Who is in the group."""
    return policyd.json(f"group show {group}")["members"]


def test_changes_of_a_directory_change_the_group(policyd):
    """Who left the company's list is kept out of what the list may, in the same night; one undo takes it back."""
    file = policyd.folder / "night.ldif"
    file.write_text(SYNCHRONISED)
    told = policyd.json(f"import {file}")
    assert members(policyd) == ["dirk", "carla", "Bob Smith"]
    assert told["tally"]["member"] == {"added": 2, "removed": 1}
    assert told["skipped"]["contact"] >= 1  # nobody elsewhere can be in a group here
    policyd.run(f"undo {told['changeset']}")
    assert members(policyd) == ["alice", "dirk"]


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        pytest.param([f"replace: member\nmember: CN=Bob Smith,{PEOPLE}"], ["Bob Smith"], id="replaced"),
        pytest.param(["replace: member"], [], id="replaced by nobody"),
        pytest.param(["delete: member"], [], id="all deleted"),
        pytest.param([f"delete: member\nmember: CN=dirk,{PEOPLE}"], ["alice"], id="one deleted"),
        pytest.param([f"delete: member\nmember: CN=gone,{PEOPLE}"], ["alice", "dirk"], id="who is not there deleted"),
        pytest.param([f"add: member\nmember: CN=dirk,{PEOPLE}"], ["alice", "dirk"], id="who is in it added"),
        pytest.param(
            [f"delete: member\nmember: CN=dirk,{PEOPLE}", f"add: uniqueMember\nuniqueMember: uid=Bob Smith,{PEOPLE}"],
            ["alice", "Bob Smith"],
            id="two attributes",
        ),
        pytest.param(
            ["add: member\nmember: cn=board,ou=groups,ou=policyd"],
            ["alice", "dirk", "group:board"],
            id="a group of ours",
        ),
    ],
)
def test_each_kind_of_change_does_what_it_says(policyd, changes, left):
    """As RFC 2849 has them, one after the other."""
    assert changed(policyd, *changes).status == 0
    assert members(policyd) == left


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param(
            [f"add: member\nmember: CN=nobody,{PEOPLE}"], "there is no mailbox nobody", id="an unknown member"
        ),
        pytest.param(["add: member\nmember: OU=People"], "begins with neither cn= nor uid=", id="a container"),
        pytest.param(["add: member\nmember: alice"], "is not a distinguished name", id="no name"),
    ],
)
def test_change_that_names_nobody_changes_nothing(policyd, changes, told):
    """Half a group would open or close what nobody asked for."""
    ended = changed(policyd, f"delete: member\nmember: CN=dirk,{PEOPLE}", *changes)
    assert (ended.status, told in ended.err) == (65, True), ended
    assert members(policyd) == ["alice", "dirk"]


def test_change_of_a_group_that_is_none_here_is_a_wrong_row(policyd):
    """A group is made with its restriction, or by `group add`."""
    ended = changed(policyd, f"add: member\nmember: CN=alice,{PEOPLE}", group="CN=cooks,OU=Lists")
    assert (ended.status, "the group cooks is not there" in ended.err) == (65, True), ended


def test_change_of_a_group_and_of_its_address_is_both(policyd):
    """The list's own address is a mailbox of the same name."""
    policyd.run("mailbox add staff staff@example.com")
    ended = changed(
        policyd,
        f"delete: member\nmember: CN=dirk,{PEOPLE}",
        "replace: msExchRequireAuthToSendTo\nmsExchRequireAuthToSendTo: TRUE",
    )
    assert (ended.status, members(policyd)) == (0, ["alice"])
    assert policyd.json("mailbox show staff")["receive"] == "insiders"

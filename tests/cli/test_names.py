"""An address where a mailbox's name is wanted: whatever the daemon would take it for, the command takes it for, too."""

import pytest

from tests.support.command_line import command_line

SPELLINGS = [
    pytest.param("alice@example.com", id="as it is listed"),
    pytest.param("A.Smith@EXAMPLE.com.", id="another address, in another case"),
    pytest.param("alice+news@example.com", id="with an extension"),
    pytest.param("alice@alias.example", id="in an alias domain"),
    pytest.param("prvs=4182c1d5=alice@example.com", id="with a BATV tag"),
    pytest.param("prvs=4182c1d5=Alice+x@ALIAS.example", id="with all of these"),
    pytest.param("imceaex-_o=org_cn=recipients_cn=alice@example.com", id="encapsulated"),
    pytest.param("alice@bücher.example", id="in a domain with umlauts"),
    pytest.param("alice@xn--bcher-kva.example", id="in the same, as A-labels"),
    pytest.param("alice@straße.example", id="in a domain that Postfix folds"),
]


@pytest.fixture
def policyd():
    """Commands on a database with alice, who is in many places."""
    with command_line(
        *(
            f"domain add {domain}"
            for domain in ("example.com", "alias.example --alias-of example.com", "bücher.example", "strasse.example")
        ),
        "mailbox add alice alice@example.com a.smith@example.com alice@bücher.example",
        "address add alice alice@strasse.example",
        "group add staff",
    ) as policyd:
        policyd.settings.write_text('recipient_delimiter = "+"\n[audit]\nsyslog = "none"\n')
        yield policyd


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_address_does_where_a_name_is_wanted(policyd, spelled):
    """Copied from a log or a letter: it is the mailbox that mail to it reaches."""
    assert policyd.json(f"address find {spelled}")["mailbox"] == "alice"
    assert policyd.json(f"mailbox show {spelled}")["name"] == "alice"
    policyd.run(f"mailbox restrict {spelled}")
    policyd.run(f"mailbox accept {spelled} @partner.example")
    policyd.run(f"mailbox unaccept {spelled} @partner.example")
    policyd.run(f"mailbox lift {spelled}")
    policyd.run(f"mailbox open {spelled}")
    policyd.run(f"mailbox set {spelled} --comment x")
    policyd.run(f"address add {spelled} new@example.com")
    policyd.run(f"group join staff {spelled}")
    assert policyd.json("group show staff")["members"] == ["alice"]
    policyd.run(f"group leave staff {spelled}")


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_block_of_a_mailbox_is_found_by_its_address(policyd, spelled):
    """The caller tells his address, not what the mailbox is called; blocked itself, an address is only itself."""
    policyd.run("sender block alice")
    assert [each["sender"] for each in policyd.json(f"sender show {spelled}")] == ["alice"]
    policyd.run(f"sender unblock {spelled}")
    assert "is an address of the mailbox alice" in policyd.says(f"sender block {spelled}")[-1]


@pytest.mark.parametrize("spelled", ["alice@example.net", "bob@alias.example", "alicex@example.com"])
def test_address_that_leads_nowhere_is_nobodys(policyd, spelled):
    """No likeness counts."""
    assert policyd.refuses(f"mailbox show {spelled}").startswith(f"policyd: {spelled} is no mailbox's address; see: ")


@pytest.mark.parametrize("line", ["mailbox remove alice@example.com", "mailbox rename alice@example.com bob"])
def test_mailbox_is_removed_and_renamed_by_its_name_only(policyd, line):
    """What is taken away is called by its name."""
    assert "is an address or a pattern, not a mailbox name" in policyd.refuses(line, 2)


def test_extension_is_one_only_where_the_settings_say(policyd):
    """Without a delimiter, `alice+news` is somebody else."""
    policyd.settings.write_text('recipient_delimiter = ""\n[audit]\nsyslog = "none"\n')
    policyd.refuses("mailbox show alice+news@example.com")


@pytest.fixture
def blanks():
    """Commands on a database in which names have blanks, quotes and commas."""
    with command_line(
        "domain add example.com",
        "mailbox add 'Bob Smith' bob@example.com '\"bob smith\"@example.com'",
        "mailbox add 'Carol \"CC\" Clark, jr.'",
        "group add 'All Staff' 'Bob Smith' 'Carol \"CC\" Clark, jr.'",
        "mailbox add alice alice@example.com",
        "mailbox restrict alice --accept 'group:All Staff' --accept 'Bob Smith' --accept '\"a b\"@x.example'",
        "sender block anyone --to alice --except-sender 'group:All Staff' --except-sender 'Bob Smith'",
    ) as policyd:
        yield policyd


def test_list_that_is_shown_can_be_typed_again(blanks):
    """A line of `mailbox list` is the command that makes it so, word by word."""
    accepted = blanks.run("mailbox list alice").rstrip("\n").split("\t")[4]
    assert accepted == '"Bob Smith" "a b"@x.example "group:All Staff"'
    before = blanks.json("mailbox show alice")["accept"]
    words = ['"Bob Smith"', "'\"a b\"@x.example'", '"group:All Staff"']  # the shell takes one pair of quotes off
    blanks.run("mailbox unaccept alice " + " ".join(words))
    assert blanks.json("mailbox show alice")["accept"] == []
    blanks.run("mailbox accept alice " + " ".join(words))
    assert blanks.json("mailbox show alice")["accept"] == before


@pytest.mark.parametrize("format_", ["csv"])
def test_list_that_is_shown_can_be_imported_again(blanks, format_):
    """Copied from a terminal into a cell of a spreadsheet."""
    members = blanks.run("group list").rstrip("\n").split("\t")[1]
    before = blanks.json("group show 'All Staff'")["members"]
    file = blanks.folder / f"again.{format_}"
    quoted = members.replace('"', '""')
    file.write_text(f'kind,name,members\ngroup,other,"{quoted}"\n')
    blanks.run(f"import {file}")
    assert blanks.json("group show other")["members"] == before


def test_sentences_and_single_objects_quote_names_alike(blanks):
    """What stands among others in a line can be told apart from them."""
    assert 'accept "Bob Smith" "a b"@x.example "group:All Staff"' in blanks.run("mailbox show alice")
    assert 'but for "Bob Smith" "group:All Staff" (entry 1)' in blanks.run("mailbox show alice")
    assert 'groups: "group:All Staff"' in blanks.run("mailbox show 'Bob Smith'")
    assert 'members: "Bob Smith" "Carol \\"CC\\" Clark, jr."\n' in blanks.run("group show 'All Staff'")
    assert '"bob smith"@example.com\tBob Smith\tno\n' in blanks.run("address list")
    assert 'accept "" -> ' in blanks.run("history --object alice")
    assert blanks.json("mailbox show alice")["accept"] == ["Bob Smith", "a b@x.example", "group:All Staff"]


def test_history_of_a_group_is_found_by_its_written_name(blanks):
    """As lists write it, in any case; its members' joining is part of it."""
    operations = [each["operation"] for each in blanks.json("history --object 'group:all staff'")]
    assert operations == ["group.add", "group.join", "group.join"]
    assert "group:NAME" in blanks.run("history --help")
    assert "groups" in blanks.run("import --help")

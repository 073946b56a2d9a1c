"""`policyd import` of Postfix's own maps: what comes in is what the map says, and what can't, stays out as a whole."""

from pathlib import Path

import pytest

from tests.support.command_line import command_line

CASES = Path(__file__).parent.parent / "data" / "cases"


@pytest.fixture
def policyd():
    """A company with one domain and nobody in it yet."""
    with command_line("domain add example.com") as policyd:
        yield policyd


def imports(policyd, text, options="", *, status=0):
    """The lines that a person is told of an import of *text*, with the file called `map`."""
    file = policyd.folder / "map"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = policyd.ends(f"-v import {file} --format postfix {options}")
    assert ended.status == status, ended
    return (ended.out + ended.err).replace(str(file), "map").splitlines()


def rejected(policyd):
    """What is in FILE.err."""
    return (policyd.folder / "map.err").read_text()


def case(name):
    """A file as people have it."""
    return (CASES / name).read_bytes()


def is_refused(policyd, recipient, sender="stranger@outside.example"):
    """Whether a stranger's mail to *recipient* is refused."""
    ended = policyd.ends(f"check --recipient {recipient} --sender {sender} --client-address 192.0.2.1")
    assert ended.status in (0, 1), ended
    return ended.status == 1


def blocked(policyd):
    """Each blocked sender, with its exceptions by sender behind it."""
    return [" ".join([each["sender"], *each["except_sender"]]) for each in policyd.json("sender list")]


def mailboxes(policyd):
    """Each mailbox, with its addresses behind it."""
    return [" ".join([each["name"], *each["addresses"]]) for each in policyd.json("mailbox list")]


def domains(policyd):
    """Each domain, and what it does with unlisted recipients, or what it stands for."""
    return [f"{each['name']} {each['alias_of'] or each['unlisted']}" for each in policyd.json("domain list")]


# --- The inputs that people have ---


def test_a_friend_in_a_refused_domain_is_let_through(policyd):
    """Kurt was let through so far; refused from one day to the next, his mail would be lost."""
    assert imports(policyd, case("sender_access.exception"), "--into blocked") == [
        "blocked sender: 2 added",
        "changeset 2; to take it back: policyd undo 2",
    ]
    assert blocked(policyd) == ["@partner.example kurt@partner.example", "@.partner.example"]
    assert not is_refused(policyd, "x@elsewhere.example", "kurt@partner.example")
    assert not is_refused(policyd, "x@elsewhere.example", "kurt+news@partner.example")
    for sender in ("karl@partner.example", "kurt@sales.partner.example"):
        assert is_refused(policyd, "x@elsewhere.example", sender)


def test_a_virtual_domain_comes_in_with_everybody_in_it(policyd):
    """An alias with several targets has a mailbox of its own, and an alias domain is one: nobody's mail is refused."""
    assert imports(policyd, case("virtual.new_domain"), "--add-domains")[0] == "domain: 2 added, 1 changed"
    assert domains(policyd) == ["alias.example example.org", "example.com reject", "example.org reject"]
    assert mailboxes(policyd) == ["all all@example.org", "anna anna@example.org"]
    for recipient in ("all@example.org", "anna@example.org", "all@alias.example", "anna@alias.example"):
        assert not is_refused(policyd, recipient)
    assert is_refused(policyd, "nobody@example.org")


@pytest.mark.parametrize(
    ("name", "options"),
    [("relay_recipients", "--into mailboxes"), ("vmailbox", ""), ("vmailbox", "--into mailboxes")],
)
def test_a_map_of_recipients_makes_a_mailbox_of_each(policyd, name, options):
    """What stands right is no mailbox's name: everybody's addresses would be one mailbox's."""
    imports(policyd, case(name), options)
    assert mailboxes(policyd) == [f"{each} {each}@example.com" for each in ("carla", "dirk", "emil")]


def test_a_word_beside_several_addresses_is_no_name(policyd):
    """Without --into nobody knows what it is; whoever typed the command is told what to type."""
    told = imports(policyd, case("relay_recipients"), status=65)
    assert told[0] == "map:1: 'x' is no mailbox; for a mailbox of each address: --into mailboxes"
    assert len(told) == 4
    assert mailboxes(policyd) == []


@pytest.mark.parametrize("options", ["--into blocked", "", "--into mailboxes"])
def test_a_restriction_class_is_told(policyd, options):
    """Its meaning stands in main.cf, and nobody would notice that those are restricted no more."""
    told = imports(policyd, case("restricted_senders"), options, status=65)
    assert all("restriction class" in line for line in told[:-1])
    assert len(told) == 3
    assert (mailboxes(policyd), blocked(policyd)) == ([], [])
    if options == "--into blocked":
        assert told[0].endswith("type: policyd sender block carla@example.com --to outside")


# --- Exceptions ---


def test_what_falls_with_others_is_in_the_file_to_be_corrected(policyd):
    """FILE.err alone, corrected, must mean what the whole map would have."""
    text = ".a.example REJECT\nb.example REJECT\nx@b.example 450 later\ny@b.example OK\nz@c.example REJECT\n"
    told = imports(policyd, text, "--into blocked", status=65)
    assert [line.split(":")[1] for line in told if line.startswith("map:")] == ["2", "3", "4"]
    assert blocked(policyd) == ["@.a.example", "z@c.example"]
    assert rejected(policyd) == (
        "# policyd: domains do not stand for their subdomains\n"
        "b.example REJECT\nx@b.example 450 later\ny@b.example OK\n"
    )

    # Corrected, it is as if the map had been right from the start: b.example does not stand for its subdomains.
    imports(policyd, rejected(policyd).replace("450 later", "OK"), "--into blocked")
    assert blocked(policyd) == ["@.a.example", "z@c.example", "@b.example x@b.example y@b.example"]


def test_an_exception_that_must_be_proven_is_none_of_the_map(policyd):
    """In a managed domain policyd lets only through who has logged in, and the map lets through whoever writes it."""
    told = imports(policyd, "carla@example.com OK\nexample.com REJECT\n", "--into blocked", status=65)
    assert sorted(line.split(":")[1] for line in told[:2]) == ["1", "2"]
    assert any("policyd sender block @example.com --to anyone --except-sender carla@example.com" in s for s in told)
    assert any("line 2 is wrong, and this stands or falls with it" in line for line in told)
    assert blocked(policyd) == []
    assert sorted(rejected(policyd).splitlines()) == ["carla@example.com OK", "example.com REJECT"]


@pytest.mark.parametrize("options", ["--dry-run", "--strict"])
def test_nothing_comes_in_where_nothing_may(policyd, options):
    """Both promise that nothing is changed."""
    text = "partner.example REJECT\nkurt@partner.example 450\nother.example REJECT\n"
    imports(policyd, text, f"--into blocked {options}", status=65)
    assert blocked(policyd) == []


def test_a_map_that_is_imported_again_changes_nothing(policyd):
    """Whoever keeps the map imports it each night."""
    text = "partner.example REJECT no\nkurt@partner.example OK\nsub.partner.example DUNNO\nboss@ REJECT\n"
    imports(policyd, text, "--into blocked")
    before = blocked(policyd)
    assert imports(policyd, text, "--into blocked")[-1] == "nothing to change: it stands so already"
    imports(policyd, text, "--into blocked --replace")
    assert blocked(policyd) == before


def test_the_first_of_two_lines_for_one_key_counts(policyd):
    """As in Postfix, whose postmap says the same."""
    text = "x@a.example OK\na.example REJECT\nX@A.example REJECT\n"
    assert imports(policyd, text, "--into blocked")[0] == (
        "map:3: 'X@A.example' is in line 1 already, which counts, as in Postfix; this line is skipped"
    )
    assert blocked(policyd) == ["@a.example x@a.example", "@.a.example"]


# --- Domains that come in ---

OPENED = "comes in with unlisted = accept, since the file does not say who is there; when it does: policyd domain set"


@pytest.mark.parametrize(
    "wrong", ["all@new.example |/bin/cat", "all@new.example :include:/etc/all", "a..b@new.example x"]
)
def test_a_domain_with_wrong_rows_lets_unlisted_recipients_through(policyd, wrong):
    """Those rows are somebody's addresses, whose mail would be refused from this moment."""
    told = imports(policyd, f"new.example x\nanna@new.example anna\n{wrong}\n", status=65)
    assert f"new.example: {OPENED} new.example --unlisted reject" in told
    assert domains(policyd) == ["example.com reject", "new.example accept"]
    assert not is_refused(policyd, "all@new.example")


def test_a_dry_run_says_which_domains_come_in_so(policyd):
    """Who looks first sees what would happen."""
    told = imports(policyd, "new.example x\nall@new.example |/bin/cat\n", "--dry-run", status=65)
    assert f"new.example: {OPENED} new.example --unlisted reject" in told


def test_a_domain_with_wrong_rows_in_any_format_lets_unlisted_recipients_through(policyd):
    """The same of a spreadsheet: the row with a slip has an address in the new domain."""
    file = policyd.folder / "people.csv"
    file.write_text("name,addresses,receive\nanna,anna@new.example,\nben,ben@new.example,nobdy\n")
    ended = policyd.ends(f"-v import {file} --add-domains")
    assert ended.status == 65
    assert f"new.example: {OPENED}" in ended.err
    assert domains(policyd) == ["example.com reject", "new.example accept"]


def test_an_alias_domain_with_wrong_rows_stands_for_itself_until_they_are_right(policyd):
    """What is unlisted there is the other domain's to say, and that may reject."""
    text = "alias.example x\n@alias.example @example.com\ninfo@alias.example |/bin/cat\n"
    told = imports(policyd, text, status=65)
    assert f"alias.example: {OPENED} alias.example --alias-of example.com" in told
    assert not is_refused(policyd, "info@alias.example")

    # Imported again, it stays so.
    told = imports(policyd, text, status=65)
    assert any("policyd domain set alias.example --alias-of example.com" in line for line in told)
    assert not is_refused(policyd, "info@alias.example")


def test_a_domain_that_was_managed_before_stays_as_it_is(policyd):
    """Somebody decided that."""
    imports(policyd, "all@example.com |/bin/cat\n", status=65)
    assert domains(policyd) == ["example.com reject"]


@pytest.mark.parametrize("target", ["bob@example.com", "bob", "@elsewhere.example", "@new.example", "a@b.c, d@e.f"])
def test_a_new_domain_that_takes_every_address_lets_unlisted_recipients_through(policyd, target):
    """A catch-all has no list of addresses."""
    imports(policyd, f"@new.example {target}\n", "--add-domains")
    assert domains(policyd) == ["example.com reject", "new.example accept"]
    assert imports(policyd, f"@new.example {target}\n")[-1] == "nothing to change: it stands so already"


def test_a_catch_all_does_not_open_what_was_closed(policyd):
    """To take mail for everybody in a domain that rejects is somebody's decision, with one command."""
    (told, _) = imports(policyd, "@example.com bob\n", status=65)
    assert told.endswith("to accept them: policyd domain set example.com --unlisted accept")


def test_a_map_that_refuses_some_recipients_lets_the_others_through(policyd):
    """check_recipient_access is no list of who is there."""
    text = "closed@new.example REJECT no\nopen@new.example OK\nlate@new.example 450 later\n"
    imports(policyd, text, "--into mailboxes --add-domains")
    recipients = ("closed", "open", "late", "other")
    assert [each for each in recipients if is_refused(policyd, f"{each}@new.example")] == ["closed"]


# --- Words and places ---


@pytest.mark.parametrize(
    "word", ["x", "na", "OK", "anything", "-", "1", "any thing at all", "example.com/d/", "/var/mail/d"]
)
def test_what_stands_beside_a_listed_recipient_means_nothing(policyd, word):
    """Any value says to Postfix that the address is valid."""
    imports(policyd, f"dirk@example.com {word}\nemil@example.com\t{word}\r\n", "--into mailboxes")
    assert mailboxes(policyd) == ["dirk dirk@example.com", "emil emil@example.com"]


@pytest.mark.parametrize(
    "place", ["d/admin/", "d/admin", "/var/mail/x", "example.com/John Doe/", "example.com/a@example.com"]
)
def test_a_place_is_no_name(policyd, place):
    """The mailbox is called as any that is known by its address only."""
    imports(policyd, f"a@example.com {place}\n")
    assert mailboxes(policyd) == ["a a@example.com"]


def test_a_name_that_is_one_is_taken(policyd):
    """A local user with several addresses is one mailbox: by his own address, or as the mailbox that is there."""
    policyd.run("mailbox add office")
    text = "sales@example.com office\ninfo@example.com office\nj.doe@example.com j_doe\nx@example.com jdoe\n"
    imports(policyd, text)
    assert mailboxes(policyd) == [
        "j_doe j.doe@example.com",
        "jdoe x@example.com",
        "office sales@example.com info@example.com",
    ]


def test_aliases_of_aliases_and_circles_are_somebodys(policyd):
    """Whatever mail is delivered in the end, the address is known."""
    text = (
        "a@example.com b@example.com\nb@example.com c@elsewhere.example\n"
        "x@example.com y@example.com\ny@example.com x@example.com\n"
        "z@example.com x@example.com, out@elsewhere.example\nq@example.com b@alias.example\n"
        "alias.example x\n@alias.example @example.com\n"
    )
    imports(policyd, text)
    assert mailboxes(policyd) == [
        "b b@example.com a@example.com q@example.com",
        "y y@example.com x@example.com",
        "z z@example.com",
    ]

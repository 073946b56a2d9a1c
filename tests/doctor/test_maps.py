"""What Postfix's maps have and the tables have not, and where aliases lead around a restriction."""

from pathlib import Path
from typing import Any

import pytest

from policyd.doctor import tables
from policyd.doctor.agreement import domains_in
from policyd.doctor.aliases import Aliases
from policyd.doctor.examination import Examination
from policyd.doctor.maps import Listings, TableError, permitting_row, why_not_there
from policyd.doctor.postconf import Instance, find_program
from policyd.settings import Settings
from tests.support.required import give_up

from .sites import MakeSite


@pytest.fixture(autouse=True)
def postmap() -> None:
    """Postfix's own program reads its maps."""
    if find_program("postmap") is None:
        give_up("POSTFIX", "not installed: postfix (Debian: apt-get install postfix)")


def aliases(folder: Path, rows: str, **values: str) -> Aliases:
    """Those of a Postfix with these *rows* in its virtual_alias_maps, configured in *folder*."""
    (folder / "main.cf").touch()
    values = {"virtual_alias_maps": f"inline:{{{rows}}}", "recipient_delimiter": "+", **values}
    return Aliases(Instance(folder, values, values, (), ()), Listings(str(folder)), [])


@pytest.mark.parametrize(
    ("rows", "address", "ways"),
    [
        ("{office@a.example=bob}", "office@a.example", ["bob@origin.example"]),
        ("{office=bob@a.example}", "office@origin.example", ["bob@a.example"]),
        ("{office=bob@a.example}", "office@own.example", ["bob@a.example"]),
        ("{office=bob@a.example}", "office@a.example", []),
        ("{Office@A.example=Bob@A.example}", "office@a.example", ["bob@a.example"]),
        ("{@old.example=@a.example}", "office+x@old.example", ["office+x@a.example"]),
        ("{office@a.example=ann@a.example,bob}", "office+x@a.example", ["bob@origin.example", "ann@a.example"]),
    ],
    ids=[
        "target without a domain",
        "name at the origin",
        "name at the host's own",
        "name elsewhere",
        "capitals",
        "domain",
        "extension",
    ],
)
def test_aliases_lead_where_postfix_sends_the_mail(tmp_path: Path, rows: str, address: str, ways: list[str]) -> None:
    """A way that is not seen is one around a restriction."""
    found = aliases(tmp_path, rows, myorigin="origin.example", mydestination="localhost, own.example")
    assert [way[-1] for way in found.chains(address) if way[-1] != address] == ways


@pytest.mark.parametrize(
    ("parameters", "address", "ways"),
    [
        (
            {"alias_maps": "office=bob, |/bin/vacation, :include:/etc/list, ann@a.example"},
            "office+x@own.example",
            "bob ann",
        ),
        ({"alias_maps": "office=bob"}, "office@a.example", ""),
        ({"alias_maps": "office=bob", "local_transport": "lmtp:unix:private/lmtp"}, "office@own.example", ""),
        ({"canonical_maps": "office=bob@a.example"}, "office@own.example", "bob"),
        ({"canonical_maps": "@old.example=@a.example"}, "bob@old.example", "bob"),
        ({"canonical_maps": "office=bob", "canonical_classes": "envelope_sender"}, "office@own.example", ""),
        ({"recipient_canonical_maps": "office=staff", "alias_maps": "staff=bob"}, "office@own.example", "bob"),
        ({"recipient_canonical_maps": "office=staff", "canonical_maps": "office=ann"}, "office@own.example", "staff"),
    ],
    ids=["local", "local elsewhere", "no local delivery", "canonical", "domain", "senders alone", "both", "two"],
)
def test_local_aliases_and_canonical_addresses_lead_on(
    tmp_path: Path, parameters: dict[str, str], address: str, ways: str
) -> None:
    """Postfix sends mail on by these as well, behind policyd's back."""
    values = {
        "canonical_classes": "envelope_sender, envelope_recipient, header_recipient",
        "recipient_canonical_classes": "envelope_recipient, header_recipient",
        "local_transport": "local:mx.own.example",
        **{name: f"inline:{{{{{value}}}}}" if name.endswith("_maps") else value for name, value in parameters.items()},
    }
    found = aliases(tmp_path, "", virtual_alias_maps="", myorigin="own.example", mydestination="own.example", **values)
    assert [way[-1].partition("@")[0] for way in found.chains(address) if way[-1] != address] == ways.split()[::-1]


@pytest.mark.postfix
def test_many_aliases_are_not_all_followed(make_site: MakeSite, monkeypatch: Any) -> None:
    """Of a million, all may lead around a restriction; that the rest was not looked at is said."""
    monkeypatch.setattr(tables, "_VERDICTS", 30)
    site = make_site("alias-around")
    rows = ",".join(f"{{a{number}@example.com=bob@example.com}}" for number in range(40))
    done = site.policyd("mailbox", "add", "many", *(f"a{number}@example.com" for number in range(40)))
    assert done.exit_code == 0, done.output
    main_cf = site.config / "main.cf"
    main_cf.write_text(f"{main_cf.read_text()}\nvirtual_alias_maps = inline:{{{rows}}}\n")
    found = site.doctor("--no-probe")
    around = [each["about"] for each in found["findings"] if each["code"] == "alias-around"]
    assert all(each.endswith("@example.com -> bob@example.com") for each in around[:20])
    assert len(around) == 21
    assert around[-1].endswith(" more")
    told = "virtual_alias_maps: more than 30 aliases lead to restricted addresses; the others were not looked at"
    assert told in found["not_looked_at"]


def test_tables_that_are_listed_meanwhile_are_there_when_they_are_asked_for(tmp_path: Path) -> None:
    """One may be named twice, may have no rows that anybody asks for, or not be there."""
    (tmp_path / "main.cf").touch()
    listings = Listings(str(tmp_path))
    table, unwanted, missing = "inline:{{Bob@a.example=X}}", "inline:{{ann@a.example=x}}", f"hash:{tmp_path}/missing"
    with listings.beside([table, table, unwanted, missing, "regexp:/nowhere"]):
        assert [*listings.rows(table)] == [*listings.rows(table)] == [("bob@a.example", "x")]
        with pytest.raises(TableError, match="No such file"):
            next(listings.rows(missing))


def test_access_table_that_is_not_there_is_noted(tmp_path: Path) -> None:
    """Postfix puts off all mail that comes to it in a list; what is asked over a network is not waited for."""
    (tmp_path / "main.cf").touch()
    for table in (f"hash:{tmp_path}/missing", f"proxy:regexp:{tmp_path}/missing"):
        assert "No such file" in why_not_there(table, str(tmp_path))
    for table in ("inline:{{a=b}}", "tcp:127.0.0.1:9"):
        assert why_not_there(table, str(tmp_path)) == ""


def test_file_of_domains_is_read_as_postfix_reads_it(tmp_path: Path) -> None:
    """A word of a comment is no domain that nobody manages; a file that names itself is no end of doctor."""
    file = tmp_path / "domains"
    file.write_text(f"# our domains\na.example, B.example  c.example\n!not.example inline:{{d.example=x}}\n{file}\n")
    (tmp_path / "main.cf").touch()
    values = {"relay_domains": str(file)}
    examined = Examination(Instance(tmp_path, values, values, (), ()), Settings(), ())
    assert domains_in(examined, "relay_domains") == ["a.example", "b.example", "c.example", "d.example"]
    assert examined.unseen == [f"relay_domains: {file} names {file}, which is not followed"]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("/^bob@/\n  # friends\n\n  OK\n", "/^bob@/ OK"),
        ("if /@far/\n/^x/  REJECT\nendif\n/^y/ permit_mynetworks, reject", "/^y/ permit_mynetworks, reject"),
        ("/^x/ reject_unknown_sender_domain reject_unauth_destination\n", None),
        ("# /^x/ OK\n/^x/ REJECT you are\n  OK\n", None),
    ],
    ids=["on the next line", "in a condition", "that refuse", "in a comment and in a text"],
)
def test_row_of_patterns_that_permits_is_named(tmp_path: Path, text: str, row: str | None) -> None:
    """It ends the list before the check; a false alarm for each table would hide it."""
    (tmp_path / "access").write_text(text)
    assert permitting_row(f"regexp:{tmp_path}/access", "") == row


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("static:DUNNO", None),
        ("static:{permit_mynetworks, reject}", "permit_mynetworks, reject"),
        ("cidr:{{192.0.2.0/24 REJECT no}, {0.0.0.0/0 OK}}", "0.0.0.0/0 OK"),
        ("proxy:regexp:{{/^bob@/ REJECT}}", None),
        ("unionmap:{static:DUNNO,static:OK}", ""),
    ],
)
def test_row_of_a_table_in_a_list_itself_is_named(table: str, row: str | None) -> None:
    """What such a table has needs no file."""
    assert permitting_row(table, "") == row

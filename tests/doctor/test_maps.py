"""What Postfix's maps have and the tables have not, and where aliases lead around a restriction."""

from pathlib import Path
from typing import Any

import pytest

from policyd.doctor import tables
from policyd.doctor.aliases import Aliases
from policyd.doctor.maps import Listings
from policyd.doctor.postconf import Instance, find_program
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

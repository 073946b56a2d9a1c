"""Configurations and folders that are not as one thinks: what is put in is right, and comes out without a trace."""

import os
import subprocess
from pathlib import Path

import pytest

from policyd.doctor.postconf import read_instance
from policyd.errors import SetupError
from policyd.settings import load_settings
from policyd.setup import host as setup_host
from policyd.setup import obstacles
from policyd.setup.plan import Plan, make_plan
from policyd.setup.record import Record, begin, records
from policyd.setup.swap import change_postfix
from policyd.setup.wanted import with_lines
from tests.support.disks import fill_up, small_disk
from tests.support.required import as_root, give_up

from .conftest import MakeHost
from .hosts import Host

LIST = "smtpd_recipient_restrictions"
OTHERS = (  # postgrey and policyd-spf, of which neither runs at the moment
    "check_policy_service inet:127.0.0.1:10023, check_policy_service unix:private/policyd-spf"
)
SPAWNED = "policyd-spf unix - n n - 0 spawn user=nobody argv=/usr/bin/policyd-spf\n"


def planned(host: Host) -> Plan:
    """What a setup of *host* would do."""
    return make_plan(load_settings(host.settings), host.settings, host.postfix.config)


def put_in(host: Host) -> Record:
    """Do what the plan says for the settings and Postfix's files; nothing runs."""
    plan = planned(host)
    assert plan.obstacles == ()
    record = begin(host.settings, host.postfix.config, is_default=False)
    record.replace(host.settings, with_lines(host.settings.read_text(), plan.wanted.added).encode())
    list(change_postfix(plan, record))
    return record


def main_cf(host: Host) -> Path:
    """The file that main.cf is a link to."""
    return (host.postfix.config / "main.cf").resolve()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            f"{LIST} = permit_mynetworks,\r\n  reject_unauth_destination, {OTHERS}\r\n", marks=pytest.mark.full
        ),
        pytest.param(
            f"{LIST} =\n\tpermit_mynetworks,\n# why\n\t# why else\n\treject_unauth_destination\t{OTHERS}",
            marks=pytest.mark.full,
        ),
        pytest.param(f"{LIST} = reject\n{LIST} = $mine, {OTHERS}\nmine = permit_mynetworks\n", marks=pytest.mark.full),
    ],
    ids=["Windows line ends", "comments, tabs and no end of line", "given twice, with a parameter of its own"],
)
def test_check_is_put_in_front_of_a_list_however_it_is_written(make_host: MakeHost, text: str) -> None:
    """What stands there goes on as it was, other policy services that do not run just now included."""
    host = make_host("default")
    with main_cf(host).open("a", newline="") as file:
        file.write(text)
    with (host.postfix.config / "master.cf").open("a") as file:
        file.write(SPAWNED)
    before = host.state()
    record = put_in(host)
    now = read_instance(host.postfix.config).values[LIST]
    assert now.startswith("check_policy_service { unix:policyd/policyd.sock, ")
    assert now.count("policyd/policyd.sock") == 1
    assert now.endswith(f"permit_mynetworks, {'reject_unauth_destination, ' if 'unauth' in text else ''}{OTHERS}")
    assert all(line in main_cf(host).read_text() for line in text.splitlines() if line.lstrip().startswith("#"))
    assert planned(host).commands == ()
    record.restore(record.paths())
    assert host.state() == before


def test_what_would_be_spoilt_is_left_to_a_person(make_host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hard link would be cut, and a policy service that is down taken for ours and thrown out of its list."""
    host = make_host("default")
    os.link(main_cf(host), main_cf(host).with_name("other.cf"))
    with main_cf(host).open("a") as file:
        file.write(f"{LIST} = check_policy_service inet:127.0.0.1:10040, reject_unauth_destination\n")
    (host.folder / "planted").mkdir()
    os.chown(host.folder / "planted", 65534, 65534)
    monkeypatch.setattr(obstacles, "_IMAGES", {host.folder / "planted": "nobody's image"})
    told = planned(host).obstacles
    assert [why for why in told if "hard link" in why]
    assert [why for why in told if "asks inet:127.0.0.1:10040" in why]
    assert not [why for why in told if "image" in why], "anybody can make a folder in /tmp"


@pytest.mark.full
def test_file_that_cannot_be_written_is_as_it_was_and_nothing_is_left_beside_it(make_host: MakeHost) -> None:
    """As with chattr +i, by which some keep Postfix's files from their control panel."""
    host = make_host("default")
    before = main_cf(host).read_bytes()
    if subprocess.run(["chattr", "+i", main_cf(host)]).returncode != 0:
        give_up("POSTFIX", "there is no file here that can't be changed: chattr +i")
    try:
        with pytest.raises(SetupError, match=r"main\.cf: Operation not permitted; Postfix has its old files again"):
            put_in(host)
    finally:
        subprocess.run(["chattr", "-i", main_cf(host)], check=True)
    assert [each.name for each in main_cf(host).parent.iterdir()] == ["main.cf"]
    assert main_cf(host).read_bytes() == before


@as_root
def test_full_disk_leaves_every_file_as_it_was(tmp_path: Path) -> None:
    """And no half file beside it, which would be in the way of whoever makes room."""
    with small_disk(tmp_path / "disk", 8) as disk:
        target = disk / "main.cf"
        target.write_bytes(b"old\n")
        record = begin(tmp_path / "policyd.toml", disk, is_default=False)
        fill_up(disk)
        with pytest.raises(OSError, match=r"No space left on device: '.*main\.cf'"):
            record.replace(target, bytes(5000))
        assert sorted(each.name for each in disk.iterdir()) == ["ballast", "main.cf"]
        assert target.read_bytes() == b"old\n"
        with pytest.raises(OSError, match="No space left"):
            begin(disk / "policyd.toml", disk, is_default=False)
        assert records(disk / "policyd.toml") == []


@pytest.mark.full
def test_edit_by_hand_is_not_lost_and_is_no_trap(make_host: MakeHost) -> None:
    """Once policyd is no longer asked, the rest can be taken back."""
    host = make_host("debian12")
    record = put_in(host)
    old = (record.folder / "1-main.cf").read_text()
    with main_cf(host).open("a") as file:
        file.write("# my own\n")
    edited = host.state()
    told = host.setup("--undo", status=1)
    assert "main.cf: changed since the setup, and so nothing was put back; take check_policy_service" in told
    assert host.state() == edited
    main_cf(host).write_text(f"{old}# my own\n")
    told = host.setup("--undo")
    assert "main.cf: changed since, and left so" in told
    assert "master.cf: as it was" in told
    assert main_cf(host).read_text() == f"{old}# my own\n"
    assert "no setup to take back" in host.setup("--undo", status=1)


@pytest.mark.full
def test_settings_that_are_wrong_do_not_keep_anybody_from_the_way_out(make_host: MakeHost) -> None:
    """Somebody who has broken the settings wants nothing more than --undo."""
    host = make_host("default")
    before = main_cf(host).read_bytes()
    put_in(host)
    host.settings.write_text("[[[")
    host.setup("--undo")
    assert main_cf(host).read_bytes() == before


def test_ways_to_end_a_setup_say_that_there_is_none(make_host: MakeHost) -> None:
    """Typed first, they must not look as if that had been all."""
    host = make_host("plain")
    before = host.state()
    assert "there is no setup whose refusals are only logged" in host.setup("--enforce", status=1)
    assert "there is no setup to take back" in host.setup("--undo", status=1)
    assert host.state() == before


@as_root
def test_folder_that_is_swapped_while_it_is_made_is_not_given_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a folder of the daemon's user, that could put a link to /etc there, to own it."""
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    make = Path.mkdir

    def swap(folder: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        make(folder, mode, parents, exist_ok)
        if folder.name == "new":
            folder.rmdir()
            folder.symlink_to(victim)

    monkeypatch.setattr(Path, "mkdir", swap)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        setup_host._make(tmp_path / "new", "nobody", "", 0o750)
    assert (victim.stat().st_uid, victim.stat().st_mode & 0o777) == (0, 0o755)

"""A bare Debian with systemd, and a Postfix that works on it, which is what the guide begins with."""

import os
import shlex
import subprocess
from pathlib import Path

from tests.support.machine import Machine, missing_for_a_machine

CHECKOUT = Path(__file__).resolve().parents[2]
THERE = "/usr/local/src/policyd"  # where the checkout is on that machine
RELEASES = {"12": "bookworm", "13": "trixie"}
_CERTIFICATES = Path("/usr/local/share/ca-certificates")  # this machine's own
_INCLUDED = "systemd,systemd-sysv,dbus,iproute2,procps,ca-certificates"
# What a mail host has, and what a stranger sends with: typed with this machine's network.
_POSTFIX = """
set -e
PATH=$PATH:/usr/sbin:/sbin
export DEBIAN_FRONTEND=noninteractive
update-ca-certificates
debconf-set-selections <<end
postfix postfix/main_mailer_type select Internet Site
postfix postfix/mailname string example.com
end
apt-get update
apt-get install --yes --no-install-recommends postfix swaks curl
"""
_PEOPLE = """
set -e
PATH=$PATH:/usr/sbin:/sbin
useradd --create-home --shell /bin/bash alice
useradd --create-home --shell /bin/bash bob
systemctl restart postfix
"""


def missing_for_debian() -> str:
    """Why no Debian can be made here, or ""."""
    return missing_for_a_machine("debootstrap", "apt-get")


def mirror() -> str:
    """Where Debian's packages come from: ``POLICYD_DEBIAN_MIRROR``, or where this machine's own do."""
    if named := os.environ.get("POLICYD_DEBIAN_MIRROR"):
        return named
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages", "Origin: Debian"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[0]


def bootstrap(release: str, folder: Path) -> Path:
    """The root folder of Debian *release* below *folder*, made where it is not there yet."""
    system = folder / RELEASES[release]
    if not system.exists():
        draft = folder / f"{RELEASES[release]}.draft"
        words = ["debootstrap", "--variant=minbase", f"--include={_INCLUDED}", RELEASES[release], str(draft), mirror()]
        with (folder / f"{release}.log").open("w") as log:
            subprocess.run(words, check=True, stdout=log, stderr=log)
        draft.rename(system)
    return system


def debian_machine(system: Path, place: Path, *files: Path) -> Machine:
    """A machine that runs *system*, with Postfix, the users Alice and Bob, and the checkout with *files* in it."""
    machine = Machine(place, system, _preparation(files))
    try:
        online = machine.command("bash", "-c", _POSTFIX, is_online=True)
        subprocess.run(online, check=True, capture_output=True, env={**machine.environment})
        machine.run("bash", "-c", _PEOPLE)
    except BaseException:
        machine.stop()
        raise
    return machine


def _preparation(files: tuple[Path, ...]) -> str:
    """The lines that bring the checkout there, and what downloads there need: this machine's names and certificates."""
    there = f"root{THERE}"
    here = shlex.quote(str(CHECKOUT))
    lines = [
        f"mkdir -p {there} root{_CERTIFICATES}",
        f"git -C {here} ls-files -z | tar --directory {here} --create --null --files-from=- |",
        f"tar --directory {there} --extract --no-same-owner",
        *(f"cp {shlex.quote(str(each))} {there}/" for each in files),
        "cp /etc/resolv.conf root/etc/resolv.conf",
    ]
    if _CERTIFICATES.is_dir():
        lines.append(f"cp -R {_CERTIFICATES}/. root{_CERTIFICATES}/")
    return "\n".join(lines)

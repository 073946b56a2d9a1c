"""Takes the built package through its life on Debian 12 and 13: `./test --distributions [--debian 12]`.

It is installed beside that system's Postfix, refuses a mail, is upgraded under load, goes from Debian 12 to 13, is
removed and purged. The transcripts say what came of each command, how long it took, and what is left. It needs root,
debootstrap, the network, and dist/policyd_*.deb, as tools/package makes it; it takes some minutes for each Debian.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tests.distributions.packages import later
from tests.journey.debian import RELEASES, THERE, bootstrap, debian_machine, mirror, missing_for_debian
from tests.support.machine import HERE, STRANGER, Machine

ROOT = Path(__file__).resolve().parents[2]
_LOAD = Path(__file__).with_name("load.py").read_text(encoding="utf-8")
_SLOW_SECONDS = 12  # longer than the timeout that Postfix has for policyd
_BOB = "bob@example.com"
_APT = "DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet=2 --option Dpkg::Options::=--force-confold"
_LEFT = "find / -xdev -iname '*policyd*' -not -path '/proc/*' -not -path '/usr/local/src/*' | sort"


class Trial:
    """A machine with a Debian, on which commands are typed that a transcript keeps."""

    def __init__(self, machine: Machine, transcript: TextIO) -> None:
        self._machine = machine
        self._transcript = transcript

    def say(self, text: str) -> None:
        """Write a line that is no command."""
        self._transcript.write(f"\n{text}\n")
        self._transcript.flush()

    def type(self, line: str, *, status: int = 0, is_online: bool = False) -> str:
        """What root sees who types *line*, which must end with *status*."""
        begun = time.monotonic()
        command = self._machine.command("bash", "-c", f"PATH=$PATH:/usr/sbin:/sbin\n{line}", is_online=is_online)
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**self._machine.environment},
        )
        took = time.monotonic() - begun
        self._transcript.write(f"# {line}\n{done.stdout}[status {done.returncode}, {took:.1f} s]\n")
        self._transcript.flush()
        assert done.returncode == status, f"{line}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def must_refuse(self) -> None:
        """See that a stranger's mail to Bob is refused by policyd."""
        answer = self._machine.answer(_BOB)
        self.say(f"a stranger who writes to {_BOB} is told: {answer}")
        assert "554 5.7.1" in answer, answer

    @contextmanager
    def load(self) -> Iterator[dict[str, dict[str, float]]]:
        """Have strangers write to Bob meanwhile; what they were told is in the dictionary, afterwards."""
        told: dict[str, dict[str, float]] = {}
        command = self._machine.command("/usr/bin/python3", "-c", _LOAD, HERE, STRANGER, _BOB)
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**self._machine.environment}
        ) as strangers:
            yield told
            output, _ = strangers.communicate()
            told.update(json.loads(output))
        self.say(f"meanwhile, strangers who wrote to {_BOB} were told: {json.dumps(told)}")


def live(trial: Trial, release: str, versions: list[Path]) -> None:
    """Take the package through its life. Raises AssertionError where something is not as it must be."""
    first, same_tables, other_tables, slow_tables = (f"{THERE}/{each.name}" for each in versions)
    install(trial, first)

    # Under load, the restart loses no answer; nor does an upgrade of the tables that is done before Postfix gives up.
    with trial.load() as told:
        trial.type(f"{_APT} install {same_tables}")
    assert told["replies"].keys() == {"554"}, told
    for package in (other_tables, slow_tables):
        with trial.load() as told:
            trial.type(f"{_APT} install {package}")
        assert told["replies"].keys() <= {"554", "451"}, told
        trial.type("ls -l /var/lib/policyd; policyd database check")
    trial.must_refuse()

    if release == "12":
        upgrade_debian(trial)
    leave(trial, is_asked_still=release == "12")


def install(trial: Trial, package: str) -> None:
    """Install the package, and have it refuse a mail."""
    before = trial.type("postconf -n; postconf -P; md5sum /etc/postfix/*.cf")
    trial.type(f"{_APT} install {package}", is_online=True)
    assert trial.type("postconf -n; postconf -P; md5sum /etc/postfix/*.cf") == before
    trial.type("du --summarize --human-readable /usr/lib/policyd; dpkg-query --show policyd")
    trial.type("systemctl is-active policyd.socket policyd.service")
    trial.type("systemctl is-enabled policyd.socket policyd.service")
    trial.type("systemctl is-enabled policyd-http.socket policyd-doctor.timer", status=1)
    trial.type("ls -ld /var/lib/policyd /var/lib/policyd/* /var/spool/postfix/policyd /var/spool/postfix/policyd/*")
    trial.type("policyd --version; policyd check --daemon --recipient postmaster")
    libraries = "import sys; sys.path.insert(0, '/usr/lib/policyd'); import psycopg, sqlalchemy, markupsafe._speedups"
    trial.type(f'/usr/bin/python3 -BIS -c "{libraries}; print(psycopg.pq.__impl__, sys.version)"')
    trial.type("policyd setup --apply --yes && policyd setup --enforce")
    trial.type('policyd mailbox restrict bob --reason "internal mailbox"')
    trial.must_refuse()


def upgrade_debian(trial: Trial) -> None:
    """Make a Debian 13 of the Debian 12, with the package on it."""
    trial.type("sed --in-place s/bookworm/trixie/ /etc/apt/sources.list && apt-get update -qq", is_online=True)
    trial.type(f"{_APT} full-upgrade >/var/log/full-upgrade 2>&1", is_online=True)
    trial.type(f"{_APT} autoremove >/var/log/autoremove 2>&1", is_online=True)
    trial.type("cat /etc/debian_version; python3 --version; policyd --version")
    compiled = trial.type(r"find /usr/lib/policyd -name '*.pyc' | grep -o 'cpython-[0-9]*' | sort | uniq -c")
    assert "cpython-313" in compiled, compiled
    assert "cpython-311" not in compiled, compiled
    trial.type("systemctl restart policyd.service && systemctl is-active policyd.socket policyd.service")
    trial.type("policyd database check")
    trial.must_refuse()


def leave(trial: Trial, *, is_asked_still: bool) -> None:
    """Remove and purge the package, while Postfix still asks or after it was told not to."""
    if not is_asked_still:
        trial.type("policyd setup --undo --yes")
    told = trial.type(f"{_APT} remove policyd")
    assert ("still asks policyd" in told) is is_asked_still, told
    trial.type(_LEFT)
    trial.type(f"{_APT} purge policyd")
    left = trial.type(_LEFT)
    assert not left, left
    trial.type("getent passwd policyd; grep -c policyd /etc/postfix/main.cf; true")


def main() -> None:
    """Try each Debian, and leave a transcript of each."""
    parser = argparse.ArgumentParser(prog="./test --distributions", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--debian", action="append", choices=[*RELEASES], help="which; both unless you say")
    parser.add_argument("--systems", type=Path, help="a folder in which bare systems are kept for the next time")
    parser.add_argument("--into", type=Path, default=ROOT / "var/distributions", help="where the transcripts go")
    arguments = parser.parse_args()
    packages = sorted((ROOT / "dist").glob("policyd_*_amd64.deb"))
    if reason := missing_for_debian():
        sys.exit(f"{parser.prog}: {reason}")
    if len(packages) != 1:
        sys.exit(f"{parser.prog}: there must be one package in dist/: make it with tools/package")
    arguments.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="policyd-distributions-") as folder:
        package = Path(folder, packages[0].name)
        package.write_bytes(packages[0].read_bytes())
        versions = [package]
        for number, upgrades in enumerate([(), (0,), (0, _SLOW_SECONDS)], start=1):
            versions.append(later(package, f"99.{number}", *upgrades))
        for release in arguments.debian or RELEASES:
            system = bootstrap(release, arguments.systems or Path(folder))
            place = Path(folder, f"debian-{release}")
            place.mkdir()
            _try(release, system, place, versions, arguments.into / f"debian-{release}.txt")


def _try(release: str, system: Path, place: Path, versions: list[Path], file: Path) -> None:
    machine = debian_machine(system, place, *versions)
    try:
        with file.open("w", encoding="utf-8") as transcript:
            trial = Trial(machine, transcript)
            trial.say(f"{versions[0].name} ({versions[0].stat().st_size} bytes) on Debian {release}, from {mirror()}")
            live(trial, release, versions)
    finally:
        machine.stop()
    sys.stdout.write(f"{file}: installed, upgraded and purged\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

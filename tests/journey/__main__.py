"""Walks from a bare Debian to the first refused mail and back: `python -m tests.journey [--debian 12] [--keep FOLDER]`.

What it types stands in the documents; the transcript says what came of it. It needs root, debootstrap and the network.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.journey.debian import RELEASES, THERE, bootstrap, debian_machine, missing_for_debian
from tests.journey.routes import ROUTES
from tests.journey.transcript import Journey
from tests.support.machine import HERE, STRANGER

_HEAD = """policyd {name}, on Debian {release}
{line}

A minimal Debian with systemd as its first process, in namespaces; Postfix as Debian configures an "Internet Site" for
example.com; the users alice and bob; swaks and curl. Its address is {here}, that of the machine outside is
{stranger}; its loopback interface has both. Everything is typed in {there}, where the checkout is.
Downloads, which are shortened here, go over the network of the machine that this ran on.
"""


def main() -> None:
    """Walk each route on each release, and leave a transcript of each."""
    parser = argparse.ArgumentParser(prog="python -m tests.journey", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--debian", action="append", choices=[*RELEASES], help="which; both unless you say")
    parser.add_argument("--route", action="append", choices=[*ROUTES], help="which; all unless you say")
    parser.add_argument(
        "--deb", type=Path, help="Debian's package; without it, only the ways from a checkout are walked"
    )
    parser.add_argument("--systems", type=Path, help="a folder in which bare systems are kept for the next time")
    parser.add_argument("--into", type=Path, default=Path("var/journey"), help="where the transcripts go")
    arguments = parser.parse_args()
    if reason := missing_for_debian():
        sys.exit(f"{parser.prog}: {reason}")
    arguments.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="policyd-journey-") as folder:
        systems = arguments.systems or Path(folder)
        for release in arguments.debian or RELEASES:
            system = bootstrap(release, systems)
            for name in arguments.route or [name for name in ROUTES if name != "package" or arguments.deb]:
                _walk(name, release, system, Path(folder, f"{release}-{name}"), arguments.into, arguments.deb)


def _walk(name: str, release: str, system: Path, place: Path, into: Path, package: Path | None) -> None:
    """Walk one route, and say where its transcript is. Raises AssertionError where it leads astray."""
    place.mkdir()
    route, file = ROUTES[name], into / f"debian-{release}-{name}.txt"
    machine = debian_machine(system, place, *([package.absolute()] if package else []))
    try:
        with file.open("w", encoding="utf-8") as transcript:
            title = _HEAD.format(
                name=route.name,
                release=release,
                line="=" * len(f"policyd {route.name}, on Debian {release}"),
                here=HERE,
                stranger=STRANGER,
                there=THERE,
            )
            transcript.write(title)
            Journey(machine, transcript).follow(route)
    finally:
        machine.stop()
    sys.stdout.write(f"{file}: from nothing to the first refused mail, and back\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

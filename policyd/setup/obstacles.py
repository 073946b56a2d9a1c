"""Why a setup leaves Postfix's files to a person: what it does not understand, and what it would spoil."""

import os
from collections.abc import Iterator
from pathlib import Path

from policyd.doctor.diagnosis import Diagnosis
from policyd.doctor.endpoints import is_spawned
from policyd.doctor.examination import Examination
from policyd.doctor.placement import meant_for_us
from policyd.setup import systemd
from policyd.setup.record import FILES

# Findings of doctor's that a person must understand first.
FOREIGN = frozenset(
    {
        "check-conditional",
        "class-undeclared",
        "undefined-parameter",
        "value-cut",
        "too-old",
        "reinjection-open",
        "smtpd-dead",
    }
)
# Where an image writes main.cf anew at each start, and the file that it takes a person's lines from.
_IMAGES = {
    Path("/tmp/docker-mailserver"): "docker-mailserver: postfix-main.cf and postfix-master.cf in its config folder",
    Path("/opt/postfix/conf"): "mailcow: data/conf/postfix/extra.cf",
    Path("/overrides/postfix.cf"): "Mailu: overrides/postfix/postfix.cf",
}


def why_left_alone(examined: Examination, found: list[Diagnosis]) -> Iterator[str]:
    """Why the files of the Postfix that is *examined*, about which doctor *found* something, are left to a person."""
    yield from _of_files(examined)
    yield from _of_services(examined)
    for each in found:
        if each.code in FOREIGN:
            yield f"{each.code}: {each.sentence} See: policyd doctor"
    if systemd.has_systemd() and (why := systemd.why_hidden()):
        yield why


def _of_files(examined: Examination) -> Iterator[str]:
    """Others write them, too."""
    if examined.instance.others:
        yield "this Postfix starts other instances; see what policyd doctor says of each"
    for marker, where in _IMAGES.items():
        if _is_of_an_image(marker):
            yield f"this image writes main.cf anew at each start; put the lines where it takes yours from, {where}"
    for file in map(examined.instance.folder.joinpath, FILES):
        if os.geteuid() == 0 and not os.access(file.resolve().parent, os.W_OK):
            yield f"{file.resolve().parent}: nobody can write there, not even root"
        if file.is_file() and file.stat().st_nlink > 1:
            yield f"{file} has another name by a hard link, which would keep the old content: make it a file of its own"


def _of_services(examined: Examination) -> Iterator[str]:
    """Nobody asks, or others are asked."""
    instance = examined.instance
    if not instance.smtpd:
        yield "master.cf has no smtpd: no mail comes in by SMTP"
    if any(is_spawned(each.asked.endpoint, instance) for service in instance.smtpd for each in examined.asks(service)):
        yield "spawn(8) starts policyd here; that stays as it is"
    others = {each.asked.endpoint for service in instance.smtpd for each in meant_for_us(examined, service)}
    for endpoint in sorted(others):
        yield f"Postfix asks {endpoint}, and there is no policyd of these settings: start what is there, or take it out"


def _is_of_an_image(marker: Path) -> bool:
    """Whether *marker* is there, and not made by just anybody, as can be done in /tmp."""
    try:
        return marker.lstat().st_uid == 0 or marker.is_mount()
    except OSError:
        return False

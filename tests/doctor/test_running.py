"""What doctor finds at a Postfix that runs, beyond what its files say."""

import os
import time
from typing import Any

import pytest

from .running import Run, RunningSite
from .sites import codes

TO_A_FILE = {"syslog": "stderr"}  # which the tests keep


def examined(site: RunningSite) -> tuple[dict[str, Any], list[str]]:
    """What doctor finds, and what it says of the proof, with services by their name."""
    found = site.doctor("--log", str(site.folder / "policyd.output"))
    doors = {f"127.0.0.1:{port}/inet": door for door, port in site.port.items()}
    proof = [line.replace(place, door) for line in found["proof"] for place, door in doors.items() if place in line]
    return found, proof


@pytest.mark.postfix
@pytest.mark.full
def test_a_good_configuration_is_proven_with_a_mail(run: Run) -> None:
    """That policyd was asked is read in its log, and not concluded from files."""
    site = run("good-mx-guide", audit=TO_A_FILE)
    found, proof = examined(site)
    assert codes(found) == set(), found
    assert proof[0].startswith("proven at smtp: policyd was asked about ")
    assert proof[0].endswith(", and refused it")

    # Nothing behind a login can be tried without a password.
    doors = ("submission", "submissions")
    told = [f"not proven at {door}: it takes no recipient without a login" for door in doors]
    assert [line.partition(" (")[0] for line in proof[1:]] == told

    # What is changed and not read again is told.
    later = time.time() + 60
    os.utime(site.config / "main.cf", (later, later))
    assert codes(examined(site)[0]) == {"not-reloaded"}


@pytest.mark.postfix
@pytest.mark.full
def test_a_mail_that_nobody_is_asked_about_shows(run: Run) -> None:
    """The files say so, too; the mail finds it whatever they say."""
    site = run("check-after-permits", audit=TO_A_FILE)
    found, _ = examined(site)
    assert "not-asked" in codes(found)


@pytest.mark.full
@pytest.mark.postfix
def test_a_port_that_hangs_is_told(run: Run) -> None:
    """It takes the connection, so that monitoring finds it well; smtpd has ended before it said a word."""
    site = run("good-mx-guide", audit=TO_A_FILE)
    with (site.config / "master.cf").open("a") as file:
        file.write(
            f"127.0.0.1:{site.port['10025']} inet n - n - - smtpd -o smtpd_relay_restrictions= "
            "-o smtpd_recipient_restrictions=permit\n"
        )
    site.restart()
    found, _ = examined(site)
    assert {"smtpd-dead", "check-overridden"} <= codes(found)

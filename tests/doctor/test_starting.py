"""What ends smtpd at its start is told from its parameters alone, as Postfix's own program decides it."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.doctor.postconf import read_instance
from policyd.doctor.starting import why_dead
from tests.postfix.instance import missing_for_postfix
from tests.support.places import OPEN_PLACE
from tests.support.required import give_up

MAIN_CF = """
compatibility_level = 3.6
queue_directory = {folder}
data_directory = {folder}
mail_owner = postfix
myhostname = mx.example.com
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
smtpd_restriction_classes = round, here, there, guarded, opened
round = reject_unlisted_recipient, round
here = permit_mynetworks, there
there = here
guarded = permit_mynetworks, reject_unauth_destination
opened = permit, reject
"""
RELAY, RECIPIENT = "smtpd_relay_restrictions", "smtpd_recipient_restrictions"
ASK = "check_policy_service"
# Parameters of a smtpd, and whether it starts with them.
STARTS = [
    {},
    {RELAY: "permit_mynetworks, Reject_Unauth_Destination"},
    {RELAY: "", RECIPIENT: f"{ASK} unix:policyd/policyd.sock, guarded, permit"},
    {RELAY: "check_recipient_access hash:/nowhere, defer_if_permit"},
    {RECIPIENT: f"{ASK} {{ unix:x, timeout=5s, {{ default_action = 451 4.3.5 away }}, policy_context=inbound }}"},
    {RECIPIENT: f"{ASK} {{ unix:x timeout=5s max_ttl=1000 retry_delay=1s request_limit=0 try_limit=3 }}"},
    {RECIPIENT: f"{ASK} {{unix:x,{{timeout = 5second}}}}"},
    {"smtpd_delay_reject": "NO", "soft_bounce": "Yes"},
    {"smtpd_timeout": "5minutes", "message_size_limit": "0", "smtpd_error_sleep_time": "0"},
]
DIES = [
    {"message_size_limit": "50MB"},
    {"smtpd_timeout": "5 minutes"},
    {"smtpd_client_connection_rate_limit": "10/minute"},
    {RELAY: "permit_mynetworks, permit", RECIPIENT: "permit_mynetworks"},
    {RELAY: "permit, reject_unauth_destination"},
    {RELAY: "warn_if_reject reject_unauth_destination"},
    {RELAY: "opened"},
    {RELAY: "", RECIPIENT: f"{ASK} unix:policyd/policyd.sock, permit"},
    {RECIPIENT: "round, reject"},
    {RELAY: "", RECIPIENT: "permit_mynetworks, here"},
    {RECIPIENT: f"{ASK} {{ unix:x, timeot=5s }}"},
    {RECIPIENT: f"{ASK} {{ unix:x, timeout=5x }}"},
    {RECIPIENT: f"{ASK} {{ unix:x, timeout=0 }}"},
    {RECIPIENT: f"{ASK} {{ unix:x, try_limit=0 }}"},
    {RECIPIENT: f"{ASK} {{ unix:x, request_limit=many }}"},
    {RECIPIENT: f"{ASK} {{ unix:x, default_action=451 away }}"},
    {RECIPIENT: f"{ASK} {{ unix:x, {{ default_action = }} }}"},
    {RECIPIENT: f"{ASK} {{ unix:x, policy_context= }}"},
    {"smtpd_data_restrictions": f"{ASK} {{ unix:x }}y"},
    {"smtpd_client_restrictions": f"{ASK} {{ }}"},
    {"smtpd_delay_reject": "true"},
    {"smtpd_sasl_auth_enable": "1"},
    {"smtpd_relay_before_recipient_restrictions": ""},
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder of a Postfix that is not started."""
    if reason := missing_for_postfix():
        give_up("POSTFIX", reason)
    with tempfile.TemporaryDirectory(prefix="policyd-", dir=OPEN_PLACE) as name:
        for each in ("pid", "public", "private", "maildrop"):
            (Path(name) / each).mkdir()
        (Path(name) / "main.cf").write_text(MAIN_CF.format(folder=name))
        (Path(name) / "said").write_bytes(b"QUIT\r\n")
        yield Path(name)


def begin(folder: Path, options: list[str], program: str) -> "subprocess.Popen[bytes]":
    """Postfix's smtpd, as a program and no service, with somebody who leaves when he is greeted."""
    with (folder / "said").open("rb") as said:
        return subprocess.Popen(
            [program, "-S", *options],
            stdin=said,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MAIL_CONFIG": str(folder)},
        )


def is_greeted(smtpd: "subprocess.Popen[bytes]") -> bool:
    """Whether it said a word."""
    with smtpd:
        assert smtpd.stdout is not None
        return smtpd.stdout.read().startswith(b"220 ")


@pytest.mark.postfix
def test_a_smtpd_that_does_not_start_is_known_without_a_start(folder: Path) -> None:
    """The port takes the connection, and nobody answers: neither `postfix check` nor postconf says why."""
    cases = [*STARTS, *DIES]
    lines = (
        f"{number} inet n - n - - smtpd" + "".join(f"\n  -o {{ {name} = {value} }}" for name, value in each.items())
        for number, each in enumerate(cases, 1)
    )
    (folder / "master.cf").write_text("".join(f"{line}\n" for line in lines))
    instance = read_instance(folder)
    program = f"{instance.values['daemon_directory']}/smtpd"

    # One that ends with an error waits a second first: so all are begun before the first is waited for.
    begun = [
        begin(folder, [word for name, value in each.items() for word in ("-o", f"{name}={value}")], program)
        for each in cases
    ]
    wrong = [
        (parameters, is_up, why_dead(service))
        for parameters, service, is_up in zip(cases, instance.smtpd, map(is_greeted, begun), strict=True)
        if is_up != (parameters in STARTS) or is_up != (why_dead(service) == "")
    ]
    assert not wrong

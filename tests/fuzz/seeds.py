"""Inputs to start from: the dialogues, what once was found, and some that reach far corners."""

from pathlib import Path

from policyd.model import Request
from tests.daemon.test_dialogues import DIALOGUES
from tests.support.fake_smtpd import request

FOUND = Path(__file__).with_name("found")  # inputs on which the target once failed, each by a name that says why
WHOLE, PIECES = b"\x00\x00", b"\x00\x03\x01\x05\x28"  # a head for one piece, and one for many
SHORT = 4096

_FAR = {
    "the limit": b"request=smtpd_access_policy\nsender=\x01\n\n",
    "just below the limit": b"request=smtpd_access_policy\nsender=" + b"y" * 160 + b"\x01\n\n",
    "no end": b"request=smtpd_access_policy\n\x01" + b"y" * 300,
    "encapsulated": request(recipient="IMCEAEX-_O=ORG_OU=SITE_CN=RECIPIENTS_CN=alice@example.com"),
    "encapsulated address": request(recipient="IMCEASMTP-carol+40example+2Ecom@example.com", sender=""),
    "extension": request(recipient="carol+tag@example.com", sender="p+q@b.example"),
    "quoted": request(recipient='"a, action=DUNNO"@example.com', client_name='x", login="root'),
    "blocked": request(recipient="x@elsewhere.example", sender="a=b=c@example.com", sasl_username="alice"),
    "restricted": request(recipient="carol@EXAMPLE.com", sender="j\udcf6e\u202e@b\u00fccher.example"),
    "a status of the peer's": request(recipient="x@a.example", sender="4.7.1 x@b.example", sasl_username="alice"),
    "null sender": request(recipient="dave@example.com", sender=""),
    "not judged": request(protocol_state="VRFY"),
    "insider": request(recipient="carol@example.com", client_address="2001:db8::1", policy_context="submission"),
    "long": request(**dict.fromkeys(("recipient", "sender", "sasl_username", "queue_id", "client_name"), "é, " * 200)),
}


def seeds() -> dict[str, bytes]:
    """Every seed by its name."""
    streams = {name: b"".join(turn.segment for turn in turns) for name, turns in DIALOGUES.items()} | _FAR
    found = {path.name: path.read_bytes() for path in sorted(FOUND.glob("*"))}
    short = {name: stream for name, stream in streams.items() if len(stream) <= SHORT}
    return {
        **{f"{name}, whole": WHOLE + stream for name, stream in streams.items()},
        **{f"{name}, in pieces": PIECES + stream for name, stream in short.items()},
        **{f"{name}, settings {n}": bytes([n, 0]) + stream for name, stream in _FAR.items() for n in (1, 2, 3)},
        "the database fails": b"\x08\x00" + _FAR["restricted"] * 3,
        **found,
    }


def words() -> list[bytes]:
    """What a fuzzer should not have to find out byte by byte."""
    names = [f"{name}=".encode() for name in Request._fields]
    people = [f"{name}@example.com".encode() for name in ("alice", "bob", "carol", "dave", "erin")]
    others = [
        b"p@b.example",
        b"x@bad.example",
        b"IMCEASMTP-",
        b"IMCEAEX-_CN=",
        b"+40",
        b"RCPT",
        b"VRFY",
        b"2001:db8::1",
    ]
    hostile = [b'", action="DUNNO', b"\xe2\x80\xae", b"\xff", b"\\x0a", b"{reason}", b"%s"]
    return [b"request=smtpd_access_policy\n", b"\n\n", *names, *people, *others, *hostile]

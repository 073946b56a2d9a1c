"""What Postfix takes for one address, policyd takes for one, too: nobody gets past by spelling."""

import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyd.address import domain_for_postfix, fold
from policyd.decide import Decider
from policyd.model import Request
from policyd.settings import Settings
from policyd.store.connection import Database
from policyd.store.lookup import Lookup
from tests.support.drills import drill
from tests.support.randomised import a_seed
from tests.support.required import give_up
from tests.support.waiting import LIMIT_SECONDS

from .daemon import Daemon
from .instance import Postfix, find_program
from .replies import ACCEPTED
from .smtp import Session

pytestmark = pytest.mark.postfix

RESTRICTED = "This mailbox does not take mail from this sender"
BLOCKED = "This sender may not write to this recipient"
CHUNK = 64  # code points that postmap folds at once
OURS = "strasse.example, ♥.example, σίσυφος.example, kim.example, office.example"
CLOSED = ("example.com", "xn--g6h.example", "strasse.example", "σίσυφοσ.example", "kim.example", "office.example")
LOCAL = ("example.com", "mx.example.com", "localhost", "[127.0.0.1]")  # domains that the host takes for itself
PIECES = [  # of addresses; the delimiters of RFC 5322, of routes and of extensions
    *("bob", "bob", "BOB+x", "+x", "kim", "%", "%", "!", "!", "@", "@", '"', "\\", " ", "\t", ".", "..", "(x)", "("),
    *(")", ":", ";", ",", "<", ">", "[", "]", "'", "ſ", "127.0.0.1", "2001:db8::7", "gmail.example"),
    *("!", "!", '"', '"', "\\", "(", ")", "<"),
    *("kim.example", "strasse.example", "straße.example", "EXAMPLE.com.", "[127.000.0.1]", "[IPv6:2001:DB8:0::7]"),
    *LOCAL,
]
FINAL, DEFAULT, FAILED = 0x700, 0x1000, 0x4  # flags of trivial-rewrite: delivered here, relayed, no address
LITERALS = ("[127.0.0.1]", "[IPv6:2001:db8::7]")
BOB = [
    pytest.param("bob@straße.example", id="sharp s"),
    pytest.param("bob@STRAẞE.EXAMPLE", id="a capital sharp s"),
    pytest.param("bob@ſtraſſe.example", id="long s"),
    pytest.param("bob@σίσυφος.example", id="a final sigma"),
    pytest.param("bob@ΣΊΣΥΦΟΣ.example", id="capital sigmas"),
    pytest.param("bob@\u212aim.example", id="the Kelvin sign"),
    pytest.param("bob@♥.example", id="a sign that IDNA forbids"),
    pytest.param("bob@oﬃce.example", id="a ligature"),
    pytest.param(r"bob@exam\\ple.com", id="a backslash"),
    pytest.param(r"bob@example\ .com", id="a blank"),
    pytest.param(r"bob@\"example.com\"", id="quotes"),
    pytest.param(r"bob@\"stra\\ße\".example\\", id="all of it"),
    pytest.param("bob@[127.0.0.1]", id="a literal"),
    pytest.param("bob@[127.0.0.1].", id="a literal with a dot"),
    pytest.param("bob@[127.000.000.001]", id="a literal with zeros"),
    pytest.param("bob@[0177.0.0.01]", id="a literal in octal"),
    pytest.param(r"bob@[127.0.0.\\1]", id="a literal with a backslash"),
    pytest.param("bob%example.com@[127.0.0.1]", id="a percent sign"),
    pytest.param("bob%example.com", id="a percent sign and no domain"),
    pytest.param("bob+x%kim.example%localhost@example.com", id="two percent signs"),
    pytest.param("kim.example!bob", id="a bang"),
    pytest.param("localhost!example.com!bob@mx.example.com", id="two bangs"),
    pytest.param("localhost!bob%straße.example", id="a bang and a percent sign"),
    pytest.param('"bob@kim.example"@example.com', id="an address in quotes"),
    pytest.param("bob@kim.example@mx.example.com", id="two domains"),
    pytest.param("bob@kim.example@", id="a domain and nothing"),
    pytest.param(r'"kim.example!\"bob\""@example.com', id="a bang before quotes"),
    pytest.param('"%:bob"@example.com', id="a source route in quotes"),
    pytest.param("bob@[IPv6:2001:DB8:0::0007]", id="an IPv6 literal with zeros"),
    pytest.param("bob@[ipv6:2001:0db8:0:0:0:0:0:7].", id="an IPv6 literal written out"),
]
BYTES = [
    pytest.param(b"bob+\xff@example.com", id="no UTF-8 in the extension"),
    pytest.param(b"bob+\xc3\xa9\xc3@example.com", id="half a letter at its end"),
    pytest.param(b"bob+\xed\xa0\x80@Example.com", id="a surrogate"),
    pytest.param(b"bob+" + b"x" * 1990 + b"@example.com", id="as long as a line"),
]


@drill(
    "all of Unicode in local parts and domains",
    made="each code point, folded by a real postmap(1)",
    client="what Postfix takes for one is one",
)
@pytest.mark.full
def test_every_code_point_folds_as_postmap_folds_it(tmp_path: Path) -> None:
    """In local parts and in domains, whatever Postfix's maps take for one is one for policyd: all of Unicode."""
    if not find_program("postmap"):
        give_up("POSTFIX", "not installed: postfix (Debian: apt-get install postfix)")
    points = [chr(point) for point in range(0x80, sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF]
    chunks = [points[first : first + CHUNK] for first in range(0, len(points), CHUNK)]
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nsmtputf8_enable = yes\n")
    (tmp_path / "map").write_text("".join(f"{at},{','.join(chunk)} x\n" for at, chunk in enumerate(chunks)), "utf-8")
    # `-s` prints the keys as Postfix compares them.
    words = [find_program("postmap"), "-c", str(tmp_path), "-s", f"texthash:{tmp_path / 'map'}"]
    listed = subprocess.run(words, capture_output=True, check=True, timeout=LIMIT_SECONDS).stdout.decode()
    folded: dict[str, str] = {}
    for line in listed.split("\n")[:-1]:
        at, *forms = line.rpartition("\t")[0].split(",")
        folded.update(zip(chunks[int(at)], forms, strict=True))
    assert len(folded) == len(points)
    changed = {point: form for point, form in folded.items() if form != point}
    assert len(changed) > 1400
    assert {point for point, form in changed.items() if fold(f"k{point}m") != fold(f"k{form}m")} == set()
    domains = {point: (f"a{point}b.example", f"a{form}b.example") for point, form in changed.items()}
    assert {point for point, pair in domains.items() if len(set(map(domain_for_postfix, pair))) > 1} == set()


@pytest.fixture(scope="module")
def policyd(folder: Path) -> Iterator[Daemon]:
    """bob is closed to all in every domain that Postfix delivers for; kim is open. Recipients of nobody pass."""
    place = folder / "same"
    place.mkdir()
    place.chmod(0o755)
    daemon = Daemon(
        place,
        place / "policyd.sock",
        {"user": "root", "listen": [f"unix:{place / 'policyd.sock'}:mode=666"], "origin": "example.com"},
    )
    for domain in (*CLOSED, *LITERALS):
        daemon.command("domain", "add", domain, "--unlisted", "accept")
    daemon.command("mailbox", "add", "bob", *(f"bob@{domain}" for domain in (*CLOSED, *LITERALS)))
    for domain in LOCAL[1:3]:
        daemon.command("domain", "add", domain, "--unlisted", "accept")
    daemon.command("mailbox", "restrict", "bob", "--receive", "nobody")
    daemon.command("mailbox", "add", "kim", "kim@example.com")
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def same(policyd: Daemon) -> Iterator[Postfix]:
    """A Postfix with the door `asks`, where policyd is asked, and `open`, where it is not."""
    with postfix_in(policyd, "same") as made:
        yield made


@pytest.fixture(scope="module")
def ascii_only(policyd: Daemon) -> Iterator[Postfix]:
    """Such a Postfix with `smtputf8_enable = no`, which takes any bytes in a local part."""
    with postfix_in(policyd, "ascii", "smtputf8_enable = no") as made:
        yield made


@contextmanager
def postfix_in(policyd: Daemon, name: str, *parameters: str) -> Iterator[Postfix]:
    """A Postfix that delivers for each domain of ours."""
    place = policyd.folder / name
    place.mkdir()
    made = Postfix(place, ("asks", "open"))
    made.write_main(
        f"virtual_mailbox_domains = {OURS}",
        "virtual_transport = discard:",
        "proxy_interfaces = 2001:db8::7",
        "smtpd_relay_restrictions =",
        "smtpd_recipient_restrictions = reject_unauth_destination",
        *parameters,
    )
    asks = f"smtpd_recipient_restrictions = check_policy_service unix:{policyd.endpoint}, reject_unauth_destination"
    made.write_master(made.service("asks", "n", asks), made.service("open", "n"))
    made.start()
    try:
        yield made
    finally:
        made.stop()


def reply(
    postfix: Postfix,
    recipient: bytes,
    sender: bytes = b"carol@outside.example",
    *,
    door: str = "asks",
    options: str = "",
) -> str:
    """The reply to a RCPT of *recipient*, in any bytes."""
    with Session(postfix.port[door]) as session:
        session.pretend("192.0.2.7", "mx.outside.example")
        assert session.command_bytes(b"MAIL FROM:<" + sender + b">" + options.encode())[:3] == "250"
        return session.command_bytes(b"RCPT TO:<" + recipient + b">")


@drill(
    "a domain that Postfix takes for another: full case folding, a second parsing, octal numbers in literals",
    made=(
        r"``RCPT TO:<bob@straße.example>``, ``ẞ``, ``ς``, ``♥``, ``exam\\ple.com``, ``[0177.0.0.01].`` and more, at "
        "a real Postfix that delivers each to bob"
    ),
    client="bob's restriction",
    log="the decision",
)
@pytest.mark.parametrize("recipient", BOB)
def test_what_postfix_delivers_to_bob_is_refused_as_mail_to_bob(same: Postfix, recipient: str) -> None:
    """Postfix takes mail for each of these spellings: left to itself it would be delivered."""
    assert reply(same, recipient.encode(), door="open", options=" SMTPUTF8") == ACCEPTED
    assert RESTRICTED in reply(same, recipient.encode(), options=" SMTPUTF8")


@drill(
    "bytes that are not UTF-8 in the extension, or an extension as long as a line",
    made=r"``RCPT TO:<bob+\xff@example.com>`` at a real Postfix with ``smtputf8_enable = no``",
    client="the answer for bob; of an open mailbox, no false 5.1.1",
    log="the decision",
)
@pytest.mark.parametrize("recipient", BYTES)
def test_no_bytes_in_an_extension_open_a_mailbox(ascii_only: Postfix, policyd: Daemon, recipient: bytes) -> None:
    """And none close one: kim, who is open, gets what comes with the same extension."""
    assert RESTRICTED in reply(ascii_only, recipient)
    assert reply(ascii_only, recipient.replace(b"bob", b"kim")) == ACCEPTED
    policyd.command("domain", "set", "example.com", "--unlisted", "reject")
    assert "5.1.1 " in reply(ascii_only, recipient.replace(b"bob", b"\xffkim"))
    policyd.command("domain", "set", "example.com", "--unlisted", "accept")


@drill(
    "a blocked sender in a domain that Postfix takes for another, or with bytes that are not UTF-8 in the extension",
    made=r"``MAIL FROM:<eve@straße.example>``, ``eve+\xff@`` and more, at a real Postfix",
    client="the refusal",
    log="the decision",
)
def test_blocked_sender_cannot_hide_behind_bytes_or_letters(
    same: Postfix, ascii_only: Postfix, policyd: Daemon
) -> None:
    """Who is blocked is blocked with each extension, and in each spelling of the domain that Postfix takes for one."""
    policyd.command("sender", "block", "eve@strasse.example", "--to", "anyone")
    for sender in (
        "eve@straße.example",
        "eve+x@STRAẞE.example",
        r"eve@\"strasse\".example",
        "eve@strasse.example.",
        "eve%strasse.example",
        "strasse.example!eve@kim.example",
    ):
        assert BLOCKED in reply(same, b"kim@example.com", sender.encode(), options=" SMTPUTF8"), sender
    assert BLOCKED in reply(ascii_only, b"kim@example.com", b"eve+\xff@strasse.example")
    assert reply(same, b"kim@example.com", b"adam@strasse.example") == ACCEPTED


class Rewriter:
    """Postfix's trivial-rewrite, asked as its other daemons ask it."""

    def __init__(self, postfix: Postfix) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(postfix.queue / "private" / "rewrite"))
        self._stream = self._socket.makefile("rb")
        self._read()  # it says who it is

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()

    def resolve(self, address: str) -> tuple[str, int]:
        """The address that mail to *address*, in internal form, would be delivered to, and the flags about it."""
        self._socket.sendall(b"request\0resolve\0sender\0\0address\0" + address.encode() + b"\0\0")
        _, _, _, recipient, flags = self._read()
        return recipient, int(flags)

    def _read(self) -> list[str]:
        """The values of one answer, which are NUL-terminated as their names are; an empty name ends it."""
        values = []
        while self._word():
            values.append(self._word())
        return values

    def _word(self) -> str:
        word = b""
        while (byte := self._stream.read(1)) != b"\0":
            assert byte, "trivial-rewrite hung up"
            word += byte
        return word.decode("utf-8", "replace")


@drill(
    "addresses put together at random of names, domains, delimiters and routes such as "
    "``bob%example.com@mx.example.com``",
    made="each is resolved by a real trivial-rewrite(8) and by policyd",
    client=(
        "bob's restriction wherever Postfix would deliver to bob; who is blocked to ``outside`` is refused wherever "
        "it relays"
    ),
    log="the decision",
)
def test_whatever_trivial_rewrite_takes_for_bob_is_bob_and_what_leaves_is_outside(
    same: Postfix, policyd: Daemon
) -> None:
    """Addresses put together at random, as Postfix resolves them and as policyd does."""
    chance = random.Random(a_seed())
    policyd.command("address", "add", "bob", *(f"bob@{domain}" for domain in LOCAL[1:3]))
    policyd.command("sender", "block", "mallory@example.com", "--to", "outside")
    lookup = Lookup(Database.at(policyd.folder / "policyd.db"))
    decider = Decider(Settings(origin="example.com", recipient_delimiter="+"), lookup)
    rewriter = Rewriter(same)
    past, bobs, outsiders = [], 0, 0
    try:
        for _ in range(4000):
            text = "".join(chance.choices(PIECES, k=chance.randint(1, 8)))
            text += chance.choice(("", *(f"@{domain}" for domain in (*LOCAL, "kim.example"))))
            recipient, flags = rewriter.resolve(text)
            local, _, domain = recipient.rpartition("@")
            request = Request(protocol_state="RCPT", recipient=text, sasl_username="mallory@example.com")
            decision = decider.decide(request, 1)
            if flags & FAILED:
                continue
            if flags & FINAL and local.partition("+")[0].lower() == "bob":
                bobs += 1
                past += [] if decision.mailbox == "bob" else [(text, recipient)]
            elif flags & DEFAULT and domain.lower() not in LOCAL:
                outsiders += 1
                past += [] if decision.is_refused else [(text, recipient)]
    finally:
        decider.end()
        rewriter.close()
        lookup.close()
        for domain in LOCAL[1:3]:
            policyd.command("address", "remove", f"bob@{domain}")
    assert past == []
    assert min(bobs, outsiders) > 50

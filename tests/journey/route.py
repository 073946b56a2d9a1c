"""The way from a bare Debian to the first refused mail and back: which commands of the documents, and what must come.

Nothing that is typed stands here whole: a step says where its command stands in the documents, and how it begins.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from tests.docs.pages import commands, parse, section
from tests.support.machine import STRANGER

REFUSED = "554 5.7.1 <bob@example.com>: Recipient address rejected"
_GUIDE = "docs/guide.rst"
_README = "README.rst"
_REPLY = r"RCPT TO|^<(..  ?2.0 2\.1\.5|\*\*)"
_SWAKS_REFUSED = 24


class Step(NamedTuple):
    """A command of the documents: where it stands, how it begins, and what must come of it."""

    document: str
    section: str
    command: str
    shows: tuple[str, ...] = ()  # what must be printed
    status: int = 0
    prompt: str = "#"  # "$" is somebody's on another machine
    answers: tuple[tuple[str, str], ...] = ()  # what is shown that asks, and what is typed then
    is_online: bool = False
    keeps: str = ""  # the lines of the output that the transcript keeps; "" is all of them
    also: str = ""  # what is typed behind it
    instead: Callable[[str, str], str] | None = None  # what is typed, from the command and the output before it
    because: str = ""  # why it is not typed as it stands

    def line(self) -> str:
        """The command as it stands in the documents: the one that is just this, or else the only one that begins so."""
        typed = {line for line, _ in commands(section(parse(self.document), self.section), self.prompt)}
        found = {self.command} & typed or {line for line in typed if line.startswith(self.command)}
        assert len(found) == 1, f"{self.document}, {self.section}: {self.command}: {found or 'no such command'}"
        return found.pop()


class Look(NamedTuple):
    """Something that is tried beside the documents, and why."""

    why: str
    command: str
    shows: tuple[str, ...] = ()
    status: int = 0
    keeps: str = ""
    is_online: bool = False


class Chapter(NamedTuple):
    """Steps that belong together."""

    title: str
    steps: tuple[Step | Look, ...]


class Route(NamedTuple):
    """A way of installing, to the first refused mail and back.

    What differs on the disk after *given* and after the last chapter is what is left, and must be of *left* only.
    """

    name: str
    given: Chapter
    chapters: tuple[Chapter, ...]
    left: tuple[str, ...]


def _mail(shown: str, status: int) -> Step:
    """Carol's mail to Bob."""
    return Step(
        _GUIDE,
        "7. Restrict",
        "swaks",
        (shown,),
        status,
        prompt="$",
        keeps=_REPLY,
        also=f"--local-interface {STRANGER}",
    )


def _guide(title: str, command: str, *shows: str, status: int = 0, **more: object) -> Step:
    return Step(_GUIDE, title, command, shows, status, **more)  # type: ignore[arg-type]


def _undo_of(_line: str, history: str) -> str:
    """The command that takes back the last change in *history*."""
    found = re.match(r"\d+\s+(\d+)", history)
    assert found, history
    return f"policyd undo {found[1]}"


_BROWSER = (
    "curl --silent --unix-socket /run/policyd-http/http.sock --data about=bob@example.com"
    " --data other=carol@example.net http://localhost/ | sed 's/<[^>]*>//g' | grep ."
)
_SLIPS = Chapter(
    "Typed wrong",
    (
        Look("the last command first", "policyd setup --enforce", ("begin with: policyd setup",), 1),
        Look("dashes forgotten", "policyd setup apply", ("type: --apply",), 2),
        Look("the noun forgotten", "policyd restrict bob", ("type: policyd mailbox restrict",), 2),
        Look("the reason asked before there is anything", "policyd why NOQUEUE", ("no line of policyd",), 1),
    ),
)
_SET_UP = Chapter(
    "Set up, and watch",
    (
        _guide("The short way", "policyd setup", "to do it: policyd setup --apply"),
        _guide(
            "The short way", "policyd setup --apply", "postfix reload", "to take it back", answers=(("[y/N]", "y\n"),)
        ),
        _guide("The short way", "policyd doctor", "warning mode-monitor", "0 errors, 1 warning", status=1),
        _guide("The short way", "policyd mailbox restrict bob", "receive inherit -> insiders"),
        _mail("250 2.1.5 Ok", 0),
    ),
)
_REFUSED = Chapter(
    "The first refused mail",
    (_guide("The short way", "policyd setup --enforce", 'mode = "enforce"'), _mail(REFUSED, _SWAKS_REFUSED)),
)
_IN_THE_LOG = (
    _guide("Find the reason", "journalctl --identifier policyd --grep action=REJECT --lines 1", "mailbox=bob"),
    _guide(
        "Find the reason",
        "journalctl --identifier policyd --grep action=REJECT --lines 1 |",
        "rule restricted-recipient: mailbox bob received from insiders",
        "by root: mailbox bob: receive inherit -> insiders",
    ),
    Step(_README, "What it looks like", "policyd check", ("rule: restricted-recipient",), 1),
)
_ON_THE_PAGE = (
    _guide("Find the reason", "install -m 644 contrib/systemd/policyd-http.socket"),
    _guide("Find the reason", "systemctl daemon-reload"),
    _guide("Find the reason", "systemctl enable policyd-http.socket", "Created symlink"),
    _guide("Find the reason", "systemctl stop"),
    _guide("Find the reason", "systemctl start"),
    _mail(REFUSED, _SWAKS_REFUSED),
    _guide(
        "Find the reason",
        "ssh",
        "REJECT: bob takes mail from insiders only: internal mailbox; set by root",
        "policyd mailbox accept bob carol@example.net",
        prompt="$",
        keeps="^(REJECT|Mail from|The sender reads|What would|policyd m|  ?rule|mailbox|recipient|20)",
        instead=lambda _line, _before: _BROWSER,
        because="there is no browser: curl fills in the page's form, and sed takes the tags away",
    ),
    _guide(
        "Find the reason",
        "curl",
        'action="REJECT"',
        keeps=r'^policyd_decisions_total.*action="REJECT".* [1-9]',
    ),
)
_TAKEN_BACK = Chapter(
    "The change taken back",
    (
        Step(_README, "What it looks like", "policyd history", ("mailbox.restrict",)),
        Step(
            _README,
            "What it looks like",
            "policyd undo",
            ("receive insiders -> inherit",),
            instead=_undo_of,
            because="the number is the one that history has just shown",
        ),
        _mail("250 2.1.5 Ok", 0),
    ),
)
_WITHOUT_POLICYD = (
    _guide("Remove it", "policyd setup --undo", "/etc/postfix/main.cf: as it was", "postfix reload"),
    _mail("250 2.1.5 Ok", 0),
    Look("nobody asks any more", "postconf -n | grep policyd", (), 1),
)

CHECKOUT = Route(
    "from a checkout",
    Chapter(
        "What Debian has",
        (_guide("1. Install", "apt-get install", answers=(("[Y/n]", "y\n"),), is_online=True),),
    ),
    (
        Chapter(
            "Install",
            (
                _guide("1. Install", "/usr/bin/python3 -m venv"),
                _guide("1. Install", "/opt/policyd/bin/pip", "Successfully installed", is_online=True),
                _guide("1. Install", "ln -s"),
            ),
        ),
        _SLIPS,
        _SET_UP,
        _REFUSED,
        Chapter(
            "The reason: in the log, by check and why, on the page, in the metrics",
            (*_IN_THE_LOG, _guide("Find the reason", "/opt/policyd/bin/pip", is_online=True), *_ON_THE_PAGE),
        ),
        _TAKEN_BACK,
        Chapter(
            "Back to nothing",
            (
                _guide("Remove it", "systemctl disable --now policyd-http.socket"),
                _guide("Remove it", "rm /etc/systemd/system/policyd-http.socket"),
                *_WITHOUT_POLICYD,
                _guide("Remove it", "policyd database backup"),
                _guide("Remove it", "rm -r /etc/policyd"),
                _guide("Remove it", "userdel"),
                _guide("Remove it", "rm -r /usr/local/bin/policyd"),
            ),
        ),
    ),
    left=("/var/backups/policyd.db",),
)
ROUTES = {"checkout": CHECKOUT}

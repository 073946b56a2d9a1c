"""The ways from a bare Debian to the first refused mail and back: commands of the documents, and what must come."""

import re

from tests.journey.steps import Chapter, Edit, Look, Route, Step
from tests.support.machine import HERE, STRANGER

_REFUSAL = "554 5.7.1 <bob@example.com>: Recipient address rejected"
_GUIDE = "docs/guide.rst"
_README = "README.rst"
_REPLY = r"RCPT TO|^<(..  ?2.0 2\.1\.5|\*\*)"
_SWAKS_REFUSED = 24


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


def _doctor(*shows: str) -> Step:
    """What may be wrong: the guide's insider_networks are not Debian's mynetworks."""
    return Step("docs/troubleshooting.rst", "My rule has no effect", "policyd doctor", ("networks-differ", *shows), 1)


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
    (_guide("The short way", "policyd setup --enforce", 'mode = "enforce"'), _mail(_REFUSAL, _SWAKS_REFUSED)),
)
_REASON = "The reason: in the log, by check and why, on the page, in the metrics"
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
_FOR_THE_PAGE = (
    _guide("Find the reason", "/opt/policyd/bin/pip", is_online=True),
    _guide("Find the reason", "install -m 644 contrib/systemd/policyd-http.socket"),
    _guide("Find the reason", "systemctl daemon-reload"),
)
_ON_THE_PAGE = (
    _guide("Find the reason", "systemctl enable policyd-http.socket", "Created symlink"),
    _guide("Find the reason", "systemctl stop"),
    _guide("Find the reason", "systemctl start"),
    _mail(_REFUSAL, _SWAKS_REFUSED),
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

_PYTHON = Chapter(
    "What Debian has", (_guide("1. Install", "apt-get install python3", answers=(("[Y/n]", "y\n"),), is_online=True),)
)
_INSTALLED = Chapter(
    "Install",
    (
        _guide("1. Install", "/usr/bin/python3 -m venv"),
        _guide("1. Install", "/opt/policyd/bin/pip", "Successfully installed", is_online=True),
        _guide("1. Install", "ln -s"),
    ),
)
_KEPT_COPY = _guide("Remove it", "policyd database backup", "checked")
_REMOVED = (
    _KEPT_COPY,
    _guide("Remove it", "rm -r /etc/policyd"),
    _guide("Remove it", "userdel"),
    _guide("Remove it", "rm -r /usr/local/bin/policyd"),
)
_KEPT = ("/var/backups/policyd.db",)

_FROM_A_CHECKOUT = Route(
    "from a checkout, the short way",
    _PYTHON,
    (
        _INSTALLED,
        _SLIPS,
        _SET_UP,
        _REFUSED,
        Chapter(
            _REASON,
            (*_IN_THE_LOG, *_FOR_THE_PAGE, *_ON_THE_PAGE),
        ),
        _TAKEN_BACK,
        Chapter(
            "Back to nothing",
            (
                _guide("Remove it", "systemctl disable --now policyd-http.socket"),
                _guide("Remove it", "rm /etc/systemd/system/policyd-http.socket"),
                *_WITHOUT_POLICYD,
                *_REMOVED,
            ),
        ),
    ),
    _KEPT,
)

_SERVICE = "Running it as a service"
_MAIN_CF = Edit(_GUIDE, "6. Connect", "allow_percent_hack", "/etc/postfix/main.cf")
_BY_HAND = Route(
    "from a checkout, by hand",
    _PYTHON,
    (
        _INSTALLED,
        Chapter(
            "User, folders, settings, tables",
            (
                _guide("2. Make a user", "useradd"),
                *(
                    _guide("2. Make a user", f"install -d -{each}")
                    for each in ("m", "o policyd -g pol", "o policyd -g pos")
                ),
                Edit(_GUIDE, "3. Write", "database =", "/etc/policyd/policyd.toml"),
                _guide("4. Add", "policyd domain add example.com"),
                _guide("4. Add", "policyd mailbox add alice", "alice@example.com: added"),
                _guide("4. Add", "policyd mailbox add bob", "bob@example.com: added"),
                _guide("4. Add", "policyd domain set example.com", "unlisted accept -> reject"),
                _guide("4. Add", "postconf -h", "mx.example.com"),
                *(_guide("4. Add", f"policyd domain add {each}") for each in ("mx.example.com", "localhost", "'[127")),
                _guide(
                    "4. Add",
                    "policyd domain add '[192",
                    instead=lambda _line, _before: f"policyd domain add '[{HERE}]'",
                    because="that is the address of this host",
                ),
            ),
        ),
        Chapter(
            "The daemon, and Postfix",
            (
                *(
                    Step("docs/operations.rst", _SERVICE, f"install -m 644 contrib/systemd/policyd.{each}")
                    for each in ("socket", "service")
                ),
                Step("docs/operations.rst", _SERVICE, "systemctl daemon-reload"),
                Step("docs/operations.rst", _SERVICE, "systemctl enable --now"),
                Step("docs/operations.rst", _SERVICE, "policyd check --daemon", ("DUNNO",)),
                _MAIN_CF,
                _guide("6. Connect", "postfix reload"),
                _doctor("error domain-unmanaged", "2 errors, 1 warning"),
                _guide(
                    "4. Add",
                    "policyd domain add mx.example.com",
                    instead=lambda _line, doctor: " && ".join(re.findall(r"# (policyd domain add .+)", doctor)),
                    because="doctor has named other domains of this host",
                ),
                _doctor("0 errors, 1 warning"),
            ),
        ),
        Chapter(
            "The first refused mail",
            (
                _mail("250 2.1.5 Ok", 0),
                _guide("7. Restrict", "policyd mailbox restrict bob", "receive inherit -> insiders"),
                _guide("7. Restrict", "policyd sender block alice", "left the company"),
                _guide("7. Restrict", "policyd check --login alice", "rule: blocked-sender", status=1),
                _mail(_REFUSAL, _SWAKS_REFUSED),
                *_IN_THE_LOG,
            ),
        ),
        Chapter(
            "Back to nothing",
            (
                _MAIN_CF._replace(is_taken_out=True),
                _guide("Remove it", "postfix reload"),
                _mail("250 2.1.5 Ok", 0),
                _guide("Remove it", "systemctl disable --now policyd.socket"),
                _guide("Remove it", "rm /etc/systemd/system/policyd.socket"),
                _guide("Remove it", "systemctl daemon-reload"),
                *_REMOVED,
            ),
        ),
    ),
    _KEPT,
)
_FROM_THE_PACKAGE = Route(
    "from Debian's package",
    Chapter(
        "What Debian has",
        (Look("what the package depends on stays", "apt-get install --yes python3", is_online=True),),
    ),
    (
        Chapter(
            "Install",
            (
                _guide(
                    "1. Install",
                    "apt-get install ./",
                    "to see what that takes, run: policyd setup",
                    is_online=True,
                ),
            ),
        ),
        _SET_UP,
        _REFUSED,
        Chapter(_REASON, (*_IN_THE_LOG, *_ON_THE_PAGE)),
        _TAKEN_BACK,
        Chapter(
            "Back to nothing",
            (
                _guide("Remove it", "systemctl disable --now policyd-http.socket"),
                *_WITHOUT_POLICYD,
                _KEPT_COPY,
                _guide("Remove it", "apt-get purge", answers=(("[Y/n]", "y\n"),), is_online=True),
            ),
        ),
    ),
    (*_KEPT, *(f"/var/lib/dpkg/{each}" for each in ("status", "status-old", "triggers/File"))),
    keeps_user=True,
)
ROUTES = {"short": _FROM_A_CHECKOUT, "by-hand": _BY_HAND, "package": _FROM_THE_PACKAGE}

"""What the doctor may find: every code, how bad it is, and what it means for mail; and one finding of one of them.

The page docs/troubleshooting.rst has its paragraphs on the codes from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple


class Severity(StrEnum):
    """How bad it is; the first two end `policyd doctor` with 1."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Code(NamedTuple):
    """How bad what a code stands for is, in most cases, and what it means for mail, in whole sentences."""

    severity: Severity
    effect: str


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

CODES: Mapping[str, Code] = MappingProxyType(
    {
        # Where Postfix asks.
        "check-missing": Code(_E, "Everything passes there: no list of that service asks policyd."),
        "check-overridden": Code(
            _E,
            "Everything that is sent there passes: a list of its own in master.cf replaces the one of main.cf, which "
            "asks policyd.",
        ),
        "check-after-permit": Code(
            _E,
            "Mail that matches the permit passes unasked. Mail from outside is judged all the same, so that people "
            "believe that it works.",
        ),
        "check-after-access": Code(
            _W, "Where that table or service answers OK, the list ends there, and the mail passes unasked."
        ),
        "check-after-reject": Code(_E, "The check is never reached: Postfix has refused everything before it."),
        "check-wrong-stage": Code(
            _E,
            "Postfix knows no recipient there, or only one that is alone: mail to two recipients passes, whoever they "
            "are.",
        ),
        "check-before-relay": Code(
            _W,
            "Strangers' attempts to relay are asked about before Postfix refuses them. The answers tell who has a "
            "mailbox, and the log is full of them.",
        ),
        "check-conditional": Code(_E, "Only mail for which a table names that class is judged; all else passes."),
        "check-warn-only": Code(
            _E, "Postfix logs the refusal (reject_warning) and takes the mail. The log of policyd says REJECT."
        ),
        "class-undeclared": Code(
            _E,
            "Postfix does not understand that word of a list, or what stands behind it, and puts off all mail with 451 "
            "where it comes to it.",
        ),
        "check-twice": Code(
            _W, "Each recipient is asked about twice: it costs time, and every number in logs and counters is doubled."
        ),
        "reinjection-open": Code(
            _E, "Whoever reaches that port, which is there for a content filter, gets past policyd."
        ),
        "reinjection-asks-again": Code(
            _W,
            "Mail that comes back from a content filter is judged once more, as mail of an insider: counted twice, and "
            "refused after it has been taken.",
        ),
        "context-open": Code(
            _E, "Everybody who comes to that port is an insider, and reaches each mailbox that takes insiders."
        ),
        # What postconf says.
        "undefined-parameter": Code(
            _E,
            "It counts as empty. Where it should be a restriction list, nothing is checked; and where both lists that "
            "keep strangers from relaying are empty, smtpd ends before it says a word.",
        ),
        "value-cut": Code(
            _E,
            "The value ends at the first blank, and smtpd takes what follows for arguments that it does not know: it "
            "ends at once, the port hangs, and master waits a minute before it tries again.",
        ),
        "parameter-set-twice": Code(_I, "The last value counts; the others have no effect."),
        "unused-parameter": Code(_W, "It has no effect: its name may be misspelled, or what named it is gone."),
        "smtpd-dead": Code(_E, "Nobody can send mail there: the port takes the connection, and nobody answers."),
        "not-reloaded": Code(_W, "What runs is not what was read: what is told here comes true with the reload."),
        "too-old": Code(_E, "Postfix 3.0 is the first with braces in a list, 3.1 the first with policy_context."),
        # The way to the daemon.
        "socket-outside-chroot": Code(_E, "Every mail is put off with 451: in the chroot there is no such path."),
        "socket-missing": Code(_E, "Postfix reaches nobody: every mail gets the default_action, mostly 451."),
        "socket-denied": Code(_E, "Postfix may not connect: every mail gets the default_action, mostly 451."),
        "port-closed": Code(_E, "Nobody listens there: every mail gets the default_action."),
        "socket-other": Code(
            _E, "Postfix asks somebody else than the daemon of these settings, or nobody: what is set here has no say."
        ),
        "not-policyd": Code(_E, "Who answers there is no policyd, and decides about the mail."),
        "daemon-mute": Code(_E, "The daemon hangs up without an answer: every mail gets the default_action."),
        "other-database": Code(
            _E, "The daemon decides by other tables or settings than these: what commands change here has no effect."
        ),
        "default-action-permits": Code(
            _W, "While policyd is away, everything passes, and only a warning in the log tells."
        ),
        "default-action-implicit": Code(_I, "While policyd is away, mail is put off with 451, as Postfix has it."),
        "default-action-rejects": Code(_E, "While policyd is away, good mail is refused for good."),
        "timeout-long": Code(_W, "While the daemon hangs, each recipient waits so long, and smtpd processes run out."),
        "try-limit-one": Code(
            _E, "Postfix gives up at the first trouble: at each restart of policyd mail gets the default_action."
        ),
        "idle-shorter": Code(
            _W, "Connections are closed that Postfix still means to use: it waits a second and asks again."
        ),
        # What both must know.
        "delimiter-differs": Code(
            _E,
            "An address with an extension is the mailbox's to the one and a stranger's to the other: it is refused, "
            "or gets past a restriction.",
        ),
        "networks-differ": Code(
            _W, "Hosts may relay and are strangers to policyd, or insiders to policyd and strangers to Postfix."
        ),
        "gateway-insider": Code(
            _W, "A gateway or proxy shows everybody's mail as its own: then everybody is an insider."
        ),
        "origin-differs": Code(_E, "Mail for a plain name without a domain is not judged as mail for its mailbox."),
        "domain-unmanaged": Code(
            _E, "Postfix delivers mail for it, and policyd has no opinion on it: every restriction is got round."
        ),
        "domain-not-postfix's": Code(
            _W, "Postfix refuses mail for it before policyd is asked: what is set for it has no effect."
        ),
        "percent-hack": Code(
            _E,
            'bob%example.com@HOST, example.com!bob@HOST and "bob@example.com"@HOST reach bob, and leave for other '
            "domains, past what is set for bob and for the sender.",
        ),
        "dot-mydomain": Code(
            _E, "Postfix completes a domain of one word: bob@sales reaches bob@sales.example.com unjudged."
        ),
        "mode-monitor": Code(_W, "Nothing is refused: what would be is only logged."),
        "soft-bounce": Code(_W, "A refusal is 4xx: senders try for days, and nobody hears of it."),
        # The tables.
        "alias-around": Code(_E, "Who writes to the alias gets past the restriction of the mailbox that it leads to."),
        "address-unlisted": Code(_E, "Mail that Postfix would deliver is refused."),
        "unlisted-empty": Code(_E, "All mail for the domain is refused: it takes listed addresses only, and has none."),
        "entry-expired": Code(_I, "Its end has passed: it is in force no more."),
        "always-accept-restricted": Code(
            _W, "Nobody is kept from writing to that mailbox at that address: always_accept goes first."
        ),
        "restricted-unknown-to-postfix": Code(
            _I,
            "Postfix has no such address, and refuses mail for it before or after policyd: the entry is for nothing.",
        ),
        # Last things.
        "not-asked": Code(_E, "Mail that was tried there was not asked about, whatever the configuration says."),
        "pickup-unchecked": Code(
            _I, "Mail by sendmail(1), Sieve redirects and replies, .forward and aliases of Postfix passes unasked."
        ),
        "syslog-gone": Code(_W, "Decisions are not logged: nobody can tell later why a mail was refused."),
    }
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that is wrong, or good to know.

    `about` names the place, `sentence` says what is wrong there. `commands` are lines to type in a shell, `settings`
    lines for the settings file, which is read again at a reload; `advice` is what nobody can type.
    """

    code: str
    about: str
    sentence: str
    commands: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    advice: str = ""
    severity: Severity | None = None

    @property
    def weight(self) -> Severity:
        """How bad it is."""
        return self.severity or CODES[self.code].severity

    @property
    def effect(self) -> str:
        """What passes or is refused because of it."""
        return CODES[self.code].effect

    def as_object(self) -> dict[str, Any]:
        """It by the names of `policyd doctor --json`."""
        return {
            "code": self.code,
            "severity": self.weight,
            "about": self.about,
            "finding": self.sentence,
            "effect": self.effect,
            "commands": [*self.commands],
            "settings": [*self.settings],
            "advice": self.advice or None,
        }

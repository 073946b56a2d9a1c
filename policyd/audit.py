"""The audit: one function for each event that is logged. No value from the network can forge a field or a line.

The fields are those of docs/audit.rst; `policyd.audit_lines` reads the lines back.
"""

import json
import re
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, assert_never

from policyd.changes import difference
from policyd.counters import NO_COUNTERS, Cell, Counters
from policyd.model import Action, Change, Decision, Request, Rule
from policyd.printable import code, printable
from policyd.settings import AuditSettings, Decisions, LineFormat
from policyd.syslog import (
    INFO,
    NOTICE,
    WARNING,
    NoSink,
    Reactor,
    Sink,
    StderrSink,
    SyslogQueue,
    SyslogSink,
    line_limit,
    open_sink,
)

_VALUE_LIMITS = (512, 128, 64, 24, 12, 4)  # characters of a value, the first with which the line fits; cut ends in …
_WHOLE = frozenset({"action", "would", "rule"})  # our own words are never cut
_ESCAPED = re.compile("[\\\\\ud800-\udfff]|…\\Z")
ATOM = r"[!#-+\--;=?-\[\]-~]*"  # ASCII but blanks, quotes, commas, backslashes and angle brackets
PLAIN = re.compile(f"{ATOM}|<{ATOM}>")
_PLAIN_BYTES = bytes(number for number in range(0x80) if re.fullmatch(ATOM, chr(number)))

# The fields of a decision, in their order; behind the action stands `would=` where a refusal was not spoken. Their
# values are in `_decision_values`, and for a line in one piece in `_asked` and `_own_pieces`.
OWN_NAMES = ("mailbox", "by")  # names from our own tables, the last fields
DECISION_FIELDS = (
    *("action", "rule", "entry", "state", "queue_id", "instance", "client", "sender", "recipient", "login", "context"),
    *("reason", "text", "ms", *OWN_NAMES),
)


class Stored(NamedTuple):
    """An object as the journal has it, in JSON; None where there is none."""

    json: str | None


Field = str | int | float | Stored | None


class Refusals(Protocol):
    """Keeps the last refusals: `policyd.refusals.PlaceRefusals`."""

    line_bytes: int  # of a line, at most

    def add(self, at: float, line: bytes) -> None:
        """Keep *line*, of a refusal *at* that time in Unix seconds."""


class Watched(NamedTuple):
    """What a process counts, and where it keeps its refusals: nothing and nowhere, where nobody would see that."""

    counters: Counters = NO_COUNTERS
    refusals: Refusals | None = None


UNWATCHED = Watched()


class AuditLog:
    """Writes lines to *sink*. Those that it doesn't take wait; when too many do, further ones are counted.

    *alarm* gets a warning where lines are missing. *echo* gets a second copy of the lines about the daemon itself, for
    somebody at the terminal, in words where stderr *is_terminal*. With Twisted's *reactor*, waiting lines are sent as
    soon as the sink takes them.
    Refusals, whether they are logged or not, and lines that are dropped are *watched*, too. `logs_permitted` says
    whether each decision is logged, or refusals at most.
    """

    def __init__(
        self,
        settings: AuditSettings,
        sink: Sink,
        alarm: Sink | None = None,
        echo: Sink | None = None,
        reactor: Reactor | None = None,
        *,
        is_terminal: bool = False,
        watched: Watched = UNWATCHED,
    ) -> None:
        self._settings = settings
        self._is_text = settings.format is LineFormat.TEXT
        self._logs_refusals, self.logs_permitted = _logged(settings.decisions)
        self._counters, self._refusals = watched
        self._is_terminal = is_terminal
        self._line_limit = line_limit(settings)
        self._sink = sink
        self._lines = SyslogQueue(sink, reactor, self._warn_of_stuck_syslog)
        self._alarm = alarm or NoSink()
        self._echo = echo or NoSink()
        self._dropped = 0
        self._keeps_up = True  # while syslog takes at last what it did not take at once

    def decided(self, request: Request, decision: Decision, milliseconds: float) -> None:
        """A request was answered."""
        is_refused = decision.is_refused
        is_logged = self._logs_refusals if is_refused else self.logs_permitted
        is_kept = is_refused and self._refusals is not None and not request.is_trial
        if not (is_logged or is_kept):
            return
        line = self._decision_line(request, decision, milliseconds)
        if is_kept and self._refusals is not None:
            kept = line.encode("utf-8", "backslashreplace")
            if len(kept) > self._refusals.line_bytes:
                fields = _decision_fields(request, decision, milliseconds)
                kept = self._line(fields, self._refusals.line_bytes).encode("utf-8", "backslashreplace")
            self._refusals.add(time.time(), kept)
        if is_logged:
            self._send(INFO, line)

    def changed(self, change: Change) -> None:
        """The tables were changed. For people it is said what changed; the journal, and a line of JSON, have all."""
        fields: dict[str, Field] = {
            "change": change.id,
            "actor": change.actor,
            "operation": change.operation,
            "object": change.object,
            "changeset": change.changeset,
        }
        if self._settings.format is LineFormat.JSON:
            fields |= {"before": Stored(change.before), "after": Stored(change.after)}
        self._write(NOTICE, {**fields, "changed": difference(change)})

    def noticed(self, event: str, details: Mapping[str, Field] = MappingProxyType({}), /, **fields: Field) -> None:
        """Something about the daemon itself that is as it should be: *event*, and facts about it.

        A terminal, where somebody wants to go on, is spared the *details*.
        """
        self._write_own(NOTICE, {"event": event, **fields, **details}, {"event": event, **fields})

    def warned(self, problem: str, **fields: Field) -> None:
        """Something that the administrator should look at."""
        self._write_own(WARNING, {"warning": problem, **fields}, {"warning": problem, **fields})

    def flush(self) -> bool:
        """Send the waiting lines that the sink takes now; return whether more wait. With a reactor nobody needs it."""
        return self._lines.flush()

    def keep_up(self) -> None:
        """Wait, a second at most, until syslog has taken the lines that wait; for a command, which logs many at once.

        A syslog that has not taken them then is not waited for again.
        """
        if self._keeps_up and self._lines.flush():
            self._lines.wait_until_empty()
            self._keeps_up = not self._lines.flush()

    def close(self) -> int:
        """Close the sink, up to a second later where lines wait; return how many are missing, and warn *alarm*."""
        self._lines.wait_until_empty()
        if self._dropped:
            self._report_dropped()
        self._dropped += self._lines.close()
        if self._dropped:
            self._alarm.send(WARNING, f"policyd: warning: syslog took no lines to the end, dropped={self._dropped}")
        return self._dropped

    def count_waiting(self) -> None:
        """Have it seen how many lines wait."""
        self._counters.set(Cell.LINES_WAITING, len(self._lines))

    def take_over(self, former: "AuditLog") -> None:
        """Close *former*, and go on with its lines that wait, and its count of those that were dropped."""
        self._lines.take_over(former._lines)
        self._dropped += former._dropped

    def _write_own(self, severity: int, fields: Mapping[str, Field], told: Mapping[str, Field]) -> None:
        """Log *fields*; where somebody sits at the terminal, what is *told* there is in words."""
        if self._is_terminal and isinstance(self._sink, StderrSink):
            self._send(severity, _in_words(told))
            return
        self._write(severity, fields)
        self._echo.send(severity, _in_words(told) if self._is_terminal else f"policyd: {self._line(fields)}")

    def _write(self, severity: int, fields: Mapping[str, Field]) -> None:
        self._send(severity, self._line(fields))

    def _send(self, severity: int, line: str) -> None:
        """Send *line*, or count it where there is no room; the count is the next line for which there is room."""
        if self._dropped and not self._report_dropped():
            self._drop()
        elif not self._lines.send(severity, line):
            self._alarm.send(WARNING, "policyd: warning: syslog takes no lines; they are dropped and counted")
            self._drop()

    def _drop(self) -> None:
        self._dropped += 1
        self._counters.add(Cell.LINES_DROPPED)

    def _report_dropped(self) -> bool:
        fields: dict[str, Field] = {"warning": "syslog took no lines for a while", "dropped": self._dropped}
        if not self._lines.send(WARNING, self._line(fields), stands_for=self._dropped):
            return False
        self._dropped = 0
        return True

    def _decision_line(self, request: Request, decision: Decision, milliseconds: float) -> str:
        # Most requests have nothing to escape: what is the peer's is made in one piece, and what is ours is kept.
        if self._is_text:
            asked = _asked(request)
            if asked.encode("utf-8", "backslashreplace").translate(None, _PLAIN_BYTES) == _AROUND_PLAIN:
                action, rule, text, reason, entry, mailbox, _, is_refused, by = decision
                before, between = _own_pieces(action, rule, entry, reason, text, is_refused)
                rounded = f"{milliseconds:.2f}".removesuffix("0")  # as round(milliseconds, 2), in a third of the time
                line = f"{before}{asked}{between}{rounded}, mailbox={_shown(mailbox)}, by={_shown(by)}"
                if len(line) <= _VALUE_LIMITS[0] and _is_short(line, self._line_limit):
                    return line
        return self._line(_decision_fields(request, decision, milliseconds))

    def _line(self, fields: Mapping[str, Field], most_bytes: int | None = None) -> str:
        """*fields* as a line that the sink takes, or of that many bytes at most."""
        most_bytes = most_bytes or self._line_limit
        match self._settings.format:
            case LineFormat.TEXT:
                render = _text_line
            case LineFormat.JSON:
                render = _json_line
            case _:
                assert_never(self._settings.format)
        line = ""
        for limit in _VALUE_LIMITS:
            line = render(fields, limit)
            if _is_short(line, most_bytes):
                break
        return line

    def _warn_of_stuck_syslog(self) -> None:
        """Warn on *alarm* that no line is taken, long before the first one is lost."""
        problem = self._sink.problem if isinstance(self._sink, SyslogSink) else ""
        where = f"{self._settings.syslog}{problem and f' ({problem})'}"
        self._alarm.send(WARNING, f"policyd: warning: syslog {where} takes no lines; they wait until it does")


def _logged(decisions: Decisions) -> tuple[bool, bool]:
    """Whether refusals are logged, and whether what is permitted is."""
    match decisions:
        case Decisions.ALL:
            return True, True
        case Decisions.REJECTS:
            return True, False
        case Decisions.NONE:
            return False, False
        case _:
            assert_never(decisions)


def _is_unspoken(action: Action, is_refused: bool) -> bool:
    """Whether it would be a refusal, were the mode another."""
    return is_refused and not action.is_refusal


def _decision_fields(request: Request, decision: Decision, milliseconds: float) -> dict[str, Field]:
    values = _decision_values(request, decision, milliseconds)
    fields: dict[str, Field] = dict(zip(DECISION_FIELDS, values, strict=True))
    if _is_unspoken(decision.action, decision.is_refused):
        fields = {"action": fields.pop("action"), "would": Action.REJECT, **fields}
    return fields


def _is_short(line: str, most_bytes: int) -> bool:
    return len(line) <= most_bytes and (line.isascii() or len(line.encode()) <= most_bytes)


def open_audit(settings: AuditSettings, reactor: Reactor | None = None, watched: Watched = UNWATCHED) -> AuditLog:
    """The daemon's audit; *reactor* is Twisted's, where there is one.

    Without a syslog, its own events go to stderr, and so they do where a person sits there.
    """
    sink = open_sink(settings)
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if isinstance(sink, StderrSink):
        return AuditLog(settings, sink, reactor=reactor, is_terminal=is_terminal, watched=watched)
    echo = StderrSink() if isinstance(sink, NoSink) or is_terminal else None
    return AuditLog(settings, sink, StderrSink(), echo, reactor, is_terminal=is_terminal, watched=watched)


def _decision_values(request: Request, decision: Decision, milliseconds: float) -> tuple[Field, ...]:
    """The values of `DECISION_FIELDS`, in their order."""
    return (
        decision.action,
        decision.rule,
        decision.entry,
        request.protocol_state,
        request.queue_id,
        request.instance,
        f"{request.client_name}[{request.client_address}]",
        f"<{request.sender}>",
        f"<{request.recipient}>",
        request.sasl_username,
        request.policy_context,
        decision.reason,
        decision.text,
        round(milliseconds, 2),
        decision.mailbox,
        decision.by,
    )


def _asked(request: Request) -> str:
    """Those fields of a decision that come from the peer, as they stand in a line of text if all values are plain."""
    return (
        f"state={request.protocol_state}, queue_id={request.queue_id}, instance={request.instance}, "
        f"client={request.client_name}[{request.client_address}], sender=<{request.sender}>, "
        f"recipient=<{request.recipient}>, login={request.sasl_username}, context={request.policy_context}"
    )


# What is left of these fields without plain characters, if all values are plain: what stands around them, and no more.
_AROUND_PLAIN = _asked(Request()).encode().translate(None, _PLAIN_BYTES)


@lru_cache(maxsize=4096)
def _own_pieces(
    action: Action, rule: Rule, entry: int | None, reason: str, text: str, is_refused: bool
) -> tuple[str, str]:
    """What is ours in a line of text before what is the peer's, and between that and the duration.

    It is the same for many requests, where each mailbox is another one.
    """
    spoken = f"{action}, would={Action.REJECT}" if _is_unspoken(action, is_refused) else action
    return (
        f"action={spoken}, rule={rule}, entry={entry or ''}, ",
        f", reason={_shown(reason)}, text={_shown(text)}, ms=",
    )


def _shown(value: str) -> str:
    """A name, a reason or a text of ours as it stands in a line of text."""
    return value and shown_as_text(value, _VALUE_LIMITS[0])


def escape(value: str) -> str:
    """*value* in double quotes, on one line, and without `, `, so that not even a careless reader sees two fields.

    Characters that don't print, or change the direction of what follows, stand as `\\xHH`, `\\uHHHH` or
    `\\UHHHHHHHH`; bytes that are not UTF-8 as `\\xHH`.
    """
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace(", ", "\\x2c ")
    return f'"{printable(text)}"'


def _in_words(fields: Mapping[str, Field]) -> str:
    """An event of the daemon, or a warning, for somebody at a terminal: `policyd: started: version 1.0, pid 42`."""
    (kind, what), *facts = fields.items()
    advice = "".join(f"; {value}" for name, value in facts if name == "advice")
    told = ", ".join(f"{name} {value}" for name, value in facts if name != "advice" and value not in ("", None))
    warning = "warning: " if kind == "warning" else ""
    return printable(f"policyd: {warning}{what}{told and f': {told}'}{advice}")


def _text_line(fields: Mapping[str, Field], limit: int) -> str:
    """The fields with values of at most *limit* characters, as text."""
    return ", ".join([f"{name}={shown_as_text(value, _limit_of(name, limit))}" for name, value in fields.items()])


def _json_line(fields: Mapping[str, Field], limit: int) -> str:
    """The fields with values of at most *limit* characters, as one JSON object."""
    return json.dumps({name: shown_as_json(value, _limit_of(name, limit)) for name, value in fields.items()})


def _limit_of(name: str, limit: int) -> int:
    return _VALUE_LIMITS[0] if name in _WHOLE else limit


def shown_as_text(value: Field, limit: int) -> str:
    """*value*, of which at most *limit* characters are shown, in a line of text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    if len(value) > limit:
        return f'{escape(value[:limit])[:-1]}…"'
    if PLAIN.fullmatch(value):
        return value
    return f'{escape(value[:-1])[:-1]}{code("…")}"' if value.endswith("…") else escape(value)


def shown_as_json(value: Field, limit: int) -> Any:
    """*value* for JSON, whose strict readers refuse the lone surrogates of bytes that are not UTF-8.

    Those stand as `\\xHH`, a backslash as two, and a `…` at the end that cuts nothing as `\\u2026`. An object of the
    journal is one here, too, unless it is too long: then it is a text that is cut.
    """
    if isinstance(value, Stored):
        return json.loads(value.json) if value.json and len(value.json) <= limit else shown_as_json(value.json, limit)
    if not isinstance(value, str):
        return value
    if len(value) > limit:
        return _ESCAPED.sub(_coded, value[:limit] + ".")[:-1] + "…"
    return _ESCAPED.sub(_coded, value)


def _coded(found: re.Match[str]) -> str:
    return "\\\\" if found[0] == "\\" else code(found[0])

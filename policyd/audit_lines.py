"""The lines of the audit read back: what was asked, how it was answered, and what the daemon said of itself.

Each is read whatever a log has put before it, in either format, and only if it is as `policyd.audit` writes it.
"""

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from policyd.audit import ATOM, DECISION_FIELDS, OWN_NAMES, shown_as_json, shown_as_text
from policyd.errors import AuditLineError
from policyd.model import Action, Request

# What each kind of line begins with, behind whatever a log puts before it. A line of a report begins itself so.
_KINDS = "action|change|event|warning"
_BEGINNING = re.compile(rf'(?:^|(?<=[\s:\ufeff]))(?:\{{"({_KINDS})": |({_KINDS})=)|^\s*(?:asked: )?(?=state=)')
_ASKED_IN_JSON = re.compile(r'"asked": ("state=.*"),?')
_TOKEN = re.compile(r'([a-z_.-]+)=("(?:[^"\\]|\\.)*+"|[^", ]*+)(?:, |\Z)')
_CODE = re.compile(r'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(000[0-9a-f]{5}|0010[0-9a-f]{4})|([\\"]))')
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)

_ASKED = ("state", "client", "sender", "recipient", "login", "context")  # what the answer hangs on
_UNASKED = ("queue_id", "instance")  # what decides nothing
_TOLD = ("action", "rule", "reason", "text", *OWN_NAMES)
_FIRST_EDITION = DECISION_FIELDS[: -len(OWN_NAMES)]  # it had no names of our own
_ABOUT = {"change": "a change of the tables", "event": "the daemon itself", "warning": "the daemon itself"}

# How the line about a request is in which nothing of the peer's had to be quoted, and nothing of ours has a code in it:
# most are, and are read by this alone.
_OURS = ("reason", "text", *OWN_NAMES)
_PLAIN = f"{ATOM}|<{ATOM}>"
_PLAIN_FIELD = {
    name: rf'{name}=({_PLAIN}|"[^"\\…]*")' if name in _OURS else f"{name}=({_PLAIN})" for name in DECISION_FIELDS
}
_PLAIN_DECISION = re.compile(
    "(?:, would=(REJECT))?, ".join(
        [_PLAIN_FIELD["action"], ", ".join(field for name, field in _PLAIN_FIELD.items() if name != "action")]
    )
)


class LoggedDecision(NamedTuple):
    """A request and its answer, as a line of the audit has them.

    Of a value that is cut, which `cut` names, there is what the line has. `would` says that the refusal was not sent.
    """

    request: Request
    action: str
    would: bool
    rule: str
    entry: int | None
    reason: str
    text: str
    mailbox: str
    by: str
    cut: frozenset[str] = frozenset()

    @property
    def is_refused(self) -> bool:
        """Whether it was refused, or would have been."""
        return self.would or self.action == Action.REJECT


def is_audit_line(line: str) -> bool:
    """Whether *line*, of a log, seems to be one of the audit, or of a report, about whatever."""
    return bool(_BEGINNING.search(_unwrapped(line)))


def kind_of(text: str) -> str:
    """What a line that policyd logged, without what a log puts before it, is about.

    That is `action`, `change`, `event` or `warning`; "" where it is none of the audit.
    """
    found = _BEGINNING.match(text)
    return (found[1] or found[2] or "") if found else ""


def read_request(line: str) -> Request:
    """The request that *line* is about: one of the audit or of a report, with whatever a log has put before it.

    Its `queue_id` and `instance`, which decide nothing, are "" where they are cut. Raises AuditLineError where the line
    is about no request, or does not hold all that decides.
    """
    line = _unwrapped(line)
    found = _BEGINNING.search(line)
    if found is not None and not (found[1] or found[2]):
        request, cut = _read_asked(line[found.end() :].strip())
    else:
        decision = read_decision(line)
        request, cut = decision.request, decision.cut
    for name in _ASKED:
        if name in cut:
            raise AuditLineError(
                f"{name} is cut in this line, which would have been too long; ask with what you know of it:"
                " policyd check --recipient R --sender S"
            )
    return request._replace(**{name: "" for name in _UNASKED if name in cut})


def read_decision(line: str) -> LoggedDecision:
    """The request that *line* of the audit is about, and its answer. Raises AuditLineError where it has none."""
    # What kind of line it is.
    found = _BEGINNING.search(line)
    kind = (found[1] or found[2]) if found else None
    if found is None or kind is None:
        raise AuditLineError("this is no line of the audit: it has no action=")
    if kind != "action":
        raise AuditLineError(f"this line of the audit is about {_ABOUT[kind]}; one about a request begins with action=")
    text = line[found.start() :].strip()
    if plain := _PLAIN_DECISION.fullmatch(text):
        action, would, *others = plain.groups()
        values = dict(zip(DECISION_FIELDS, [action, *others], strict=True))
        for name in _OURS:
            values[name], _ = _read_ours(name, values[name])
        return _decision(values, bool(would), frozenset())

    # Its fields: each must be written as `AuditLog` writes it.
    fields = [*(_json_fields(text) if found[1] else _text_fields(text))]
    shown = dict(fields)
    names = tuple(name for name, _ in fields if name != "would")
    if names not in (DECISION_FIELDS, _FIRST_EDITION):
        raise AuditLineError("this line of the audit is not whole: it has not the fields of a decision")
    values, cut = _values(shown, (*_ASKED, *_UNASKED, *(name for name in _TOLD if name in shown)), bool(found[1]))
    values["entry"] = "" if shown["entry"] is None else str(shown["entry"])
    return _decision(values, shown.get("would") == Action.REJECT, cut)


def read_fields(text: str) -> dict[str, str]:
    """The fields of a line about a change or the daemon itself, by name. Raises AuditLineError."""
    is_json = text.startswith("{")
    shown = dict(_json_fields(text) if is_json else _text_fields(text))
    values, _ = _values(shown, [name for name, value in shown.items() if isinstance(value, str)], is_json)
    return {name: values.get(name, str(value)) for name, value in shown.items()}


def asked_line(request: Request) -> str:
    """*request* as a report shows it, so that it can be asked again: the fields that decide, as the audit has them."""
    client = f"{request.client_name}[{request.client_address}]"
    sender, recipient = f"<{request.sender}>", f"<{request.recipient}>"
    asked = (request.protocol_state, client, sender, recipient, request.sasl_username, request.policy_context)
    return ", ".join(f"{name}={shown_as_text(each, len(each))}" for name, each in zip(_ASKED, asked, strict=True))


def _unwrapped(line: str) -> str:
    """*line*, where it is one of `policyd report --json`, as it stands without --json."""
    found = _ASKED_IN_JSON.fullmatch(line.strip())
    if found is None:
        return line
    try:
        return str(json.loads(found[1]))
    except ValueError:
        return line


def _read_asked(text: str) -> tuple[Request, frozenset[str]]:
    """The request in a line that `asked_line` made, and what is cut in it, which is nothing."""
    fields = [*_text_fields(text)]
    if tuple(name for name, _ in fields) != _ASKED:
        raise AuditLineError("this line of a report is not whole: it has not the fields of a request")
    values, cut = _values(dict(fields), _ASKED, False)
    return _request(values), cut


def _decision(values: dict[str, str], would: bool, cut: frozenset[str]) -> LoggedDecision:
    entry = values["entry"]
    return LoggedDecision(
        _request(values),
        values["action"],
        would,
        values["rule"],
        int(entry) if _NUMBER.fullmatch(entry) else None,
        values["reason"],
        values["text"],
        values.get("mailbox", ""),
        values.get("by", ""),
        cut,
    )


def _request(values: dict[str, str]) -> Request:
    """The request with these values, taken out of what is written around them."""
    name, address = _client(values["client"])
    return Request(
        protocol_state=values["state"],
        queue_id=values.get("queue_id", ""),
        instance=values.get("instance", ""),
        client_name=name,
        client_address=address,
        sender=_unbracketed("sender", values["sender"]),
        recipient=_unbracketed("recipient", values["recipient"]),
        sasl_username=values["login"],
        policy_context=values["context"],
    )


def _values(shown: dict[str, Any], names: Iterable[str], is_json: bool) -> tuple[dict[str, str], frozenset[str]]:
    """The values of the fields *names*, and which of them are cut."""
    read, values, cut = _read_json if is_json else _read_text, {}, set()
    for name in names:
        value, is_whole = read(name, shown[name])
        values[name] = value if is_whole else _closed(name, value)
        if not is_whole:
            cut.add(name)
    return values, frozenset(cut)


def _closed(name: str, value: str) -> str:
    """A value that is cut, with the end that is written around every one."""
    if name == "client":
        return f"{value}]" if "[" in value else f"{value}[]"
    return f"{value}>" if name in ("sender", "recipient") else value


def _text_fields(line: str) -> Iterator[tuple[str, Any]]:
    """The names of the fields of a line of text, and how their values are shown."""
    position = 0
    while position < len(line):
        token = _TOKEN.match(line, position)
        if token is None:
            raise AuditLineError(
                f"this line of the audit is not whole: it can't be read from character {position + 1} on"
            )
        yield token[1], token[2]
        position = token.end()


def _json_fields(line: str) -> Iterator[tuple[str, Any]]:
    """The names and values of a line in JSON."""
    try:
        fields = json.loads(line, object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise AuditLineError("this line of the audit is not whole: it is no JSON") from None
    yield from fields


def _read_text(name: str, shown: str) -> tuple[str, bool]:
    """The value that is *shown* so, and whether it is whole."""
    if shown.endswith('…"'):
        return _decoded(shown[1:-2]), False
    value = _decoded(shown[1:-1]) if shown.startswith('"') else shown
    if shown_as_text(value, len(value)) != shown:
        raise _damaged(name)
    return value, True


_read_ours = lru_cache(4096)(_read_text)  # there are few reasons, texts and names, and each is read many times


def _read_json(name: str, shown: Any) -> tuple[str, bool]:
    """The same of a value in JSON."""
    if not isinstance(shown, str):
        raise _damaged(name)
    if shown.endswith("…"):
        return _decoded(shown[:-1]), False
    value = _decoded(shown)
    if shown_as_json(value, len(value)) != shown:
        raise _damaged(name)
    return value, True


def _decoded(text: str) -> str:
    """*text* with each code as its character; a `\\xHH` that is no ASCII is a byte."""

    def character(found: re.Match[str]) -> str:
        byte, short, long, itself = found.groups()
        if itself:
            return str(itself)
        number = int(byte or short or long, 16)
        return chr(number + 0xDC00) if byte and number >= 0x80 else chr(number)

    return _CODE.sub(character, text)


def _client(value: str) -> tuple[str, str]:
    """The name and the address of a client. A name that holds a bracket could be read in two ways, and is none."""
    name, _, address = value.partition("[")
    if "[" in address or not address.endswith("]"):
        raise _damaged("client")
    return name, address[:-1]


def _unbracketed(name: str, value: str) -> str:
    if len(value) < len("<>") or value[0] != "<" or value[-1] != ">":
        raise _damaged(name)
    return value[1:-1]


def _damaged(name: str) -> AuditLineError:
    return AuditLineError(
        f"{name} in this line of the audit is not as policyd writes it; give the line as it was logged"
    )

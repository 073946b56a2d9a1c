"""What is of the protocol and what is an audit line, said a second time, by nothing of policyd's own but its data."""

import json
import re
from collections.abc import Iterator

from policyd.model import Decision, Request

LIMIT = 64 * 1024
ATTRIBUTES = 100
REPLY = re.compile(rb"action=(?:DUNNO|REJECT 5\.\d{1,3}\.\d{1,3}(?: [!-~]+)*)\n\n")
TEXT_LIMIT = 200
NAMES = list(Request._fields)

_TOKEN = re.compile(r'([a-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^", ]*))(, |$)')
_ESCAPE = re.compile(r'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([\\"]))')


def requests_in(stream: bytes) -> tuple[list[Request], bool]:
    """The whole requests of *stream*, and whether it breaks the protocol after them."""
    requests: list[Request] = []
    while stream:
        block, end, rest = stream.partition(b"\n\n")
        if stream[:1] == b"\n" or len(block + end) > LIMIT or (not end and len(stream) >= LIMIT):
            return requests, True
        if block.count(b"\n") >= ATTRIBUTES + (not end):
            return requests, True
        if not end:
            return requests, False
        lines = [line.partition(b"=") for line in block.split(b"\n")]
        attributes = {name: value for name, _, value in lines}
        is_broken = b"\0" in block or any(not name or not equals for name, equals, _ in lines)
        if is_broken or attributes.get(b"request") != b"smtpd_access_policy":
            return requests, True
        values = [attributes.get(name.encode(), b"") for name in NAMES]
        requests.append(Request(*[value.decode("utf-8", "surrogateescape") for value in values]))
        stream = rest
    return requests, False


def must_be_replies(raw: bytes, decisions: list[Decision]) -> None:
    """One reply to each of *decisions*, in their order, and nothing else."""
    replies = raw.split(b"\n\n")
    assert replies.pop() == b"", f"no end: {raw!r}"
    assert len(replies) == len(decisions), f"{len(replies)} replies to {len(decisions)} requests"
    for reply, decision in zip(replies, decisions, strict=True):
        assert REPLY.fullmatch(reply + b"\n\n"), f"not a reply: {reply!r}"
        text = decision.text if decision.action == "REJECT" else ""
        assert len(text) <= TEXT_LIMIT
        assert reply == f"action={decision.action} {text}".rstrip().encode(), f"another reply: {reply!r}"


def must_be_audit_line(line: str, request: Request, decision: Decision) -> None:
    """One line, with exactly the fields of a decision in their order, and in each what was meant or its beginning."""
    would = {"would": "REJECT"} if decision.is_refused and decision.action != "REJECT" else {}
    meant = {
        "action": decision.action,
        **would,
        "rule": decision.rule,
        "entry": decision.entry,
        "state": request.protocol_state,
        "queue_id": request.queue_id,
        "instance": request.instance,
        "client": f"{request.client_name}[{request.client_address}]",
        "sender": f"<{request.sender}>",
        "recipient": f"<{request.recipient}>",
        "login": request.sasl_username,
        "context": request.policy_context,
        "reason": decision.reason,
        "text": decision.text,
        "ms": None,
        "mailbox": decision.mailbox,
        "by": decision.by,
    }
    told = fields_of(line)
    assert [name for name, _ in told] == [*meant], f"other fields: {line!r}"
    is_json = line.startswith("{")
    for name, value in told:
        if name == "ms":
            assert float(str(value)) >= 0
        else:
            assert _is_same(value, meant[name], is_json), f"{name} is {value!r}, not {meant[name]!r}"


def must_be_warning(line: str, problem: str) -> None:
    """One line about the end of a connection; of a defect of ours there is none."""
    told = fields_of(line)
    assert [name for name, _ in told] == ["warning", "peer"], f"other fields: {line!r}"
    warning = str(told[0][1])
    assert warning.startswith("hung up: ")
    assert "internal error" not in warning.split(": ")[1], line
    assert not problem or warning == problem


def fields_of(line: str) -> list[tuple[str, str | int | float | None]]:
    """The names and values of a line in either format; AssertionError where a reader of logs would see others."""
    assert line.isprintable(), f"not one line: {line!r}"
    assert len(line.encode()) <= LIMIT // 16, f"{len(line)} characters"
    if not line.startswith("{"):
        careless = [part.partition("=")[0] for part in line.split(", ")]
        told = list(_text_fields(line))
        assert careless == [name for name, _ in told], f"a careless reader sees other fields: {line!r}"
        return [*told]
    assert line.isascii()
    pairs: list[tuple[str, str | int | float | None]] = json.loads(line, object_pairs_hook=list, parse_constant=_refuse)
    for _, value in pairs:
        str(value).encode()  # no half of a surrogate pair
    return pairs


def _text_fields(line: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(line):
        token = _TOKEN.match(line, position)
        assert token, f"no field at {line[position:]!r}"
        yield token[1], token[3] if token[2] is None else _ESCAPE.sub(_unescaped, token[2])
        position = token.end()
    assert not line.endswith(", ")


def _unescaped(escaped: re.Match[str]) -> str:
    byte, short, long, itself = escaped.groups()
    if itself:
        return itself
    number = int(byte or short or long, 16)
    return chr(number + 0xDC00) if byte and number >= 0x80 else chr(number)


def _is_same(told: str | int | float | None, meant: str | int | None, is_json: bool) -> bool:
    """Whether *told* is what was *meant*, or where that is long its beginning and `…`."""
    if is_json and not isinstance(meant, str):
        return told == meant
    text = "" if meant is None else str(meant)
    told = str(told)
    if is_json:  # what can't stand there is told by its number
        is_cut = told.endswith("…")
        told = _ESCAPE.sub(_unescaped, told[:-1] if is_cut else told) + "…" * is_cut
    return told == text or (told.endswith("…") and len(told) > 20 and text.startswith(told[:-1]))


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")

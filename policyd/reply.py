"""Renders reply texts: a template from the settings becomes printable ASCII for the client. Pure."""

import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import assert_never

from policyd.model import Rule

TEXT_LIMIT = 200  # characters; RFC 5321 §4.5.3.1.5 leaves 512 bytes for the whole line
FIELDS = ("recipient", "sender", "mailbox", "reason")


def _refusal(rule: Rule) -> tuple[str, str]:
    """The enhanced status code and the text with which *rule* refuses, both "" where it never does."""
    match rule:
        case Rule.BLOCKED_SENDER:
            return "5.7.1", "This sender may not write to this recipient: {reason}"
        case Rule.UNLISTED_RECIPIENT:
            return "5.1.1", "This address does not receive mail"
        case Rule.RESTRICTED_RECIPIENT:
            return "5.7.1", "This mailbox does not take mail from this sender: {reason}"
        case Rule.ALWAYS_ACCEPTED | Rule.ACCEPTED_SENDER | Rule.DEFAULT:
            return "", ""
        case _:
            assert_never(rule)


STATUS = {rule: status for rule in Rule if (status := _refusal(rule)[0])}
DEFAULT_TEXTS = {rule: text for rule in Rule if (text := _refusal(rule)[1])}

_FIELD = re.compile(r"\{(\w*)\}")
_STATUS = re.compile(r"(\d\.\d{1,3}\.\d{1,3})(?:\s|$)")
_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})


def read_ahead() -> None:
    """Read what `to_ascii` needs for any script now, since later it may be out of reach: 640 small files, 7 MB."""
    from anyascii import anyascii

    anyascii("".join(map(chr, range(0x80, sys.maxunicode, 0x100))))


def template_problem(template: str) -> str:
    """What is wrong with a reply text from the settings, "" where nothing is."""
    unknown = [name for name in _FIELD.findall(template) if name not in FIELDS]
    if unknown or "{" in _FIELD.sub("", template) or "}" in _FIELD.sub("", template):
        return "may hold {recipient}, {sender}, {mailbox} and {reason}, and no other braces"
    status = _STATUS.match(to_ascii(template))
    if status and not status[1].startswith("5."):
        return "may start with an enhanced status code 5.x.x only, since the reply is permanent"
    if not to_ascii(template):
        return "must not be empty"
    return ""


def render_text(rule: Rule, template: str, **fields: str) -> str:
    """The text of a refusal by *rule*: status code, then *template* with *fields* filled in.

    At most `TEXT_LIMIT` printable ASCII characters on one line. Where a field is empty, the
    punctuation that led up to it at the end goes too.
    """
    text = _whole_text(rule, template, fields)
    return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 3]}..."


def fields_of(template: str) -> frozenset[str]:
    """The fields that *template* has."""
    return frozenset(_FIELD.findall(template))


def characters_over(rule: Rule, template: str, **fields: str) -> int:
    """How many characters the text that `render_text` makes is too long; 0 where all of it is sent."""
    return max(0, len(_whole_text(rule, template, fields)) - TEXT_LIMIT)


def _whole_text(rule: Rule, template: str, fields: Mapping[str, str]) -> str:
    text = to_ascii(_FIELD.sub(lambda match: fields.get(match[1], ""), template)).rstrip(" :;,-(")
    if not _STATUS.match(to_ascii(template)):  # a status in a field is the peer's words, not ours
        text = f"{STATUS[rule]} {text}".rstrip()
    return text


def to_ascii(text: str) -> str:
    """*text* in printable ASCII, other scripts transliterated, runs of white space as one blank.

    Umlauts become ae, oe and ue. Source: ICAO Doc 9303 part 3 §6.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))
        from anyascii import anyascii  # no command but `check` makes a reply

        text = anyascii(text.translate(_GERMAN))
    return " ".join(re.sub(r"[^ -~]+", " ", text).split())

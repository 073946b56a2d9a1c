"""What a hand-written map says as a whole: what one of its entries means may depend on others.

In access(5) the most specific key counts. So where a key is let through that a wider one would refuse, it is an
exception to that one, and both stand or fall together.
"""

import re
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO

from policyd.address import fold, is_pattern, normal_pattern
from policyd.errors import AddressError
from policyd.transfer.formats import Into
from policyd.transfer.postfix.entries import (
    CODE_ALONE,
    REFUSED,
    Answer,
    Entry,
    answer_of,
    has_alone_mark,
    is_client,
    is_expression,
    normal_key,
    read_entries,
    reason_of,
)

_DELIMITERS = "+-"  # between a local part and its extension, in the usual settings
_PLAIN = re.compile(r"\W|_")
_COMMAND = re.compile(r"\||[\w-]*:")  # also a transport, or the file of a list


@dataclass(frozen=True, slots=True)
class Exemption:
    """An entry that takes its key out of what wider keys refuse.

    `patterns` are whom it lets through; `problem` says why policyd can't, "" where it can.
    """

    line: int
    key: str
    patterns: tuple[str, ...]
    problem: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An entry that refuses, to which there are exemptions."""

    line: int
    key: str
    is_wrong: bool  # by itself
    exemptions: list[Exemption]

    @property
    def wrong(self) -> Exemption | None:
        """The first of its exemptions that policyd can't make, None where it can make all."""
        return next((each for each in self.exemptions if each.problem), None)


@dataclass(slots=True)
class Survey:
    """What is known of a map before its entries are read one by one.

    With `has_parents` a domain stands for its subdomains too. `is_access` says that words on the right are actions and
    classes of access(5), `has_places` that they say where mail is stored. `repeated` are hashes of keys that are there
    more than once, `shared` words that stand beside several addresses, to none of which they belong.
    """

    into: Into | None
    has_parents: bool = True
    has_refusals: bool = False
    has_places: bool = False
    repeated: frozenset[int] = frozenset()
    shared: frozenset[str] = frozenset()
    refusals: dict[str, Refusal] = field(default_factory=dict)  # by normal key: those with exemptions
    exempt: dict[str, list[str]] = field(default_factory=dict)  # of an exemption's key, the keys of the refusals

    @property
    def is_access(self) -> bool:
        """Whether the map is one of access(5), about senders."""
        return self.into is Into.BLOCKED or (self.into is None and self.has_refusals)


def look_over(stream: BinaryIO, into: Into | None) -> Survey:
    """What the map in *stream*, to be read *into* what was said, is as a whole."""
    survey = Survey(into, has_parents=not has_alone_mark(stream))
    keys: array[int] = array("q")
    bases: set[str] = set()  # of addresses with an extension that are not refused
    own: set[str] = set()
    seen: dict[str, int] = {}
    for entry in _hand_written(stream):
        survey.has_parents &= not entry.key.startswith(".")
        normal = normal_key(entry.key)
        keys.append(hash(normal))
        answer, word = answer_of(entry.value)
        if answer in (Answer.REFUSED, Answer.CODE):
            survey.has_refusals = True
            continue
        bases.update(_bases(normal))
        survey.has_places |= is_place(entry.key, entry.value)
        if answer is Answer.NONE and "@" in entry.key and word == entry.value and "@" not in word:
            if is_name_of(word, entry.key):
                own.add(fold(word))
            else:
                seen[fold(word)] = seen.get(fold(word), 0) + 1
    survey.repeated = _repeated(keys)
    survey.shared = frozenset(word for word, count in seen.items() if count > 1 and word not in own)
    if survey.is_access and survey.has_refusals:
        _link(stream, survey, bases)
    return survey


def is_place(key: str, value: str) -> bool:
    """Whether *value*, beside the address *key*, says where mail is stored: a mailbox file, or a folder.

    Source: postconf(5), virtual_mailbox_maps.
    """
    if "/" not in value or "," in value or _COMMAND.match(value):
        return False
    local, at, after = value.rpartition("@")
    domain = key.rpartition("@")[2].lower()
    is_path = value[0] in "/." or value.endswith("/") or not at or "/" in after
    return is_path or local.lower().startswith(f"{domain}/") or value.lower().endswith(f"/{key.lower()}")


def is_name_of(word: str, key: str) -> bool:
    """Whether *word* is the local part of the address *key*, but for marks such as dots between its letters."""
    local = key.rpartition("@")[0]
    return fold(word) == fold(local) or (bool(word) and _PLAIN.sub("", fold(word)) == _PLAIN.sub("", fold(local)) != "")


def patterns_of(key: str, *, has_parents: bool) -> tuple[str, ...]:
    """The patterns that match what *key* does in access(5). Raises AddressError."""
    if is_pattern(key):
        return (normal_pattern(key),)
    if key.startswith((".", "[")) or not has_parents:
        return (normal_pattern(f"@{key}"),)
    return (normal_pattern(f"@{key}"), normal_pattern(f"@.{key}"))


def _hand_written(stream: BinaryIO) -> Iterator[Entry]:
    """The entries that are in no part of an export, and have a key that can be compared, and a value."""
    for entry in read_entries(stream):
        usable = entry.value and not entry.part and not entry.line.is_too_long
        if usable and not is_expression(entry.key) and not is_client(entry.key):
            yield entry


def _repeated(keys: "array[int]") -> frozenset[int]:
    """Those of *keys* that are there more than once."""
    ordered = sorted(keys)
    return frozenset(one for one, other in pairwise(ordered) if one == other)


def _bases(normal: str) -> Iterator[str]:
    """What the address or `local@` *normal* may be without its extension."""
    local, at, domain = normal.rpartition("@")
    for position in range(1, len(local)):
        if local[position] in _DELIMITERS:
            yield f"{local[:position]}{at}{domain}"


def _link(stream: BinaryIO, survey: Survey, bases: set[str]) -> None:
    """Find the exemptions of the map in *stream*, and what they are exempt from."""
    # Of what is refused, what may have exemptions: whole domains, local parts, and addresses with extensions here.
    refused: set[str] = set()
    for normal, entry in _first_of_each(stream, survey):
        if _is_refused(entry) and (normal.endswith("@") or "@" not in normal[1:] or normal in bases):
            refused.add(normal)
    by_local = sorted(each for each in refused if each.endswith("@"))

    # Each key that is not refused is an exemption from those that Postfix would look up after it.
    exemptions: dict[str, list[Exemption]] = defaultdict(list)
    for normal, entry in _first_of_each(stream, survey):
        is_refused = bool(REFUSED.fullmatch(entry.value)) and not entry.value.isdigit()
        found = () if is_refused else _after(normal, by_local, has_parents=survey.has_parents)
        if keys := [each for each in found if each in refused]:
            survey.exempt[normal] = keys
            exemption = _exemption(entry, has_parents=survey.has_parents)
            for each in keys:
                exemptions[each].append(exemption)

    # What is wrong by itself is known before the first exemption is read.
    for normal, entry in _first_of_each(stream, survey) if exemptions else ():
        if normal in exemptions:
            is_wrong = _is_wrong(entry, has_parents=survey.has_parents)
            survey.refusals[normal] = Refusal(entry.line.number, entry.key, is_wrong, exemptions[normal])


def _is_refused(entry: Entry) -> bool:
    answer, _ = answer_of(entry.value, is_access=True)
    return answer in (Answer.REFUSED, Answer.CODE)


def _first_of_each(stream: BinaryIO, survey: Survey) -> Iterator[tuple[str, Entry]]:
    """The hand-written entries of *stream* by their normal keys; of those with one key, Postfix takes the first."""
    first: set[str] = set()
    for entry in _hand_written(stream):
        normal = normal_key(entry.key)
        if normal not in first:
            yield normal, entry
        if hash(normal) in survey.repeated:
            first.add(normal)


def _is_wrong(entry: Entry, *, has_parents: bool) -> bool:
    """Whether an entry that refuses can't be read."""
    try:
        patterns_of(entry.key, has_parents=has_parents)
        reason_of(entry.value)
    except AddressError:
        return True
    return entry.value.isdigit()


def _after(normal: str, by_local: list[str], *, has_parents: bool) -> Iterator[str]:
    """The keys that Postfix would look up after *normal* for something that *normal* matches, the narrowest first.

    Source: access(5), EMAIL ADDRESS PATTERNS; mail_addr_find(3).
    """
    if normal == "<>":
        return
    local, _, domain = normal.rpartition("@")
    yield from sorted(_bases(normal), key=len, reverse=True)
    if not domain:
        return

    # The domain, also as people write it with an @, and those above it.
    labels = domain.lstrip(".").split(".")
    above = [".".join(labels[first:]) for first in range(1, len(labels))]
    yield from (each for each in (f"@{domain}", domain) if each != normal)
    for each in above:
        yield from (each if has_parents else f".{each}", f"@.{each}")

    # The local part in any domain.
    yield from (f"{local}@", *_bases(f"{local}@")) if local else by_local
    yield from (each for each in by_local if local and each.startswith(local) and each[len(local)] in _DELIMITERS)


def _exemption(entry: Entry, *, has_parents: bool) -> Exemption:
    answer, _ = answer_of(entry.value, is_access=True)
    problem = ""
    patterns: tuple[str, ...] = ()
    if answer is Answer.CODE:
        problem = CODE_ALONE
    elif answer in (Answer.UNCERTAIN, Answer.NONE):
        problem = f"policyd has no {entry.value.split(maxsplit=1)[0][:100]!a}"
    try:
        patterns = patterns_of(entry.key, has_parents=has_parents)
    except AddressError as error:
        problem = str(error)
    return Exemption(entry.line.number, entry.key, patterns, problem)

"""Reads source files of access(5) and virtual(5) maps, as people have them, and as an export writes them.

What stands right of its key says what a line means; `--into` says whose keys they are.

Of senders (`--into blocked`, and without --into wherever a map refuses anybody):

- `REJECT text`, `5xx text`: the key is a blocked sender, to anyone, and the text without its code the reason. A domain
  stands for its subdomains too, as by default in Postfix, unless keys with a leading dot show that this was changed.
- `OK`, `DUNNO`, `PERMIT`, `RELAY`, a number: where a wider key of the map refuses, an exception by sender to that;
  elsewhere nothing. So are `HOLD`, `FILTER`, `REDIRECT`, `PREPEND`, `BCC`, `INFO`, `WARN`, `DELAY`, which are counted.
- `DEFER...`, `4xx`, `DISCARD`, `HANGUP`, Postfix's restrictions and classes of them: policyd has nothing like it.
  Where a wider key refuses, both are wrong rows; elsewhere they are skipped and counted, and a class is a wrong row.

Of recipients (`--into mailboxes`): each address is a mailbox, whatever stands right of it; with `REJECT` or `5xx` one
that receives from nobody.

Else virtual(5): `address target`, with one target, an address or a mailbox's name; with several, or with itself,
the address is a mailbox of its own, and so it is where the target says where mail is stored. `domain anything` is a
managed domain, `@domain @target` an alias domain, and `@domain target` a domain that lets unlisted recipients through.

Of keys that are there twice, the first counts, as in Postfix. Clients' addresses and networks are skipped.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO, assert_never

from policyd.address import is_pattern, normal_domain, normal_name, parse_party, patterns_overlap
from policyd.errors import AddressError
from policyd.model import ANYONE, Party, PartyKind, Receive, Unlisted, pattern_party
from policyd.model import OUTSIDE as TO_OUTSIDE
from policyd.records import (
    KEEP,
    AddressRow,
    BlockRow,
    DomainRow,
    Keep,
    ListEdit,
    Notice,
    Problem,
    Record,
    Row,
)
from policyd.transfer import values
from policyd.transfer.fields import mailbox_of
from policyd.transfer.formats import Evidence, Into, ReadOptions, Sample
from policyd.transfer.postfix.entries import (
    ALONE_MARK,
    CODE_ALONE,
    REFUSED,
    Answer,
    Entry,
    answer_of,
    is_client,
    is_expression,
    normal_key,
    read_entries,
    reason_of,
)
from policyd.transfer.postfix.survey import Refusal, Survey, is_name_of, is_place, look_over, patterns_of
from policyd.transfer.postfix.write import (
    ALWAYS,
    INSIDERS,
    LOGINS,
    MARK,
    OUTSIDE,
    OUTSIDERS,
    RECIPIENTS,
    REGEXPS,
    SENDERS,
    UNLISTED,
    UNOWNED,
    VIRTUAL,
    WRAPPED,
)
from policyd.transfer.text import LINE_LIMIT
from policyd.transfer.values import CellError

_MAPPED = re.compile(r'("(?:[^"\\]|\\.)*+"\S*+|[^\s"]\S*+)\s+([^\s#]\S*).*')
_ACTION = re.compile(
    r"[45]\d\d|reject\S*|ok|dunno|permit\S*|defer\S*|discard|hold|filter|redirect|prepend|warn|info|bcc"
)
_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+")|,', re.DOTALL)  # between targets, or else what is quoted
_NO_NAMES = frozenset(("x", "na", "n/a", "none", "any", "anything", "true", "yes", "valid", "virtual", "-"))


@dataclass(frozen=True, slots=True)
class _Read:
    """What an entry says: rows, words for what is skipped, and what else a `Record` has."""

    rows: tuple[Row, ...] = ()
    skipped: tuple[str, ...] = ()
    stands_with: tuple[int, ...] = ()
    opens: tuple[str, ...] = ()


def read(stream: BinaryIO, options: ReadOptions) -> Iterator[Record | Notice]:
    """The records of *stream*, one for each logical line that isn't a comment."""
    # What one line means may depend on others: all are read first.
    survey = look_over(stream, options.into)
    heading = "" if survey.has_parents else ALONE_MARK

    # Then each entry is read, but for those whose key is there already: Postfix takes the first.
    first: dict[str, Entry] = {}
    for entry in read_entries(stream):
        if entry.line.is_too_long:
            problem = Problem(f"this entry has more than {LINE_LIMIT} characters")
            yield Record(entry.line.number, "", problems=(problem,))
            continue
        before = _before(entry, first, survey)
        if before is None:
            yield _record(entry, survey, options.domain, f"{MARK}{entry.part}" if entry.part else heading)
            continue
        if before.value != entry.value:
            where = f"in line {before.line.number} already, which counts, as in Postfix"
            yield Notice(entry.line.number, f"{entry.key[:100]!a} is {where}; this line is skipped")
        yield Record(entry.line.number, entry.line.text, skipped=("repeated",))


def _before(entry: Entry, first: dict[str, Entry], survey: Survey) -> Entry | None:
    """The entry above *entry* that has the same key; *first* are those so far with keys that are there again."""
    if entry.part or hash(normal := normal_key(entry.key)) not in survey.repeated:
        return None
    found = first.setdefault(normal, entry)
    return None if found is entry else found


def _record(entry: Entry, survey: Survey, domain: str, heading: str) -> Record:
    """What *entry* says, or what is wrong with it, to be read again under *heading*."""
    number, text = entry.line.number, entry.line.text
    try:
        found = _read_entry(entry, survey, domain)
    except (AddressError, CellError) as error:
        opens = _domains(entry.key, domain)
        return Record(number, text, problems=(Problem(str(error)),), opens=opens, heading=heading)
    return Record(
        number,
        text,
        found.rows,
        skipped=found.skipped,
        stands_with=found.stands_with,
        opens=found.opens,
        heading=heading,
    )


def recognize(sample: Sample) -> Evidence:
    """By the comments of an export, else where every line has a key and what becomes of it."""
    if any(line.startswith(MARK) for line in sample.lines):
        return Evidence.COMMENT
    logical = [line for line in sample.content if not line[0].isspace()]
    return Evidence.LINES if logical and all(map(_is_mapped, logical)) else Evidence.NONE


def _is_mapped(line: str) -> bool:
    """Whether *line* is one of access(5) or virtual(5): an address or domain, and what becomes of it."""
    match = _MAPPED.fullmatch(line.strip())
    if not match:
        return False
    key, value = match[1], match[2].lower()
    is_address = "@" in key or key == "<>"
    return is_address or bool(_ACTION.fullmatch(value)) or "@" in value or "." in key.strip(".")


def _domains(key: str, domain: str) -> tuple[str, ...]:
    """The domain that *key* is in, or is; that of --domain, where it has none."""
    _, at, name = key.rpartition("@")
    try:
        return (normal_domain(name if at or "." in key else domain),)
    except AddressError:
        return ()


def _read_entry(entry: Entry, survey: Survey, domain: str) -> _Read:
    """What *entry* says. Raises AddressError or CellError where it is wrong."""
    if not entry.value:
        raise CellError("this is no entry of a map: nothing stands right of the key")
    if entry.part == VIRTUAL:
        return _read_virtual(entry.key, entry.value, Survey(None), "")
    if entry.part:
        return _Read(_READERS[entry.part](entry.key, entry.value))
    if is_expression(entry.key):
        raise CellError(
            f"{entry.key[:100]!a} is a regular expression or a condition, and policyd compares; write out what it"
            " means: user@example.com, example.com, .example.com or user@"
        )
    if is_client(entry.key):
        return _Read(skipped=("client",))
    if survey.into is Into.MAILBOXES:
        return _read_listed(entry, survey, domain)
    return _read_unsaid(entry, survey, domain)


def _read_unsaid(entry: Entry, survey: Survey, domain: str) -> _Read:
    """A sender of access(5), or what virtual(5) has."""
    answer, word = answer_of(entry.value, is_access=survey.is_access)
    match answer:
        case Answer.REFUSED:
            return _read_refused_sender(entry, survey)
        case Answer.CODE:
            raise CellError(f"{entry.value[:100]!a}: {CODE_ALONE}")
        case Answer.PASSED | Answer.BESIDES | Answer.UNCERTAIN:
            return _read_exemption(entry, survey, () if answer is Answer.PASSED else (word,)) or _Read(skipped=(word,))
        case Answer.NONE:
            pass
        case _:
            assert_never(answer)
    if survey.is_access:
        _read_exemption(entry, survey, ())
        if survey.into is Into.BLOCKED or "@" not in word:
            raise CellError(_class_message(entry.key, word))
    return _read_virtual(entry.key, entry.value, survey, domain)


def _class_message(key: str, word: str) -> str:
    is_address = values.is_whole_address(key)
    who = key[:100] if is_address or key.startswith("@") else f"@{key[:100]}"
    return (
        f"{word[:100]!a} is no action that policyd has; if it is a restriction class that keeps mail inside, type:"
        f" policyd sender block {who} --to outside"
    )


# --- Senders of access(5) ---


def _read_refused_sender(entry: Entry, survey: Survey) -> _Read:
    """A refused sender, with the exceptions that the map has from it."""
    patterns = patterns_of(entry.key, has_parents=survey.has_parents)
    reason = reason_of(entry.value)
    refusal = survey.refusals.get(normal_key(entry.key))
    exempt: tuple[str, ...] = ()
    if refusal is not None:
        if wrong := refusal.wrong:
            raise CellError(
                f"line {wrong.line} makes an exception to this, for {wrong.key[:100]!a}, that can't be carried over:"
                f" {wrong.problem}; both stand or fall together"
            )
        exempt = tuple(dict.fromkeys(each for item in refusal.exemptions for each in item.patterns))
    rows = []
    for pattern in patterns:
        excepted = tuple(pattern_party(each) for each in exempt if patterns_overlap(pattern, each))
        edit: ListEdit[Party] | Keep = ListEdit(add=excepted) if excepted else KEEP
        rows.append(
            BlockRow(pattern_party(pattern), ANYONE, allowed_senders=edit, reason=reason, needs_no_proof=bool(excepted))
        )
    return _Read(tuple(rows))


def _read_exemption(entry: Entry, survey: Survey, skipped: tuple[str, ...]) -> _Read | None:
    """What an entry says that takes its key out of what wider ones refuse; None where none does."""
    refusals = [survey.refusals[each] for each in survey.exempt.get(normal_key(entry.key), ())]
    if not refusals:
        return None
    for refusal in refusals:
        if problem := _falls_with(entry, refusal):
            raise CellError(problem)
    return _Read(skipped=skipped, stands_with=tuple(each.line for each in refusals))


def _falls_with(entry: Entry, refusal: Refusal) -> str:
    """Why an exemption from *refusal* can't be made, "" where it can."""
    place = f"{refusal.key[:100]!a} in line {refusal.line}"
    own = next((each for each in refusal.exemptions if each.line == entry.line.number and each.problem), None)
    if own is not None:
        return f"this is an exception to {place} that can't be carried over: {own.problem}; both stand or fall together"
    if refusal.is_wrong or refusal.wrong:
        return f"this is an exception to {place}, which is wrong; both stand or fall together"
    return ""


# --- Recipients ---


def _read_listed(entry: Entry, survey: Survey, domain: str) -> _Read:
    """A recipient: a mailbox, or a whole domain of them."""
    answer, word = answer_of(entry.value, is_access=True)
    is_domain = not is_pattern(entry.key) and "." in entry.key

    # What a map does not name, it lets through if it refuses some, and refuses if it lists those there are.
    opens = _domains(entry.key, domain) if survey.has_refusals else ()
    match answer:
        case Answer.REFUSED:
            return _Read(_read_closed(entry.key, reason_of(entry.value), domain), opens=opens)
        case Answer.CODE:
            raise CellError(f"{entry.value[:100]!a}: {CODE_ALONE}")
        case Answer.UNCERTAIN:
            return _Read(skipped=(word,), opens=_domains(entry.key, domain))
        case Answer.PASSED | Answer.BESIDES:
            if entry.key.startswith("@"):
                return _Read(_read_catch_all(entry.key, ()))
            if is_domain or entry.key == "<>" or entry.key.endswith("@"):
                return _Read(skipped=(word,), opens=opens)
            skipped = (word,) if answer is Answer.BESIDES else ()
            return _Read((_mailbox(values.address(entry.key, domain)),), skipped, opens=opens)
        case Answer.NONE:
            pass
        case _:
            assert_never(answer)
    if "@" in entry.value or is_domain or entry.key.startswith("@"):
        return replace(_read_virtual(entry.key, entry.value, survey, domain), opens=opens)
    if "_" in entry.value and not is_name_of(word, entry.key) and not is_place(entry.key, entry.value):
        raise CellError(
            f"{word[:100]!a} is perhaps a restriction class, which policyd does not know; see: policyd mailbox restrict"
            " --help; for a mailbox that is not restricted write: OK"
        )
    return _Read((_mailbox(values.address(entry.key, domain)),), opens=opens)


def _read_closed(key: str, reason: str | Keep, domain: str) -> tuple[Row, ...]:
    if is_pattern(key):
        (address,) = patterns_of(key, has_parents=False)
    else:
        address = values.address(key, domain) if domain and "." not in key else ""
    if not values.is_whole_address(address):
        raise CellError(
            f"{key[:100]!a} is not one recipient; of a map for --into mailboxes, only addresses can be read"
        )
    return (_mailbox(address, receive=Receive.NOBODY, reason=reason),)


def _mailbox(address: str, receive: Receive | Keep = KEEP, reason: str | Keep = KEEP) -> Row:
    return mailbox_of(address, addresses=ListEdit(add=(address,)), receive=receive, reason=reason)


# --- virtual(5), and maps of mailboxes ---


def _read_virtual(key: str, value: str, survey: Survey, domain: str) -> _Read:
    """An address and where mail to it goes, or a domain."""
    # A path says where mail is stored; the mailbox is called after its address.
    if not key.startswith("@") and is_pattern(key) and is_place(key, value):
        return _Read((_mailbox(values.address(key, domain)),))
    targets = values.split_words(_COMMA.sub(lambda match: match[1] or " ", value))
    if not targets:
        raise CellError(f"{key[:100]!a} leads to 0 targets; write where mail to it goes")

    # Everybody in a domain, or the domain itself, whose value is any word.
    if key.startswith("@"):
        return _Read(_read_catch_all(key, targets))
    if not is_pattern(key) and "." in key and not any("@" in each for each in targets):
        _need_any_word(targets[0])
        return _Read((DomainRow(normal_domain(key)),))

    # An address that leads to one place or to several.
    address = values.address(key, domain)
    parties = [_target(each) for each in targets]
    if len(parties) > 1 or parties[0].text == address:
        return _Read((_mailbox(address),))
    (party,) = parties
    if party.kind is PartyKind.PATTERN:
        return _Read((AddressRow(address, party.text),))
    return _Read((_read_word(key, address, party.text, survey),))


def _target(text: str) -> Party:
    """Where mail goes: an address, or a mailbox by its name. Raises CellError for anything else."""
    party = None if text[0] in "/|:" or text.endswith("/") else parse_party(text)
    if party is None or (party.kind is PartyKind.PATTERN and not values.is_one_address(party)):
        raise CellError(f"{text[:100]!a} is neither an address nor a mailbox")
    if party.kind is PartyKind.GROUP or (party.kind is PartyKind.MAILBOX and ":" in text):
        raise CellError(
            f"{text[:100]!a} is neither an address nor a mailbox; a map of transport(5) has nothing for policyd"
        )
    return party


def _need_any_word(word: str) -> None:
    """Raises CellError where *word*, beside a domain, is more than the any word that virtual(5) has there."""
    if "_" in word:
        raise CellError(f"{word[:100]!a} is perhaps a restriction class; for a virtual domain write: anything")
    if ":" in word:
        raise CellError(
            f"{word[:100]!a} is of transport(5), which has nothing for policyd; for a domain write: anything"
        )


def _read_word(key: str, address: str, word: str, survey: Survey) -> Row:
    """The row of an *address* with one word beside it: a mailbox's name, if it can be one."""
    folded = word.lower()
    is_own = is_name_of(word, key)
    if survey.has_places:
        return _mailbox(address)
    doubt = ""
    if "_" in word and not is_own:
        doubt = (
            f"{word[:100]!a} is no mailbox, and perhaps a restriction class: --into blocked for a map of senders,"
            " --into mailboxes for recipients"
        )
    elif folded in survey.shared or (folded in _NO_NAMES and not is_own):
        doubt = f"{word[:100]!a} is no mailbox; for a mailbox of each address: --into mailboxes"
        if folded in survey.shared and folded not in _NO_NAMES:
            doubt += f"; for one mailbox with all of them, first type: policyd mailbox add {normal_name(word)}"
    return AddressRow(address, word, doubt=doubt)


def _read_catch_all(key: str, targets: tuple[str, ...]) -> tuple[Row, ...]:
    """A domain in which every recipient is known, or which stands for another one."""
    name = normal_domain(key[1:])
    if len(targets) == 1 and targets[0].startswith("@"):
        other = normal_domain(targets[0][1:])
        if other != name:
            return (DomainRow(name, alias_of=other, is_catch_all=True),)
    elif any(text[0] in "|:" or text.startswith("@") for text in targets):
        raise CellError(f"{targets[0][:100]!a} is neither an address nor a mailbox")
    return (DomainRow(name, is_catch_all=True),)


# --- The parts of an export ---


def _read_recipient(key: str, value: str) -> tuple[Row, ...]:
    # A domain, and what happens to unlisted recipients in it.
    if value == UNOWNED:
        return ()
    if not is_pattern(key):
        domain = DomainRow(normal_domain(key), unlisted=Unlisted.ACCEPT)
        if REFUSED.fullmatch(value):
            return (replace(domain, receive=Receive.NOBODY, reason=reason_of(value)),)
        match value:
            case "DUNNO":
                return (domain,)
            case str(word) if word == UNLISTED:
                return (replace(domain, unlisted=Unlisted.REJECT),)
            case str(word) if word == INSIDERS:
                return (replace(domain, receive=Receive.INSIDERS),)
            case _:
                raise CellError(f"in the part {RECIPIENTS}, a domain is DUNNO, {UNLISTED}, {INSIDERS} or REJECT")

    # A mailbox, and who may send to it.
    address = values.address(key, "")
    if REFUSED.fullmatch(value):
        return (_mailbox(address, Receive.NOBODY, reason_of(value)),)
    answers: Mapping[str, Receive | Keep] = {"DUNNO": Receive.INHERIT, INSIDERS: Receive.INSIDERS, ALWAYS: KEEP}
    receive = answers.get(value)
    if receive is None:
        raise CellError(f"in the part {RECIPIENTS}, a recipient is DUNNO, {INSIDERS} or REJECT")
    return (_mailbox(address, receive),)


def _read_sender(key: str, value: str) -> tuple[Row, ...]:
    if not REFUSED.fullmatch(value):
        raise CellError(f"in the part {SENDERS}, a sender is REJECT")
    patterns = patterns_of(key, has_parents=False)
    return tuple(BlockRow(pattern_party(each), ANYONE, reason=reason_of(value)) for each in patterns)


def _read_outsider(key: str, value: str) -> tuple[Row, ...]:
    if value != OUTSIDE:
        raise CellError(f"in the part {OUTSIDERS}, a sender is {OUTSIDE}")
    return tuple(BlockRow(pattern_party(each), TO_OUTSIDE) for each in patterns_of(key, has_parents=False))


def _read_nothing(_key: str, _value: str) -> tuple[Row, ...]:
    """No rows: other parts of an export say the same."""
    return ()


_READERS: Mapping[str, Callable[[str, str], tuple[Row, ...]]] = {
    RECIPIENTS: _read_recipient,
    SENDERS: _read_sender,
    OUTSIDERS: _read_outsider,
    LOGINS: _read_nothing,
    REGEXPS: _read_nothing,
    WRAPPED: _read_nothing,
}

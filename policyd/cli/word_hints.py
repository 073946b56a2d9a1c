"""What to type instead of words that a command does not take, or takes for something else: what was meant by them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from shlex import join

# Of each command, what is meant by a word too many.
_TOO_MANY: Mapping[str, str] = {
    "check": "who sends stands behind --sender; type: policyd check RECIPIENT --sender SENDER",
    "why": "a line of the log is one word, in quotes; or type: policyd why - and give it on stdin",
    "undo": "changesets are taken back one at a time, the last one first",
    "export": "the file stands behind -o; type: policyd export -o FILE",
    "doctor": "Postfix's folder stands behind --postfix-config",
    "top": "the seconds between two looks stand behind --interval",
    "serve": "where it listens stands behind --listen, as in: --listen tcp:10040:interface=127.0.0.1",
    **dict.fromkeys(
        ("database create", "database check", "database upgrade", "database stats"),
        "which database is meant stands behind --database",
    ),
}
_TOO_MANY_OF_VERB: Mapping[str, str] = {
    **dict.fromkeys(("show", "find", "add", "remove", "rename", "backup", "restore"), "one at a time"),
    "list": "a list is narrowed by one text, in which * stands for any characters",
}
# What is said without an option of other programs, and is the value of one here.
_VALUES: Mapping[str, str] = {
    **dict.fromkeys(("accept", "reject"), "--unlisted"),
    **dict.fromkeys(("insiders", "domain", "nobody"), "--receive"),
    **dict.fromkeys(("csv", "jsonl", "ldif", "list", "postfix", "exchange-csv"), "--format"),
    **dict.fromkeys(("outside", "anyone"), "--to"),
}
_NAMES_OF_OPTIONS: Mapping[str, str] = {"alias": "--alias-of", "from": "--accept", "for": "--until"}
_TEXTS = ("--reason", "--comment")
_LISTS = ("--accept", "--except", "--except-sender", "--to")
_MISSING = re.compile(r"there is no (?:mailbox|group) (?P<name>\S+)|(?P<address>\S+) is no mailbox's address")


def extra_hint(path: Sequence[str], typed: Sequence[str], extra: Sequence[str], options: Iterable[str]) -> str:
    """What is meant by the *extra* words, of those *typed* behind the command *path*, which has the *options*.

    "" where nobody knows.
    """
    verb, known = path[-1], frozenset(options)
    if verb == "rename" and len(typed) == 3 and typed[1].lower() in ("to", "as", "in"):
        return f"type: policyd {join([*path, typed[0], typed[2]])}"
    if option := _option_named(extra[0], known):
        return f"type: {option}"
    return _TOO_MANY.get(" ".join(path), _TOO_MANY_OF_VERB.get(verb, ""))


def missing_hint(fact: str, typed: Sequence[str], options: Iterable[str]) -> str:
    """What is meant by the word of those *typed* that is no mailbox or group, as *fact* says; "" where nobody knows."""
    found = _MISSING.match(fact)
    word = (found["name"] or found["address"]).rstrip(";") if found else ""
    if word not in typed:
        return ""

    # It may belong to the word behind it, or to the option before it.
    if word.lower() == "group" and typed[-1] != word:
        return f"a group is written {join([f'group:{typed[typed.index(word) + 1]}'])}"
    before = [*typed[: typed.index(word)]]
    places = [place for place, each in enumerate(before) if each.startswith("--")]
    last = before[places[-1]] if places else ""
    if last in (*_TEXTS, *_LISTS) and len(before) - places[-1] > 1:
        if last in _LISTS:
            return f"{last} stands in front of each; type: {join([last, before[places[-1] + 1], last, word])}"
        behind = [*typed[places[-1] + 1 :]]
        end = next((place for place, each in enumerate(behind) if each.startswith("-")), len(behind))
        return f"several words are one text in quotes; type: {join([last, ' '.join(behind[:end])])}"

    # Or be one, without its dashes; but a name stands first, and an option's value behind it.
    is_free = before and not before[-1].startswith("-")
    option = _option_named(word, frozenset(options)) if is_free else ""
    return f"type: {option}" if option else ""


def _option_named(word: str, known: frozenset[str]) -> str:
    """The option, of those *known*, that *word* names without its dashes, or is a value of; "" where it is neither."""
    name = word.lower().partition("=")[0]
    if f"--{name}" in known:
        return f"--{name}"
    if _NAMES_OF_OPTIONS.get(name) in known:
        return _NAMES_OF_OPTIONS[name]
    return f"{_VALUES[name]} {name}" if _VALUES.get(name) in known else ""

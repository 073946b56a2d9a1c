"""What to type instead of a command or an option that there is not: the words of other programs, and slips of a key."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from shlex import quote

_DOMAIN = re.compile(r"[\w-]+(?:\.[\w-]+)+")
_ALIKE = 0.75  # of 1: `--to` is no slip for `--json`

# Each of our verbs, with what others call the same.
_VERBS: Mapping[str, str] = {
    "add": "create new make insert register adduser useradd",
    "set": "change edit modify mod update alter comment note",
    "remove": "delete del rm drop destroy purge erase userdel deluser unregister",
    "rename": "mv move ren",
    "show": "get view info display print cat details status members read",
    "list": "ls all dir index",
    "restrict": "close lock protect limit restricted internal private lockdown",
    "lift": "unrestrict unlock release unlimit unprotect derestrict free reset unopen",
    "open": "public publish expose",
    "accept": "allow permit whitelist allowlist welcomelist trust let pass",
    "unaccept": "disallow unallow unpermit unwhitelist distrust revoke untrust",
    "join": "enter add-member addmember include",
    "leave": "part quit remove-member removemember exclude",
    "find": "lookup resolve search which whose locate grep",
    "block": "ban deny denylist reject refuse blacklist blocklist forbid prohibit disable suspend mute discard",
    "unblock": "unban undeny unreject unblacklist unblocklist unforbid enable unsuspend unmute reinstate",
    "except": "exempt exception excluding",
    "unexcept": "unexempt",
    "backup": "save snapshot",
    "restore": "recover",
    "create": "init initialize initdb setup install",
    "upgrade": "migrate update",
    "check": "verify test fsck validate",
    "stats": "status info count counts size",
}
# What a verb is of another noun: the noun that has it, and the verb there.
_ELSEWHERE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "domain": {
        "block": ("sender block @DOMAIN",),
        "unblock": ("sender unblock @DOMAIN",),
        "open": ("domain lift", "mailbox open"),
        "find": ("domain list",),
        "alias": ("domain add ALIAS --alias-of DOMAIN",),
        "rename": ("domain add", "domain remove"),
    },
    "group": {
        "block": ("sender block group:NAME",),
        "unblock": ("sender unblock group:NAME",),
        "open": ("group lift", "mailbox open"),
        "find": ("group list",),
    },
    "mailbox": {
        "block": ("sender block",),
        "unblock": ("sender unblock",),
        "except": ("sender except",),
        "join": ("group join",),
        "leave": ("group leave",),
        "find": ("mailbox list", "address find"),
        "alias": ("address add",),
        "address": ("address add",),
        "aliases": ("address list",),
        "addresses": ("address list",),
    },
    "address": {
        "show": ("address find",),
        "block": ("sender block",),
        "unblock": ("sender unblock",),
        "set": ("address remove", "address add"),
        "rename": ("address add", "address remove"),
        "restrict": ("mailbox restrict",),
        "lift": ("mailbox lift",),
        "open": ("mailbox open",),
        "accept": ("mailbox accept",),
        "alias": ("address add",),
    },
    "sender": {
        "add": ("sender block",),
        "remove": ("sender unblock",),
        "set": ("sender block",),
        "rename": ("sender unblock", "sender block"),
        "find": ("sender list", "sender show"),
        "restrict": ("mailbox restrict", "sender block"),
        "lift": ("sender unblock",),
        "open": ("sender unblock",),
        "accept": ("sender unblock", "mailbox accept"),
        "unaccept": ("sender block", "mailbox unaccept"),
    },
    "database": {
        "show": ("database stats",),
        "list": ("database stats",),
        "add": ("database create",),
        "export": ("export",),
        "import": ("import",),
        "dump": ("export", "database backup"),
        "load": ("import", "database restore"),
        "undo": ("undo",),
    },
}
# Verbs without a noun.
_ALONE: Mapping[str, tuple[str, ...]] = {
    "add": ("mailbox add", "domain add"),
    "set": ("mailbox set",),
    "remove": ("mailbox remove",),
    "rename": ("mailbox rename",),
    "show": ("mailbox show", "sender show"),
    "list": ("mailbox list", "sender list"),
    "restrict": ("mailbox restrict",),
    "lift": ("mailbox lift",),
    "open": ("mailbox open",),
    "accept": ("mailbox accept", "sender unblock"),
    "unaccept": ("mailbox unaccept",),
    "join": ("group join",),
    "leave": ("group leave",),
    "find": ("address find",),
    "block": ("sender block",),
    "unblock": ("sender unblock",),
    "except": ("sender except",),
    "unexcept": ("sender unexcept",),
    "backup": ("database backup",),
    "restore": ("database restore",),
    "create": ("database create",),
    "upgrade": ("database upgrade",),
    "stats": ("database stats",),
}
_OF_EACH = ("add", "set", "remove", "rename", "show", "list")  # verbs that each noun has, or a word for
# What the nouns, and the commands without one, are called elsewhere.
_NOUNS: Mapping[str, str] = {
    "mailbox": "mailboxes mbox user users account accounts person people recipient recipients inbox",
    "domain": "domains transport relay",
    "group": "groups team teams lists maillist mailinglist",
    "address": "addresses alias aliases email emails",
    "sender": "senders blocked blocks clients",
    "database": "db sql sqlite tables",
    "check": "test explain query ask try simulate policy verify",
    "serve": "server start run daemon up service listen",
    "import": "load read bulk ingest",
    "export": "save dump write",
    "report": "summary digest pflogsumm logwatch",
    "why": "reason because trace",
    "history": "log logs journal audit changes changelog trail events",
    "undo": "revert rollback back takeback",
}
_IN_FORCE = "nothing to type: a change is in force when its command returns"
_TOLD: Mapping[str, str] = {
    **dict.fromkeys(("reload", "refresh", "flush", "apply", "commit", "postmap"), _IN_FORCE),
    **dict.fromkeys(("restart", "stop", "kill", "shutdown"), "the daemon is a service: systemctl COMMAND policyd"),
    "status": "type: systemctl status policyd, or: policyd database stats",
    "version": "type: policyd --version",
}
_HELP = frozenset({"help", "usage", "man", "manual", "?", "/?", "--?"})
_OPTIONS: Mapping[str, str] = {
    "--accept": "--allow --permit --whitelist --allowlist --trust --from --sender --let",
    "--except": "--allow --permit --whitelist --exempt --exclude --but --unless",
    "--except-sender": "--except-from --allow-sender --allow-from --exclude-sender",
    "--receive": "--from-whom --who --mode --level --restrict",
    "--reason": "--message --msg --text --why --because --reject-text --bounce",
    "--until": "--till --expire --expires --expiry --end --ends --for --duration --ttl --to-date",
    "--comment": "--note --notes --description --desc --remark -m",
    "--to": "--recipient --recipients --rcpt --target --towards",
    "--recipient": "--to --rcpt --rcpt-to -r",
    "--sender": "--from --mail-from -f -s",
    "--login": "--user --username --sasl --sasl-username --auth -u",
    "--client-address": "--ip --client --address --host -i",
    "--context": "--policy-context",
    "--dry-run": "--dryrun --test --simulate --pretend --check -n",
    "--yes": "--force --assume-yes --confirm -y -f",
    "--unlisted": "--unknown --catch-all --catchall --default",
    "--alias-of": "--alias --target --of",
    "--format": "--type --as -t -f",
    "--output": "--out --file --to-file",
    "--add-domains": "--create-domains --with-domains",
    "--database": "--db --database-file -d",
    "--config": "--conf --settings --config-file -c",
    "--version": "-V",
    "--help": "-? --usage -help",
    "--verbose": "--debug -vv",
    "--limit": "--last --max --count --lines -n",
    "--since": "--from --after --start",
    "--domain": "--default-domain --in",
    "--expired": "--ended --all --old",
    "--listen": "--port --socket --bind",
    "--object": "--of --for --name",
}
_INSTEAD: Mapping[tuple[str, str], str] = {
    ("block", "--from"): "who may not send stands first: policyd sender block SENDER --to RECIPIENT",
    ("block", "--accept"): "to let some recipients be reached all the same: --except; some senders: --except-sender",
    ("restrict", "--to"): "to whom mail is restricted stands first, who may still send behind --accept",
    ("accept", "--to"): "the mailbox, group or domain stands first, who may send to it behind it",
}


def command_hint(path: tuple[str, ...], word: str, following: Iterable[str], known: Iterable[str]) -> str:
    """What to type instead of *word* behind *path*, as `mailbox`, where the *known* commands are.

    *following* are the words behind it. "" where nobody knows.
    """
    word, rest = word.lower(), [each for each in following if not each.startswith("-")]
    if word in _HELP:
        return _type(" ".join([*path, *rest[:2], "--help"]) if len(path) < 2 else "")
    if not path:
        return _top_hint(word, rest[:1], [*known])
    return _verb_hint(path[-1], word, rest[:1], [*known])


def option_hint(verb: str, option: str, known: Iterable[str], commands: Iterable[str] = ()) -> str:
    """What to type instead of *option* of a command *verb* that has the options *known*; "" where nobody knows.

    Of policyd itself, it may be one of the *commands*.
    """
    name = option.lower() if option.startswith("--") else option
    if name.removeprefix("--") in commands:
        return _type(name.removeprefix("--"))
    options = [*known]
    meant = [each for each in options if name in _OPTIONS.get(each, "").split()]
    if meant:
        return f"type: {', or: '.join(meant)}"
    for word in (name, _meaning(_OPTIONS, name)):
        if (verb, word) in _INSTEAD:
            return _INSTEAD[verb, word]
    alike = get_close_matches(name, options, cutoff=_ALIKE) if name.startswith("--") else []
    return f"type: {', or: '.join(alike)}" if alike else ""


def _top_hint(word: str, following: list[str], known: list[str]) -> str:
    """What is meant by *word* where a noun is wanted."""
    # An address alone is asked about; and a verb may stand in front of its noun.
    if "@" in word:
        return _type(f"check {quote(word)}")
    noun = _meaning(_NOUNS, following[0].lower()) if following else ""
    if noun in _ELSEWHERE and (verb := _meaning(_VERBS, word)) in _OF_EACH:
        return _type(*_ELSEWHERE[noun].get(verb, (f"{noun} {verb}",)))

    # The noun by another name, with its verb, if one follows.
    if (noun := _meaning(_NOUNS, word)) in known and word not in _ALONE:
        verb = _meaning(_VERBS, following[0].lower()) if following else ""
        return _type(f"{noun} {verb}".rstrip() if noun in _ELSEWHERE else noun)
    if word in _TOLD:
        return _TOLD[word]

    # A verb, of the noun that it is used with most; it may be glued to a noun, as in mailbox-add.
    verb = _meaning(_VERBS, word)
    if verb in ("block", "unblock") and following and _DOMAIN.fullmatch(following[0]):
        return _type(f"sender {verb} @{following[0]}")
    if verb in _ALONE:
        return _type(*_ALONE[verb])
    head, _, tail = word.replace("_", "-").replace(":", "-").partition("-")
    for noun, glued in ((head, tail), (tail, head)):
        if noun in _ELSEWHERE and _meaning(_VERBS, glued):
            return _type(f"{noun} {_meaning(_VERBS, glued)}")

    # A slip of a key.
    alike = _alike(word, [*known, *_ALONE])
    return _type(*_ALONE.get(alike, (alike,))) if alike else ""


def _verb_hint(noun: str, word: str, following: list[str], known: list[str]) -> str:
    """What is meant by *word* behind *noun*, which has the verbs *known*; *following* is the word behind it, if any."""
    elsewhere = _ELSEWHERE.get(noun, {})
    meant = [verb for verb, words in _VERBS.items() if word == verb or word in words.split()]
    if own := [verb for verb in meant if verb in known]:
        return _type(*(f"{noun} {verb}" for verb in own))
    for verb in (word, *meant):
        if verb in elsewhere:
            return _type(*elsewhere[verb])
    if alike := _alike(word, known):
        return _type(f"{noun} {alike}")

    # It may be whom the command is about: the verb comes behind, or nothing.
    behind = _meaning(_VERBS, following[0].lower()) if following else ""
    if behind in known:
        return _type(f"{noun} {behind} {quote(word)}")
    if noun == "domain" and _DOMAIN.fullmatch(word):
        return _type(f"domain show {quote(word)}")
    return _type(f"address find {quote(word)}") if noun == "address" and "@" in word else ""


def _meaning(words: Mapping[str, str], word: str) -> str:
    """Our word for *word*, "" where there is none."""
    return word if word in words else next((ours for ours, theirs in words.items() if word in theirs.split()), "")


def _alike(word: str, known: list[str]) -> str:
    """Which of *known* a slip of a key made *word* of, "" for none; never what undoes it."""
    same = [each for each in known if each.startswith("un") is word.startswith("un")]
    return next(iter(get_close_matches(word, same, 1, _ALIKE)), "")


def _type(*commands: str) -> str:
    return "type: " + ", or: ".join(f"policyd {command}".rstrip() for command in commands)

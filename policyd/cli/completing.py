"""What can be typed next on a command line: commands, options, and names out of the tables."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import click
from click.shell_completion import CompletionItem, ShellComplete

from policyd.address import fold
from policyd.cli.command import Invocation
from policyd.model import GROUP_PREFIX


@dataclass(frozen=True, slots=True)
class Names:
    """The names in a *table*, as they are typed behind *before*; and only where *needs* has been typed already."""

    table: str
    before: str = ""
    needs: str = ""

    def beginning(self, typed: str) -> str | None:
        """What a name would begin with where *typed* is there already; None where none can be meant."""
        if self.needs not in typed:
            return None
        if typed.startswith(self.before):
            return typed.removeprefix(self.before)
        return "" if self.before.startswith(typed) else None


_MAILBOXES = Names("mailbox")
_ADDRESSES = Names("address")
_ADDRESSES_OF_MAILBOXES = Names("address", needs="@")  # where names are typed more often

# What each kind of value can be.
KINDS = {
    "address": (_ADDRESSES,),
    "domain": (Names("domain"),),
    "group": (Names("mailbox_group"), Names("mailbox_group", before=GROUP_PREFIX, needs=":")),
    "name": (_MAILBOXES,),
    "mailbox": (_MAILBOXES, _ADDRESSES_OF_MAILBOXES),
    "party": (
        _MAILBOXES,
        _ADDRESSES_OF_MAILBOXES,
        Names("mailbox_group", before=GROUP_PREFIX),
        Names("domain", before="@", needs="@"),
    ),
}


def complete_names(ctx: click.Context, typed: str, kind: str) -> list[CompletionItem[str]]:
    """The names of this *kind*, one of `KINDS`, that *typed* may become."""
    from policyd.admin.names import find_names

    call = ctx.ensure_object(Invocation)
    database = call.database or os.environ.get("POLICYD_DATABASE")
    found = []
    for each in KINDS[kind]:
        beginning = each.beginning(fold(typed))
        if beginning is not None:
            names = find_names(each.table, beginning, settings_file=call.settings_file, database=database)
            found += [CompletionItem(each.before + name) for name in names]
    return found


@dataclass(frozen=True, slots=True)
class Offer:
    """What a word may become: `items`, a value and a few words on it each; or a file, or a folder."""

    items: Sequence[tuple[str, str]] = ()
    is_file: bool = False
    is_folder: bool = False


def offer(main: click.Command, words: Sequence[str], typed: str) -> Offer:
    """What *typed*, behind these *words* of a command line, may become; nothing where nobody knows."""
    try:
        found = ShellComplete(main, {}, "policyd", "").get_completions([*words], typed)
    except Exception:  # noqa: BLE001 - whatever is wrong with the line, its author is still typing it
        return Offer()

    # The shell knows what files there are.
    kinds = {item.type for item in found}
    if kinds & {"file", "dir"}:
        return Offer(is_file="file" in kinds, is_folder="dir" in kinds)

    # A value behind `--option=` is part of the same word. What doesn't print could be something else than it seems.
    option, sign, _ = typed.partition("=")
    before = option + sign if sign and option.startswith("--") else ""
    return Offer([(before + item.value, item.help or "") for item in found if _can_be_typed(item.value, typed)])


def _can_be_typed(value: str, typed: str) -> bool:
    """Whether *value* stands for itself on a command line; a name with a `-` in front would be taken for an option."""
    return value.isprintable() and (not value.startswith("-") or typed.startswith("-"))

"""Parameter types: they turn what is typed into values in normal form, or say in one line how to type it."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from policyd.address import (
    internal_address,
    is_group,
    name_after,
    normal_client,
    normal_domain,
    normal_group,
    normal_name,
    normal_text,
    parse_address,
    parse_party,
)
from policyd.errors import AddressError
from policyd.model import Party, PartyKind
from policyd.timestamps import read_when

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from policyd.endpoint import Endpoint


class Number(click.IntRange):
    """A whole number within bounds."""

    name = "number"  # click says of what is none that it is no valid "integer range"


class _Parsed(click.ParamType[str]):
    """A type whose values *parse* makes, or refuses with AddressError; completed by names of the kind *completed*."""

    def __init__(self, name: str, parse: Callable[[str], str], completed: str = "") -> None:
        self.name = name
        self._parse = parse
        self._completed = completed

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value in normal form."""
        try:
            return self._parse(value)
        except AddressError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> "list[CompletionItem[str]]":
        """The names that *incomplete* may become; none of what is new, or no name."""
        if not self._completed:
            return []
        return _names(ctx, incomplete, self._completed)


class PartyType(click.ParamType[Party]):
    """A mailbox, a group, a pattern, or one of the reserved *words*."""

    def __init__(self, name: str, *words: PartyKind) -> None:
        self.name = name
        self._words = words

    def convert(self, value: str | Party, param: click.Parameter | None, ctx: click.Context | None) -> Party:
        """The party, without a number."""
        if isinstance(value, Party):
            return value
        try:
            return parse_party(value, *self._words)
        except AddressError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> "list[CompletionItem[str]]":
        """The words and names that *incomplete* may become."""
        from click.shell_completion import CompletionItem

        words = [CompletionItem(word.value) for word in self._words if word.value.startswith(incomplete)]
        return words + _names(ctx, incomplete, "party")


class EndpointType(click.ParamType["Endpoint"]):
    """Where a daemon listens."""

    name = "endpoint"

    def convert(self, value: "str | Endpoint", param: click.Parameter | None, ctx: click.Context | None) -> "Endpoint":
        """The endpoint."""
        from policyd.endpoint import parse_endpoint  # of many commands, few take one

        if not isinstance(value, str):
            return value
        try:
            return parse_endpoint(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class FilePath(click.Path):
    """The path of a file, with click's options for one; `-` is a stream, and `./-` a file by that name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; one that pathlib would shorten to `-` is made absolute."""
        path: Any = super().convert(value, param, ctx)
        return Path.cwd() / path if str(path) == "-" != os.fspath(value) else path


def _names(ctx: click.Context, typed: str, kind: str) -> "list[CompletionItem[str]]":
    """The names of this *kind* that *typed* may become."""
    from policyd.cli.completing import complete_names

    return complete_names(ctx, typed, kind)


def complete_folder(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem[str]]":
    """That *incomplete* becomes a folder, which the shell looks for."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def is_text(typed: str) -> bool:
    """Whether *typed* is UTF-8, as all that is stored."""
    try:
        typed.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_stored(typed: str, kind: click.ParamType[str], is_stored: Callable[[str], object]) -> str:
    """*typed*, to be taken away: of *kind* in normal form, unless it *is_stored* as it was typed.

    What is not in normal form was stored by an earlier policyd or by hand. Raises click.BadParameter where it is
    neither.
    """
    return typed if is_text(typed) and is_stored(typed) else kind.convert(typed, None, click.get_current_context())


class When(click.ParamType[int]):
    """A time in Unix seconds, from an ISO date or date-time (local unless it says) or a span like +30d.

    Only times to come if *is_future*, and then also `never`, which is 0; else only times that have been. A date
    alone is the end of that day if *is_future*, else its beginning.
    """

    name = "when"

    def __init__(self, *, is_future: bool) -> None:
        self._is_future = is_future

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The time in Unix seconds."""
        if isinstance(value, int):
            return value
        if self._is_future and value == "never":
            return 0
        now = time.time()
        try:
            moment = read_when(value, now, is_end=self._is_future)
        except ValueError:
            example = "+30d, +12h or never" if self._is_future else "-30d or -12h"
            self.fail(f"{value!r} is not a time; type 2026-12-31, '2026-12-31 18:00', {example}", param, ctx)
        if self._is_future is (moment <= now):
            self.fail(f"{value!r} is {'past' if self._is_future else 'still to come'}", param, ctx)
        return moment


def _mailbox(text: str) -> str:
    """The name of a mailbox, or one of its addresses."""
    if is_group(text):
        raise AddressError(f"{text} is a group, which has its own commands: policyd group --help")
    if text.startswith("@"):
        raise AddressError(f"{text} is a domain, which has its own commands: policyd domain --help")
    return str(parse_address(text)) if "@" in text else normal_name(text)


def _new_mailbox(text: str) -> str:
    """The name of a mailbox to be made; of an address, a line that says how to make its mailbox."""
    try:
        return normal_name(text)
    except AddressError as error:
        if is_group(text) or not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", text):
            raise
        name = name_after(str(parse_address(text)))
        raise AddressError(f"{error}; type: policyd mailbox add {quote(name)} {quote(text)}") from error


def _remark(text: str) -> str:
    return normal_text(text, "the text").strip()


ADDRESS = _Parsed("address", lambda text: str(parse_address(text)), "address")
NEW_ADDRESS = _Parsed("address", lambda text: str(parse_address(text)))
INTERNAL_ADDRESS = _Parsed("address", internal_address, "address")
CLIENT = _Parsed("IP address", normal_client)
DOMAIN = _Parsed("domain", normal_domain, "domain")
NEW_DOMAIN = _Parsed("domain", normal_domain)
NAME = _Parsed("name", normal_name, "name")
NEW_NAME = _Parsed("name", normal_name)
NEW_MAILBOX = _Parsed("name", _new_mailbox)
MAILBOX = _Parsed("name", _mailbox, "mailbox")
GROUP = _Parsed("group", normal_group, "group")
NEW_GROUP = _Parsed("group", normal_group)
PARTY = PartyType("party")
ENDPOINT = EndpointType()
SENDER = PartyType("sender", PartyKind.ANYONE)
RECIPIENTS = PartyType("recipients", PartyKind.OUTSIDE, PartyKind.ANYONE)
TEXT = _Parsed("text", _remark)
UNTIL = When(is_future=True)
SINCE = When(is_future=False)

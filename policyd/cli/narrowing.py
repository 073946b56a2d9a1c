"""What every list takes: a text or glob, a domain, and how many."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from policyd.cli.types import DOMAIN, Number

_Function = TypeVar("_Function", bound=Callable[..., Any])

text_argument = click.argument("text", default="")
limit_option = click.option(
    "--limit", metavar="N", type=Number(1, 2**31), help="Only the first N; if there are more, that is said."
)


def domain_option(meaning: str) -> Callable[[_Function], _Function]:
    """The option --domain, with what it means for the list."""
    return click.option("--domain", type=DOMAIN, help=meaning)


def narrowing(domain_means: str) -> Callable[[_Function], _Function]:
    """Give a list what every list takes: `text`, `domain` and `limit`."""
    return lambda function: text_argument(domain_option(domain_means)(limit_option(function)))

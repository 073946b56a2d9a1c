"""What one setting may be: a value as TOML has it -> a checked one, or ValueError with what is allowed."""

import os
import re
from collections.abc import Callable
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from policyd.address import check_text, domain_for_postfix, normal_domain
from policyd.endpoint import Endpoint, parse_endpoint

WORKERS_LIMIT = 64


def text(value: object) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r}: must be a text in quotes")
    return value


def texts(value: object) -> list[str]:
    """Any list of texts."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{value!r}: must be a list of texts in quotes")
    return value


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r}: allowed are true and false")
    return value


def number(least: int, most: int) -> Callable[[object], int]:
    """A whole number from *least* to *most*."""

    def check(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{value!r}: allowed are {least} to {most}")
        return value

    return check


def choice(kind: type[StrEnum]) -> Callable[[object], StrEnum]:
    """One of the words of *kind*."""

    def choose(value: object) -> StrEnum:
        if not isinstance(value, str) or value not in [*kind]:
            raise ValueError(f"{value!r}: allowed are {', '.join(kind)}")
        return kind(value)

    return choose


def database(value: object) -> str:
    """The URL of a database, from one or from a path."""
    typed = text(value)
    path = typed.removeprefix("sqlite:///")
    if not path or "://" in path or path.startswith(":memory:") or "\0" in path:
        raise ValueError(f"{typed!r}: must be sqlite:////absolute/path.db, or a path")
    return f"sqlite:///{Path(path).absolute()}"


def database_in_file(value: object) -> str:
    """The same where there is no folder for a path to begin in."""
    typed = text(value)
    if not typed.removeprefix("sqlite:///").startswith("/"):
        raise ValueError(f"{typed!r}: must be sqlite:////absolute/path.db")
    return database(typed)


def account(value: object) -> str:
    """The name of a user or a group, which need not be on this machine, or ""."""
    typed = text(value)
    if not re.fullmatch(r"[^\s:/,\0]*", typed) or not typed.isprintable():
        raise ValueError(f"{typed!r}: must be a name, as in /etc/passwd or /etc/group")
    return typed


def delimiters(value: object) -> str:
    """Postfix's `recipient_delimiter`."""
    typed = text(value)
    if any(each.isalnum() or each == "@" or not each.isprintable() or each == " " for each in typed):
        raise ValueError(f"{typed!r}: must be a set of punctuation characters, as Postfix's recipient_delimiter")
    return typed


def origin(value: object) -> str:
    """A domain in normal form, or as it was typed where Postfix takes that for another one; or ""."""
    if not (typed := text(value)):
        return ""
    normal = normal_domain(typed)
    return normal if domain_for_postfix(typed) == normal else typed


def networks(value: object) -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks of either kind."""
    typed = texts(value)
    try:
        return tuple(map(ip_network, typed))
    except ValueError as error:
        raise ValueError(f"{error}; must be networks such as 192.0.2.0/24 and 2001:db8::/32") from error


def contexts(value: object) -> frozenset[str]:
    """Values of Postfix's `policy_context`."""
    typed = texts(value)
    if "" in typed:
        raise ValueError('"" would make everybody an insider; name the policy_context that you set in master.cf')
    return frozenset(typed)


def local_parts(value: object) -> frozenset[str]:
    """Local parts of addresses."""
    for each in texts(value):
        if not each or "@" in each:
            raise ValueError(f"{each!r}: must be local parts, without @ and domain")
        check_text(each, "the local part")
    return frozenset(texts(value))


def syslog(value: object) -> str:
    """Where the audit goes."""
    typed = text(value)
    port = re.fullmatch(r"udp:.+:(\d{1,5})", typed)
    is_unix = re.fullmatch(r"unix:/[^\0]+", typed)
    if not (typed in ("stderr", "none") or is_unix or (port and 0 < int(port[1]) < 65536)):
        raise ValueError(f"{typed!r}: allowed are unix:/path, udp:HOST:PORT, stderr and none")
    return typed


def listen(value: object) -> tuple[Endpoint, ...]:
    """Endpoints."""
    return tuple(map(parse_endpoint, texts(value)))


def workers(value: object) -> int:
    """How many processes."""
    if value == "auto":
        return min(WORKERS_LIMIT, len(os.sched_getaffinity(0)))
    if type(value) is not int or not 1 <= value <= WORKERS_LIMIT:
        raise ValueError(f'{value!r}: allowed are 1 to {WORKERS_LIMIT}, and "auto" for one each processor')
    return value

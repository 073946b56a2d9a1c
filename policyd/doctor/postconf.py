"""Reads a Postfix configuration through postconf(1): parameters, services, and what postconf complains about.

Postfix's own program resolves comments, continuation lines, `$name`, `${name?a:b}` and `-o` in braces, so that nothing
here reads main.cf or master.cf. It needs no root where the files are readable.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from policyd.doctor.words import split_words
from policyd.errors import PostfixError
from policyd.files import open_to_read

_SECONDS = 30
_CHROOT_LEVEL = 1.0  # below it, "-" in the column chroot is "y"
_MASTER_COLUMNS = 7  # before the command
_SMTPD = "smtpd"
_PAIR = re.compile(r"(\S+) =(?: (.*))?")
_OVERRIDE = re.compile(r"(\S+/[a-z-]+)/(\S+) =(?: (.*))?")
_WITH_VALUE = "eimostz"  # options of a Postfix daemon that take a value; source: single_server.c
_UNDEFINED = re.compile(r"undefined parameter: (\S+)")
_UNUSED = re.compile(r"(?:(\S+): )?unused parameter: ([^=\s]+)=(.*)")
_TWICE = re.compile(r"overriding earlier entry: ([^=\s]+)=")


@dataclass(frozen=True, slots=True)
class Service:
    """A service of master.cf.

    `name` is `NAME/TYPE`, as `postconf -P` takes it; `stray` are the words of the command that Postfix takes for no
    option. `overrides` are its `-o`, as written; `values` are all parameters as it has them, expanded. Both are empty
    for what is no smtpd.
    """

    name: str
    command: str
    arguments: tuple[str, ...]
    is_chrooted: bool
    stray: tuple[str, ...]
    overrides: Mapping[str, str]
    values: Mapping[str, str]

    @property
    def endpoint(self) -> str:
        """Where it listens: `smtp`, `127.0.0.1:10025`, or the name of a socket."""
        return self.name.rpartition("/")[0]

    @property
    def type(self) -> str:
        """`inet`, `unix` or `pass`, of those that speak SMTP."""
        return self.name.rpartition("/")[2]

    @property
    def port(self) -> str:
        """The port, as it is written, where it listens at one: `smtp`, `10025`."""
        return self.endpoint.rpartition(":")[2]

    @property
    def is_smtpd(self) -> bool:
        """Whether mail comes in through it."""
        return self.command == _SMTPD and self.type in ("inet", "pass", "unix")


@dataclass(frozen=True)
class Instance:
    """One Postfix: the folder of its configuration, its parameters as written and expanded, and its services."""

    folder: Path
    raw: Mapping[str, str]
    values: Mapping[str, str]
    services: tuple[Service, ...]
    complaints: tuple[str, ...]

    @cached_property
    def smtpd(self) -> tuple[Service, ...]:
        """The services through which mail comes in."""
        return tuple(service for service in self.services if service.is_smtpd)

    @cached_property
    def undefined(self) -> tuple[str, ...]:
        """Parameters that are named and that nobody has given a value."""
        return _each(match[1] for line in self.complaints if (match := _UNDEFINED.search(line)))

    @cached_property
    def unused(self) -> Mapping[str, str]:
        """Parameters that nothing names, with their values."""
        return {match[2]: match[3] for line in self.complaints if (match := _UNUSED.search(line))}

    @cached_property
    def set_twice(self) -> tuple[str, ...]:
        """Parameters that main.cf has twice; the later value counts."""
        return _each(match[1] for line in self.complaints if (match := _TWICE.search(line)))

    @property
    def queue(self) -> Path:
        """The queue directory, in which smtpd is where it is chrooted."""
        return Path(self.values["queue_directory"])

    @property
    def level(self) -> float:
        """The compatibility level, as far as a number says it."""
        match = re.match(r"\d+(\.\d+)?", self.values.get("compatibility_level", "0"))
        return float(match[0]) if match else 0.0

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the program that read it."""
        return tuple(map(int, re.findall(r"\d+", self.values.get("mail_version", ""))[:2]))

    @property
    def others(self) -> tuple[Path, ...]:
        """The folders of the other instances that this one starts."""
        return tuple(map(Path, split_words(self.values.get("multi_instance_directories", ""))))


def read_instances(folder: Path | None, unseen: list[str]) -> list[Instance]:
    """The instance configured in *folder*, or in Postfix's own, and those that it starts. Raises PostfixError.

    Of those that it starts, what can't be read is added to *unseen*.
    """
    first = read_instance(folder)
    found = [first]
    for other in first.others:
        if other == first.folder:
            continue
        try:
            found.append(read_instance(other))
        except PostfixError as error:
            unseen.append(f"{other} of multi_instance_directories: {error}")
    return found


def read_instance(folder: Path | None = None) -> Instance:
    """The instance configured in *folder*, or in Postfix's own. Raises PostfixError."""
    complaints: dict[str, None] = {}

    def ask(*words: str) -> list[str]:
        lines, said = run_postconf(folder, *words)
        complaints.update(dict.fromkeys(said))
        return lines

    raw, values = _pairs(ask()), _pairs(ask("-x"))
    # What nothing names is left out of both, and yet a list may hold it, where nobody declared it as a class.
    for line in complaints:
        if (match := _UNUSED.search(line)) and (match[1] or "").endswith("main.cf"):
            raw.setdefault(match[2], match[3])
            values.setdefault(match[2], match[3])
    overrides: dict[str, dict[str, str]] = {}
    for line in ask("-P"):
        if match := _OVERRIDE.fullmatch(line):
            overrides.setdefault(match[1], {})[match[2]] = match[3] or ""
    instance = Instance(Path(values["config_directory"]), raw, values, (), ())
    services = [_service(line, overrides, instance) for line in ask("-M")]

    # What a service has is asked with its own -o: another parameter may name one that it overrides.
    services = [
        _with_values(each, {**values, **_pairs(ask(*_as_options(each.overrides), "-x"))} if each.overrides else values)
        if each.is_smtpd
        else each
        for each in services
    ]
    told = [line for line in complaints if not _is_of_options(line, services)]
    return Instance(instance.folder, raw, values, tuple(services), tuple(told))


def run_postconf(folder: Path | None, *words: str) -> tuple[list[str], list[str]]:
    """The lines that `postconf` writes on stdout, and its warnings. Raises PostfixError."""
    postconf = find_program("postconf")
    if postconf is None:
        raise PostfixError("there is no postconf on this host: Postfix is not installed, or not in PATH")
    command = [postconf, *(["-c", str(folder)] if folder else []), *words]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise PostfixError(f"postconf took longer than {_SECONDS} seconds") from error
    except (OSError, ValueError) as error:
        raise PostfixError(f"postconf can't be run: {error}") from error
    said = [line.removeprefix("postconf: ") for line in done.stderr.splitlines()]
    if done.returncode != 0:
        raise PostfixError(f"postconf can't read Postfix's configuration: {said[-1] if said else 'it says nothing'}")
    return done.stdout.splitlines(), said


def read_named(path: str) -> str:
    """The text of a file that a parameter names. Raises OSError, also for a pipe that somebody else made."""
    with open_to_read(Path(path)) as file:
        return file.read().decode("utf-8", "replace")


def read_origin(instance: Instance) -> str:
    """With what Postfix completes a plain name: myorigin, or the first line of the file that it names.

    Raises OSError.
    """
    said = instance.values.get("myorigin", "")
    return read_named(said).partition("\n")[0].strip() if said.startswith("/") else said


def find_program(name: str) -> str | None:
    """The path of a program of Postfix's, which the PATH of a user may not have."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")


def _pairs(lines: Iterable[str]) -> dict[str, str]:
    return {match[1]: match[2] or "" for line in lines if (match := _PAIR.fullmatch(line))}


def _each(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _service(line: str, overrides: Mapping[str, Mapping[str, str]], instance: Instance) -> Service:
    """The service in a line of `postconf -M`."""
    columns = line.split(None, _MASTER_COLUMNS)
    name, kind, _, _, chroot = columns[:5]
    words = split_words(columns[_MASTER_COLUMNS], " \t") if len(columns) > _MASTER_COLUMNS else []
    command = os.path.basename(words[0]) if words else ""
    is_chrooted = chroot == "y" or (chroot == "-" and instance.level < _CHROOT_LEVEL)
    own = overrides.get(f"{name}/{kind}", {}) if command == _SMTPD else {}
    arguments = tuple(words[1:])
    return Service(f"{name}/{kind}", command, arguments, is_chrooted, _stray(arguments), own, {})


def _stray(arguments: Sequence[str]) -> tuple[str, ...]:
    """What is left of *arguments* behind the last option, as getopt(3) stops there."""
    left = list(arguments)
    while left and left[0].startswith("-") and left[0] != "-":
        option = left.pop(0)
        if option == "--":
            break
        if option[-1] in _WITH_VALUE and len(option) == 2:
            del left[:1]
    return tuple(left)


def _as_options(overrides: Mapping[str, str]) -> list[str]:
    return [word for name, value in overrides.items() for word in ("-o", f"{name}={value}")]


def _with_values(service: Service, values: Mapping[str, str]) -> Service:
    return Service(
        service.name,
        service.command,
        service.arguments,
        service.is_chrooted,
        service.stray,
        service.overrides,
        values,
    )


def _is_of_options(line: str, services: Iterable[Service]) -> bool:
    """Whether a complaint is about the -o with which postconf was asked, and not about a file."""
    match = _UNUSED.search(line)
    return bool(
        match
        and not (match[1] or "").endswith("master.cf")
        and any(service.overrides.get(match[2]) == match[3] for service in services)
    )

"""Reads the settings file: TOML -> Settings, with every mistake found at once and named by its key.

`Settings` and `AuditSettings` are the table of settings: of each its default, what may stand there, and what it is for.
Documentation is made from it (`SETTINGS`), and the file is read by it, in one loop.
"""

import dataclasses
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast
from urllib.parse import unquote

from policyd.address import domain_for_postfix, normal_domain, normal_realm, normal_text
from policyd.endpoint import NOT_GIVEN, Endpoint, Given, parse_endpoint
from policyd.errors import AddressError, SettingsError
from policyd.files import read_settings
from policyd.model import Mode, Rule
from policyd.reply import DEFAULT_TEXTS, template_problem

DEFAULT_FILE = Path("/etc/policyd/policyd.toml")
FACILITIES = {
    name: number
    for number, name in enumerate(
        ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"]
        + [""] * 4
        + [f"local{number}" for number in range(8)]
    )
    if name
}
WORKERS_LIMIT = 64
_BRACKETED = re.compile(r"\[([^]/]+)(?:\](/\d+)?|(/\d+)\])")  # [2001:db8::]/32 or [2001:db8::/32], as in mynetworks
_SERVER_URL = r"postgres(?:ql)?://."
_SECRET = r"password|secret|scram_"  # in the name of a parameter of libpq's
_KEYWORDS = re.compile(rf"\w*(?:{_SECRET})\w*\s*=", re.IGNORECASE)  # in what is no URL: libpq's other way to write it
_MAYBE_SECRET = re.compile(rf"//.*@|{_SECRET}", re.IGNORECASE)
_MAPPED_BITS = 96  # of ::ffff:0:0/96, the IPv4 addresses in IPv6 ones
_EXAMPLE_NETWORKS = '["192.0.2.0/24", "[2001:db8::]/32"]'

T = TypeVar("T")


class Decisions(StrEnum):
    """Which decisions are logged."""

    ALL = "all"
    REJECTS = "rejects"
    NONE = "none"


class LineFormat(StrEnum):
    """How a line of the audit looks."""

    TEXT = "text"
    JSON = "json"


# What a value may be


class Kind(NamedTuple, Generic[T]):
    """What may stand at a key: `read` checks a value as TOML has it, `allowed` is the documentation's text for it.

    `read` raises ValueError or AddressError, saying what is allowed. `allowed` is reStructuredText, and begins with
    the type.
    """

    read: Callable[[object], T]
    allowed: str


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)}: must be a text in quotes")
    return value


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{value!r}: must be a list of texts in quotes")
    return value


def _true_or_false(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r}: allowed are true and false")
    return value


def _number(least: int, most: int) -> Kind[int]:
    """A whole number from *least* to *most*."""

    def read(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{value!r}: allowed are {least} to {most}")
        return value

    return Kind(read, f"number: {least} to {most}")


Choice = TypeVar("Choice", bound=StrEnum)


def _choice(words: type[Choice]) -> Kind[Choice]:
    """One of *words*, as it is written there."""

    def read(value: object) -> Choice:
        if not isinstance(value, str) or value not in [*words]:
            raise ValueError(f"{value!r}: allowed are {', '.join(words)}")
        return words(value)

    return Kind(read, f"text: {', '.join(f'``{each}``' for each in words)}")


def _database(value: object) -> str:
    """The URL of a database, from one or from a path."""
    text = _text(value)
    if re.match(_SERVER_URL, text) and "\0" not in text:
        return text
    path = text.removeprefix("sqlite:///")
    is_path = path and "://" not in path and "\0" not in path and not _KEYWORDS.search(path)
    if not is_path or path.startswith((":memory:", "postgresql:", "postgres:")):
        raise ValueError(f"{_shown(text)}: must be sqlite:////absolute/path.db, a path, or postgresql://HOST/NAME")
    return f"sqlite:///{Path(path).absolute()}"


def _database_in_file(value: object) -> str:
    """The same where there is no folder in which a relative path could begin."""
    text = _text(value)
    if not re.match(_SERVER_URL, text) and not text.removeprefix("sqlite:///").startswith("/"):
        raise ValueError(f"{_shown(text)}: must be sqlite:////absolute/path.db, or postgresql://HOST/NAME")
    return _database(text)


def _shown(value: object) -> str:
    """A value that is none for its setting, as messages have it: not what may have a password in it."""
    shown = repr(value)
    return "a text that may have a password in it" if _MAYBE_SECRET.search(shown) else shown


def _absolute_path(value: object) -> Path | None:
    """A path, or None for ""."""
    if not (text := _text(value)):
        return None
    if not text.startswith("/") or "\0" in text:
        raise ValueError(f"{text!r}: must be an absolute path")
    return Path(text)


def _listen(value: object) -> tuple[Endpoint, ...]:
    return tuple(map(parse_endpoint, _texts(value)))


def _listen_or_one(value: object) -> tuple[Endpoint, ...]:
    """The same, where one endpoint needs no list around it; "" is none."""
    return _listen([value] if value else []) if isinstance(value, str) else _listen(value)


def _header(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9-]*", text):
        raise ValueError(f'{text!r}: must be the name of a header, as X-Remote-User, or ""')
    return text


def _workers(value: object) -> int:
    if value == "auto":
        return min(WORKERS_LIMIT, len(os.sched_getaffinity(0)))
    if type(value) is not int or not 1 <= value <= WORKERS_LIMIT:
        raise ValueError(f'{value!r}: allowed are 1 to {WORKERS_LIMIT}, and "auto" for one each processor')
    return value


def _account(value: object) -> str:
    """The name of a user or a group, which need not be on this machine, or ""."""
    text = _text(value)
    if not re.fullmatch(r"[^\s:/,\0]*", text) or not text.isprintable():
        raise ValueError(f"{text!r}: must be a name, as in /etc/passwd or /etc/group")
    return text


def _delimiters(value: object) -> str:
    text = _text(value)
    if any(each.isalnum() or each == "@" or not each.isprintable() or each == " " for each in text):
        raise ValueError(f"{text!r}: must be a set of punctuation characters, as Postfix's recipient_delimiter")
    return text


def _origin(value: object) -> str:
    """A domain in normal form, or as it was written where Postfix takes that for another one; or ""."""
    if not (text := _text(value)):
        return ""
    normal = normal_domain(text)
    return normal if domain_for_postfix(text) == normal else text


def _networks(value: object) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(_network, _texts(value)))


def _network(text: str) -> IPv4Network | IPv6Network:
    """A network as a person or Postfix's mynetworks writes it.

    Source: postconf(5), mynetworks; cidr_match_parse().
    """
    bracketed = _BRACKETED.fullmatch(text)
    try:
        network = ip_network(f"{bracketed[1]}{bracketed[2] or bracketed[3] or ''}" if bracketed else text)
    except ValueError as error:
        raise ValueError(_why_no_network(text, error)) from error
    # Postfix names a client by its IPv4 address, also where the system has it as an IPv6 one.
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))


def _why_no_network(text: str, error: ValueError) -> str:
    if text.startswith("!"):
        return f"{text!r}: exceptions are not known here; name the networks that are left without it"
    if re.match(r"/|[A-Za-z_]+:", text):
        return f"{text!r}: files and tables are not read here; name the networks that are in it"
    if re.search(r"[\s,]", text.strip()):
        return f"{text!r}: must be one network in each text, as in {_EXAMPLE_NETWORKS}"
    return f"{error}; must be networks such as 192.0.2.0/24 and 2001:db8::/32"


def _realms(value: object) -> frozenset[str]:
    for each in _texts(value):
        if not each.strip() or "@" in each or "\\" in each:
            raise ValueError(
                f"{each!r}: must be a realm as logins have it, such as EXAMPLE or example.local, without @ and \\"
            )
        normal_text(each, "the realm")
    return frozenset(map(normal_realm, _texts(value)))


def _contexts(value: object) -> frozenset[str]:
    texts = _texts(value)
    if "" in texts:
        raise ValueError('"" would make everybody an insider; name the policy_context that you set in master.cf')
    return frozenset(texts)


def _local_parts(value: object) -> frozenset[str]:
    for each in _texts(value):
        if not each or "@" in each:
            raise ValueError(f"{each!r}: must be local parts, without @ and domain")
        normal_text(each, "the local part")
    return frozenset(_texts(value))


def _syslog(value: object) -> str:
    text = _text(value)
    port = re.fullmatch(r"udp:.+:(\d{1,5})", text)
    is_unix = re.fullmatch(r"unix:/[^\0]+", text)
    if not (text in ("stderr", "none") or is_unix or (port and 0 < int(port[1]) < 65536)):
        raise ValueError(f"{text!r}: allowed are unix:/path, udp:HOST:PORT, stderr and none")
    return text


def _facility(value: object) -> str:
    if not isinstance(value, str) or value not in FACILITIES:
        raise ValueError(f"{value!r}: allowed are {', '.join(FACILITIES)}")
    return value


def _reply_text(value: object) -> str:
    template = _text(value)
    problem = template_problem(template)
    if problem:
        raise ValueError(f"{template!r} {problem}")
    return template


# The table of settings


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one key: `default` is the value where the file says nothing, `about` one line on its use."""

    default: object
    kind: Kind[Any]
    about: str


def _setting(default: T, kind: Kind[T], about: str) -> T:
    """A field for one key; the dataclass gets the default, `TABLES` all three."""
    return field(default=default, metadata={"setting": Setting(default, kind, about)})


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Table `[audit]`: what is logged, where to, and how."""

    decisions: Decisions = _setting(Decisions.ALL, _choice(Decisions), "which decisions are logged")
    syslog: str = _setting(
        "unix:/dev/log",
        Kind(_syslog, "text: ``unix:/path``, ``udp:HOST:PORT``, ``stderr``, ``none``"),
        "where the lines go",
    )
    facility: str = _setting(
        "mail",
        Kind(
            _facility,
            f"text: {', '.join(f'``{each}``' for each in FACILITIES if not each.startswith('local'))}, "
            "``local0`` to ``local7``",
        ),
        "under which facility syslog files them",
    )
    format: LineFormat = _setting(LineFormat.TEXT, _choice(LineFormat), "how a line looks")


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Table `[http]`: metrics and the pages, which are off where `listen` is empty."""

    listen: tuple[Endpoint, ...] = _setting(
        (),
        Kind(
            _listen_or_one,
            "text, or list of texts: ``unix:/path[:mode=660]``, ``tcp:PORT[:interface=ADDRESS]``, each with "
            "``[:backlog=N]``",
        ),
        "where metrics and the pages are; without it, nowhere",
    )
    token_file: Path | None = _setting(
        None,
        Kind(_absolute_path, 'text: an absolute path, or ``""``'),
        "the file with the token that whoever asks must have; needed where ``http.listen`` is not this machine only",
    )
    user_header: str = _setting(
        "",
        Kind(_header, 'text: the name of a header, as ``X-Remote-User``, or ``""``'),
        "the header in which a reverse proxy, on a unix socket, names the user that it let in",
    )
    refusals: int = _setting(
        10_000,
        _number(1, 1_000_000),
        "how many of the last refusals are kept for the pages, 2 KiB of memory each",
    )
    doctor_file: Path | None = _setting(
        cast("Path | None", Path("/var/lib/policyd/doctor.json")),
        Kind(_absolute_path, 'text: an absolute path, or ``""``'),
        "what ``policyd doctor`` found last, for the pages",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked. `listen` is empty where `endpoint.default_listen` shall choose."""

    database: str = _setting(
        "sqlite:////var/lib/policyd/policyd.db",
        Kind(
            _database_in_file,
            "text: ``sqlite:////absolute/path.db``, or the absolute path alone; or ``postgresql://HOST/NAME``, as "
            "PostgreSQL's own programs take it",
        ),
        "where the tables are",
    )
    replica: Path | None = _setting(
        None,
        Kind(_absolute_path, 'text: an absolute path, or ``""``'),
        "the file from which this host answers, and which follows a PostgreSQL ``database``; without it ``serve`` "
        "takes none",
    )
    password_file: Path | None = _setting(
        None,
        Kind(_absolute_path, 'text: an absolute path, or ``""``'),
        "the file with the password for a PostgreSQL database; without it, what systemd gives as the credential "
        "``database-password``, if anything",
    )
    allow_insecure_database: bool = _setting(
        False,
        Kind(_true_or_false, "true or false"),
        "whether a PostgreSQL server on another machine may be one that does not prove who it is "
        "(``sslmode=verify-full``)",
    )
    listen: tuple[Endpoint, ...] = _setting(
        (),
        Kind(
            _listen,
            "list of texts: ``unix:/path[:mode=660]``, ``tcp:PORT[:interface=ADDRESS]``, each with ``[:backlog=N]``",
        ),
        "where Postfix reaches the daemon",
    )
    workers: int = _setting(
        1,
        Kind(_workers, f'number: 1 to {WORKERS_LIMIT} processes that answer, or ``"auto"``, one each processor'),
        "how many processes share the connections",
    )
    allow_remote: bool = _setting(
        False,
        Kind(_true_or_false, "true or false"),
        "whether ``listen`` may name an address that is not loopback; anybody who reaches the port can map who has a "
        "mailbox",
    )
    user: str = _setting(
        "",
        Kind(_account, "text"),
        'the user that ``serve`` becomes when root starts it; root must say: ``"root"`` stays root',
    )
    group: str = _setting("", Kind(_account, "text"), 'the group to go with it; ``""`` for the user\'s own')
    max_connections: int = _setting(  # Postfix has 100 processes of a kind by default
        1000,
        _number(1, 65536),
        "connections at a time, of all workers together; for each one more, the one that has been idle for longest is "
        "closed, else the one whose request takes longest to come",
    )
    idle_seconds: int = _setting(  # Postfix keeps an idle connection for 300 s; it must be Postfix that closes it
        600,
        _number(1, 86400),
        "for so long a connection may ask nothing; longer than Postfix's ``smtpd_policy_service_max_idle``, 300 s",
    )
    request_seconds: int = _setting(  # Postfix sends a request in one piece, and reads the answer at once
        30, _number(1, 3600), "for so long one request may take to come, or answers to be read"
    )
    recipient_delimiter: str = _setting(
        "+",
        Kind(_delimiters, 'text: a set of punctuation characters; ``""`` for no extensions'),
        "what separates an extension from a local part, as in Postfix",
    )
    origin: str = _setting(
        "",
        Kind(_origin, "text: a domain"),
        "the domain of addresses and logins without one, as ``myorigin`` in Postfix",
    )
    login_realms: frozenset[str] = _setting(
        frozenset(),
        Kind(_realms, "list of texts: such as ``EXAMPLE`` or ``example.local``, in any case, without ``@`` and ``\\``"),
        "what is taken off a login that is no mailbox's address, in ``REALM\\login`` and ``login@realm``",
    )
    insider_networks: tuple[IPv4Network | IPv6Network, ...] = _setting(
        (ip_network("127.0.0.0/8"), ip_network("::1/128")),
        Kind(
            _networks,
            "list of texts: networks and addresses, IPv4 and IPv6, without host bits, ``2001:db8::/32`` or as "
            "Postfix's ``mynetworks`` has it, ``[2001:db8::]/32``",
        ),
        "clients in these are insiders",
    )
    insider_contexts: frozenset[str] = _setting(
        frozenset(),
        Kind(_contexts, "list of texts: ``policy_context`` values, none of them empty"),
        "clients of services with one of these are insiders",
    )
    always_accept: frozenset[str] = _setting(
        frozenset({"postmaster"}),
        Kind(_local_parts, "list of texts: local parts, without ``@``"),
        "recipients whom nobody may be kept from writing to",
    )
    mode: Mode = _setting(Mode.ENFORCE, _choice(Mode), "whether refusals are spoken, or only logged")
    audit: AuditSettings = AuditSettings()
    http: HttpSettings = HttpSettings()
    reply: Mapping[Rule, str] = field(default_factory=lambda: dict(DEFAULT_TEXTS))


_REPLY = Kind(
    _reply_text,
    "text, one for each rule that refuses; may hold ``{recipient}``, ``{sender}``, ``{mailbox}``, ``{reason}``, and "
    "begin with an enhanced status code 5.x.x of its own",
)


def _settings_of(table: type[Settings] | type[AuditSettings] | type[HttpSettings]) -> dict[str, Setting]:
    return {each.name: each.metadata["setting"] for each in dataclasses.fields(table) if each.metadata}


# The tables of the file, "" for what stands above the first one, and the settings in each by key.
TABLES: Mapping[str, Mapping[str, Setting]] = {
    "": _settings_of(Settings),
    "audit": _settings_of(AuditSettings),
    "http": _settings_of(HttpSettings),
    "reply": {rule: Setting(text, _REPLY, f"what {rule} answers") for rule, text in DEFAULT_TEXTS.items()},
}
# Every setting, by the name that the documentation has for it.
SETTINGS: Mapping[str, Setting] = {
    f"{table}.{key}" if table else key: setting for table, keys in TABLES.items() for key, setting in keys.items()
}


# The settings, from the file and from who starts the program


def load_settings(
    file: Path | None = None,
    *,
    database: str | None = None,
    listen: Iterable[str] = (),
    workers: str | None = None,
    given: Given = NOT_GIVEN,
) -> Settings:
    """The settings from *file*, or from the default one if it is there, or the defaults.

    *database*, *listen* and *workers*, from the command line or the environment, take precedence; and before these,
    the endpoints that systemd has *given*. Raises SettingsError.
    """
    settings = _read_file(file or DEFAULT_FILE, must_exist=file is not None)

    # What was given in another way stands in for what the file says.
    listen_from = f"{file or DEFAULT_FILE}: listen" if settings.listen and not listen else "listen"
    options: dict[str, Any] = {}
    if database is not None:
        options["database"] = _read_option("database", _database, database)
    if given.listen:
        options["listen"], listen_from = given.listen, "from systemd"
    elif listen:
        options["listen"] = _read_option("listen", _listen, [*listen])
    if workers is not None:
        options["workers"] = _read_option("workers", _workers, int(workers) if workers.isdecimal() else workers)
    if given.http:
        options["http"] = dataclasses.replace(settings.http, listen=given.http)
    settings = dataclasses.replace(settings, **options)
    _need_token(settings)

    # Wherever an endpoint comes from, other machines reach it only where that was asked for.
    remote = [endpoint.text for endpoint in settings.listen if not endpoint.is_local]
    if remote and not settings.allow_remote:
        advice = "make it ListenStream=127.0.0.1:PORT" if given.listen else "add interface=127.0.0.1 to it"
        raise SettingsError(
            f"{listen_from}: {remote[0]} can be reached from other machines, and anybody who reaches it can find "
            f"out who has a mailbox; {advice}, or say allow_remote = true in the settings file"
        )
    return settings


def _need_token(settings: Settings) -> None:
    """Raises SettingsError where other machines reach the pages, and nobody has to prove who he is."""
    remote = [endpoint.text for endpoint in settings.http.listen if not endpoint.is_local]
    if remote and not (settings.http.token_file and settings.allow_remote):
        raise SettingsError(
            f"http.listen: {remote[0]} can be reached from other machines, which read there who was refused; add "
            "interface=127.0.0.1 to it, or set http.token_file and say allow_remote = true"
        )


def read_database(text: str) -> str:
    """The URL of a database, as an option has it: without a password, for all users of this machine can read that.

    Raises SettingsError.
    """
    names = (unquote(each.partition("=")[0]) for each in re.split("[?&]", text)[1:])
    if re.match(r"postgres(ql)?://[^@]*:[^@]*@", text) or any(re.search(_SECRET, name) for name in names):
        raise SettingsError(
            "database: a password on the command line can be read by every user of this machine; keep it in a "
            "password_file, or in ~/.pgpass"
        )
    return _read_option("database", _database, text)


def _read_option(key: str, read: Callable[[object], T], value: object) -> T:
    try:
        return read(value)
    except ValueError as error:
        raise SettingsError(f"{key}: {error}") from error


def _read_file(file: Path, *, must_exist: bool) -> Settings:
    try:
        loaded = tomllib.loads(read_settings(file))
    except FileNotFoundError as error:
        if not must_exist:
            return Settings()
        raise SettingsError(f"{file}: there is no such settings file") from error
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not TOML: {' '.join(str(error).split())}") from error
    mistakes: list[str] = []
    found = {table: _read_table(table, loaded, mistakes) for table in TABLES}
    if mistakes:
        raise SettingsError(f"{file}: {'; '.join(mistakes)}")
    replies = {Rule(rule): text for rule, text in found["reply"].items()}
    return Settings(
        **found[""],
        audit=AuditSettings(**found["audit"]),
        http=HttpSettings(**found["http"]),
        reply=DEFAULT_TEXTS | replies,
    )


def _read_table(table: str, loaded: Mapping[str, Any], mistakes: list[str]) -> dict[str, Any]:
    """The values in one of `TABLES`, by key; each mistake in it is added to *mistakes*, with its place."""
    said = loaded.get(table, {}) if table else loaded
    if not isinstance(said, dict):
        mistakes.append(f"{table}: {said!r}: must be a table, [{table}]")
        return {}
    found = {}
    for key, setting in TABLES[table].items():
        if key in said:
            try:
                found[key] = setting.kind.read(said[key])
            except (ValueError, AddressError) as error:
                place = f"{table}.{key}" if table else key
                mistakes.append(f"{place}: {' '.join(str(error).split())}")
    known = TABLES[table] if table else TABLES[""].keys() | TABLES.keys() - {""}
    unknown = sorted(said.keys() - known)
    if unknown:
        listed = ", ".join(_unknown_key(key, table, known) for key in unknown)
        mistakes.append(f"{table}{': ' * bool(table)}unknown key {listed}; allowed are {', '.join(sorted(known))}")
    return found


def _unknown_key(key: str, table: str, known: Iterable[str]) -> str:
    """*key*, which is none of *table*, with what was perhaps meant."""
    from difflib import get_close_matches  # settings without a slip need it not

    shown = key if key.isprintable() else repr(key)
    for other, keys in TABLES.items():
        if key in keys:
            return f"{shown} (it belongs {f'into [{other}]' if other else f'above [{table}]'})"
    nearest = get_close_matches(key, known, n=1)
    return f"{shown} (did you mean {nearest[0]}?)" if nearest else shown

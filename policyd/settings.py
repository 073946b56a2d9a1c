"""The settings file: TOML -> Settings, every mistake found at once and named by its key."""

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from policyd.address import check_text, normal_domain
from policyd.endpoint import Endpoint, parse_endpoint
from policyd.errors import SettingsError
from policyd.model import Mode, Rule
from policyd.reply import DEFAULT_TEXTS, check_template

DEFAULT_FILE = Path("/etc/policyd/policyd.toml")
WORKERS_LIMIT = 64
FACILITIES = {
    name: number
    for number, name in enumerate(
        ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"]
        + [""] * 4
        + [f"local{number}" for number in range(8)]
    )
    if name
}


class Decisions(StrEnum):
    """Which decisions are worth a line."""

    ALL = "all"
    REJECTS = "rejects"
    NONE = "none"


class Format(StrEnum):
    """How a line of the audit looks."""

    TEXT = "text"
    JSON = "json"


@attrs.frozen
class AuditSettings:
    """Table `[audit]`: what is logged, where to, and how."""

    decisions: Decisions = Decisions.ALL
    syslog: str = "unix:/dev/log"
    facility: str = "mail"
    format: Format = Format.TEXT


@attrs.frozen
class Settings:
    """All settings, checked. `listen` is empty where `endpoint.default_listen` shall choose."""

    database: str = "sqlite:////var/lib/policyd/policyd.db"
    listen: tuple[Endpoint, ...] = ()
    workers: int = 1
    allow_remote: bool = False
    recipient_delimiter: str = "+"
    origin: str = ""
    insider_networks: tuple[IPv4Network | IPv6Network, ...] = (
        ip_network("127.0.0.0/8"),
        ip_network("::1/128"),
    )
    insider_contexts: frozenset[str] = frozenset()
    always_accept: frozenset[str] = frozenset({"postmaster"})
    mode: Mode = Mode.ENFORCE
    audit: AuditSettings = AuditSettings()
    reply: Mapping[Rule, str] = attrs.field(factory=lambda: dict(DEFAULT_TEXTS))


def load_settings(
    file: Path | None = None,
    *,
    database: str | None = None,
    listen: Iterable[str] = (),
    workers: str | None = None,
    given: tuple[Endpoint, ...] = (),
) -> Settings:
    """The settings from *file*, or from the default one if it is there, or the defaults.

    *database*, *listen* and *workers*, from the command line or the environment, take precedence; and before these,
    the endpoints that systemd has *given*. Raises SettingsError.
    """
    settings = _read(file or DEFAULT_FILE, must_exist=file is not None)
    listen_from = f"{file or DEFAULT_FILE}: listen" if settings.listen and not listen else "listen"
    options: dict[str, Any] = {}
    if database is not None:
        options |= _option("database", _database, database)
    if given:
        options["listen"], listen_from = given, "from systemd"
    elif listen:
        options |= _option("listen", _listen, [*listen])
    if workers is not None:
        options |= _option("workers", lambda _: _workers(int(workers) if workers.isdecimal() else workers), workers)
    settings = attrs.evolve(settings, **options)
    remote = [endpoint.text for endpoint in settings.listen if not endpoint.is_local]
    if remote and not settings.allow_remote:
        mend = "make it ListenStream=127.0.0.1:PORT" if given else "add interface=127.0.0.1 to it"
        raise SettingsError(
            f"{listen_from}: {remote[0]} can be reached from other machines, and anybody who reaches it can find "
            f"out who has a mailbox; {mend}, or say allow_remote = true in the settings file"
        )
    return settings


def _option(key: str, parse: Callable[[object], object], typed: object) -> dict[str, object]:
    try:
        return {key: parse(typed)}
    except ValueError as error:
        raise SettingsError(f"{key}: {error}") from error


def _read(file: Path, *, must_exist: bool) -> Settings:
    try:
        loaded = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if not must_exist:
            return Settings()
        raise SettingsError(f"{file}: there is no such settings file") from error
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not TOML: {' '.join(str(error).split())}") from error
    try:
        return _CONVERTER.structure(loaded, Settings)
    except cattrs.BaseValidationError as error:
        mistakes = cattrs.transform_error(error, path="", format_exception=_mistake)
        raise SettingsError(f"{file}: {'; '.join(map(_with_key_first, mistakes))}") from error


def _mistake(error: BaseException, _kind: type | None) -> str:
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        known = sorted(field.name for field in attrs.fields(error.cl))
        return f"unknown key {', '.join(sorted(error.extra_fields))}; allowed are {', '.join(known)}"
    return " ".join(str(error).split())


def _with_key_first(mistake: str) -> str:
    """cattrs says `what @ .audit.syslog`; an administrator reads `audit.syslog: what`."""
    what, _, key = mistake.rpartition(" @ ")
    key = key.strip(".")
    return f"{key}: {what}" if key else what


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r}: must be a text in quotes")
    return value


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{value!r}: must be a list of texts in quotes")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r}: allowed are true and false")
    return value


def _choice(kind: type[StrEnum]) -> Callable[[object], StrEnum]:
    def choose(value: object) -> StrEnum:
        if not isinstance(value, str) or value not in [*kind]:
            raise ValueError(f"{value!r}: allowed are {', '.join(kind)}")
        return kind(value)

    return choose


def _database(value: object) -> str:
    text = _text(value)
    path = text.removeprefix("sqlite:///")
    if not path or "://" in path or path.startswith(":memory:") or "\0" in path:
        raise ValueError(f"{text!r}: must be sqlite:////absolute/path.db, or a path")
    return f"sqlite:///{Path(path).absolute()}"


def _database_in_file(value: object) -> str:
    text = _text(value)
    if not text.removeprefix("sqlite:///").startswith("/"):
        raise ValueError(f"{text!r}: must be sqlite:////absolute/path.db")
    return _database(text)


def _delimiters(value: object) -> str:
    text = _text(value)
    if any(each.isalnum() or each == "@" or not each.isprintable() or each == " " for each in text):
        raise ValueError(f"{text!r}: must be a set of punctuation characters, as Postfix's recipient_delimiter")
    return text


def _origin(value: object) -> str:
    return normal_domain(text) if (text := _text(value)) else ""


def _networks(value: object) -> tuple[IPv4Network | IPv6Network, ...]:
    texts = _texts(value)
    try:
        return tuple(map(ip_network, texts))
    except ValueError as error:
        raise ValueError(f"{error}; must be networks such as 192.0.2.0/24 and 2001:db8::/32") from error


def _contexts(value: object) -> frozenset[str]:
    texts = _texts(value)
    if "" in texts:
        raise ValueError('"" would make everybody an insider; name the policy_context that you set in master.cf')
    return frozenset(texts)


def _local_parts(value: object) -> frozenset[str]:
    for each in _texts(value):
        if not each or "@" in each:
            raise ValueError(f"{each!r}: must be local parts, without @ and domain")
        check_text(each, "the local part")
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
    return str(value)


def _listen(value: object) -> tuple[Endpoint, ...]:
    return tuple(map(parse_endpoint, _texts(value)))


def _workers(value: object) -> int:
    if value == "auto":
        return min(WORKERS_LIMIT, len(os.sched_getaffinity(0)))
    if type(value) is not int or not 1 <= value <= WORKERS_LIMIT:
        raise ValueError(f'{value!r}: allowed are 1 to {WORKERS_LIMIT}, and "auto" for one each processor')
    return value


def _audit(value: object) -> AuditSettings:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r}: must be a table, [audit]")
    return _CONVERTER.structure(value, AuditSettings)


def _reply(value: object) -> Mapping[Rule, str]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r}: must be a table, [reply]")
    mistakes = [mistake for key, template in value.items() if (mistake := _reply_mistake(key, template))]
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return DEFAULT_TEXTS | {Rule(key): template for key, template in value.items()}


def _reply_mistake(key: str, template: object) -> str:
    if key not in DEFAULT_TEXTS:
        return f"unknown key {key}; allowed are {', '.join(DEFAULT_TEXTS)}"
    if not isinstance(template, str):
        return f"{key}: {template!r}: must be a text in quotes"
    problem = check_template(template)
    return f"{key}: {template!r} {problem}" if problem else ""


_AUDIT = {
    "decisions": _choice(Decisions),
    "syslog": _syslog,
    "facility": _facility,
    "format": _choice(Format),
}
_TOP = {
    "database": _database_in_file,
    "listen": _listen,
    "workers": _workers,
    "allow_remote": _flag,
    "recipient_delimiter": _delimiters,
    "origin": _origin,
    "insider_networks": _networks,
    "insider_contexts": _contexts,
    "always_accept": _local_parts,
    "mode": _choice(Mode),
    "audit": _audit,
    "reply": _reply,
}


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind, parsers in ((AuditSettings, _AUDIT), (Settings, _TOP)):
        hooks: dict[str, Any] = {key: override(struct_hook=_hook(parse)) for key, parse in parsers.items()}
        converter.register_structure_hook(kind, make_dict_structure_fn(kind, converter, **hooks))
    return converter


def _hook(parse: Callable[[object], object]) -> Callable[[object, type], object]:
    return lambda value, _kind: parse(value)


_CONVERTER = _make_converter()

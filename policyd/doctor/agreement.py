"""What Postfix and policyd must both know: delimiter, networks, origin, domains, and how an address is read."""

import re
from collections.abc import Iterable, Iterator
from shlex import quote

from policyd.address import normal_domain
from policyd.doctor.diagnosis import Diagnosis, Severity
from policyd.doctor.examination import Examination
from policyd.doctor.hosts import own_addresses
from policyd.doctor.maps import TableError, is_listed, plain_name
from policyd.doctor.networks import Network, is_covered, networks_in
from policyd.doctor.postconf import read_named, read_origin
from policyd.doctor.words import is_table, split_words
from policyd.errors import AddressError
from policyd.model import Mode
from policyd.store.queries import Queries

_PERCENT = ("allow_percent_hack", "swap_bangpath", "resolve_dequoted_address")
_YES = "yes"


def diagnose_agreement(examined: Examination) -> Iterator[Diagnosis]:
    """Where the settings say something else than Postfix."""
    yield from _version(examined)
    yield from _delimiter(examined)
    yield from _networks(examined)
    yield from _origin(examined)
    yield from _percent(examined)
    yield from _refusals(examined)


def _version(examined: Examination) -> Iterator[Diagnosis]:
    version = examined.instance.version
    if (0,) < version < (3, 1) and any(map(examined.asks, examined.instance.smtpd)):
        told = f"This is Postfix {'.'.join(map(str, version))}."
        yield Diagnosis("too-old", examined.about("mail_version"), told, advice="Upgrade Postfix.")


def _delimiter(examined: Examination) -> Iterator[Diagnosis]:
    theirs, ours = examined.instance.values.get("recipient_delimiter", ""), examined.settings.recipient_delimiter
    if set(theirs) != set(ours):
        yield Diagnosis(
            "delimiter-differs",
            examined.about("recipient_delimiter"),
            f"Postfix has recipient_delimiter = {theirs or 'nothing'}, policyd {ours or 'nothing'}.",
            settings=(f"recipient_delimiter = {_toml(theirs)}",),
        )


def _networks(examined: Examination) -> Iterator[Diagnosis]:
    """Who may relay and who counts as inside; a container's gateway should be neither."""
    theirs, others = networks_in(examined.instance.values.get("mynetworks", ""))
    ours = examined.settings.insider_networks
    settings = (f"insider_networks = [{', '.join(_toml(str(each)) for each in _agreed(examined))}]",)
    if others:
        yield Diagnosis(
            "networks-differ",
            examined.about(f"mynetworks: {', '.join(others)}"),
            f"mynetworks has {', '.join(others)}, which can't be compared with insider_networks.",
            advice="Compare them yourself.",
            severity=Severity.INFO,
        )
    for place, networks in _relaying(examined):
        if missing := [each for each in networks if not is_covered(each, ours)]:
            names = ", ".join(map(str, missing))
            told = f"{names} may relay ({place}), and counts as outside for policyd."
            yield Diagnosis("networks-differ", examined.about(f"{place} only: {names}"), told, settings=settings)
    extra = [each for each in ours if not is_covered(each, theirs)]
    if extra and not others:
        names = ", ".join(map(str, extra))
        told = f"{names} counts as inside for policyd, and may not relay (mynetworks)."
        yield Diagnosis("networks-differ", examined.about(f"insider_networks only: {names}"), told, settings=settings)
    for network, gateway in examined.gateways:
        yield Diagnosis(
            "gateway-insider",
            examined.about(f"{network} holds {gateway}"),
            f"insider_networks has {network}, where {gateway} is the gateway of containers, as it looks: a client that "
            "Docker's proxy passes on comes from there.",
            _without_gateways(examined),
            settings,
            advice="Or switch Docker's userland-proxy off.",
        )


def _relaying(examined: Examination) -> Iterator[tuple[str, list[Network]]]:
    """The networks that may relay, with the place that says so: main.cf, or a service of its own."""
    yield "mynetworks", networks_in(examined.instance.values.get("mynetworks", ""))[0]
    for service in examined.instance.smtpd:
        if "mynetworks" in service.overrides and not examined.is_reinjection(service):
            yield f"mynetworks of {service.name}", networks_in(service.values["mynetworks"])[0]


def _agreed(examined: Examination) -> list[Network]:
    """What insider_networks should be: as Postfix has it, as far as that can be compared, and no gateway in it."""
    theirs, others = networks_in(examined.instance.values.get("mynetworks", ""))
    kept = [each for each in examined.settings.insider_networks if others or is_covered(each, theirs)]
    for _, networks in _relaying(examined):
        kept += [each for each in networks if not is_covered(each, kept)]
    gateways = {network for network, _ in examined.gateways}
    return [each for each in kept if str(each) not in gateways]


def _without_gateways(examined: Examination) -> tuple[str, ...]:
    """The command that takes the gateways' networks out of mynetworks."""
    words = split_words(examined.instance.raw.get("mynetworks", ""))
    gateways = {network for network, _ in examined.gateways}
    kept = [word for word in words if not gateways.intersection(map(str, networks_in(word)[0]))]
    return (examined.postconf("-e", f"mynetworks = {' '.join(kept)}"),) if len(kept) < len(words) else ()


def _origin(examined: Examination) -> Iterator[Diagnosis]:
    try:
        theirs = read_origin(examined.instance)
    except OSError as error:
        examined.unseen.append(f"myorigin: {examined.instance.values['myorigin']}: {error.strerror}")
        return
    try:
        normal = normal_domain(theirs)
    except AddressError:
        normal = theirs
    if normal != examined.settings.origin:
        yield Diagnosis(
            "origin-differs",
            examined.about("myorigin"),
            f"Postfix completes a plain name with {theirs}, policyd with {examined.settings.origin or 'nothing'}.",
            settings=(f"origin = {_toml(normal)}",),
        )


def _percent(examined: Examination) -> Iterator[Diagnosis]:
    values = examined.instance.values
    wrong = [name for name in _PERCENT if values.get(name, _YES) == _YES]
    if not wrong:
        return
    yield Diagnosis(
        "percent-hack",
        examined.about(", ".join(wrong)),
        f"Postfix looks for an address inside of an address: {', '.join(f'{name} = yes' for name in wrong)}.",
        (examined.postconf("-e", *(f"{name}=no" for name in _PERCENT)),),
        severity=None if values.get("mydestination", "").strip() else Severity.WARNING,
    )


def _refusals(examined: Examination) -> Iterator[Diagnosis]:
    """Whether a refusal is one."""
    if examined.settings.mode is Mode.MONITOR:
        told = 'The settings say mode = "monitor".'
        yield Diagnosis("mode-monitor", f"{examined.settings_file}: mode", told, settings=('mode = "enforce"',))
    values = examined.instance.values
    if values.get("soft_bounce") == _YES:
        told, fix = "main.cf says soft_bounce = yes.", examined.postconf("-e", "soft_bounce=no")
        yield Diagnosis("soft-bounce", examined.about("soft_bounce = yes"), told, (fix,))
    code = values.get("access_map_reject_code", "554")
    if not code.startswith("5"):
        told, fix = (
            f"main.cf says access_map_reject_code = {code}.",
            examined.postconf("-e", "access_map_reject_code=554"),
        )
        yield Diagnosis("soft-bounce", examined.about(f"access_map_reject_code = {code}"), told, (fix,))


def diagnose_domains(examined: Examination, queries: Queries) -> Iterator[Diagnosis]:
    """The domains for which Postfix delivers, and policyd has none.

    A further instance to which no stranger comes is left out: what it delivers to is the first one's business.
    """
    if examined.is_further and not any(map(examined.is_mx, examined.instance.smtpd)):
        return
    managed = {domain.name for domain in queries.domains()}
    for name, severity, what in (
        ("mydestination", Severity.ERROR, "delivers to its own users"),
        ("virtual_alias_domains", Severity.ERROR, "has aliases"),
        ("virtual_mailbox_domains", Severity.WARNING, "has mailboxes"),
        ("relay_domains", Severity.INFO, "relays"),
    ):
        missing = [each for each in domains_in(examined, name) if each not in managed]
        if missing:
            commands = tuple(_add(examined, each, queries) for each in missing)
            told = f"Postfix {what} for {', '.join(missing)} ({name}), and policyd does not manage them."
            about = examined.about(f"{name}: {', '.join(missing)}")
            yield Diagnosis("domain-unmanaged", about, told, commands, severity=severity)
    yield from _literals(examined, managed)
    yield from _dot_mydomain(examined, managed)


def _add(examined: Examination, name: str, queries: Queries) -> str:
    """The command that manages *name*: as an alias where Postfix sends all of it to one managed domain."""
    target = examined.domain_target(name)
    if target and queries.domain(target) is not None:
        return f"policyd domain add {quote(name)} --alias-of {quote(target)}"
    return f"policyd domain add {quote(name)}"


def domains_in(examined: Examination, name: str) -> list[str]:
    """The domains that the parameter *name* lists, in normal form; what can't be looked at is noted."""
    if name not in examined.domains:
        words = split_words(examined.instance.values.get(name, ""))
        examined.domains[name] = _normal(each for word in words for each in _listed(examined, name, word))
    return examined.domains[name]


def _listed(examined: Examination, name: str, word: str) -> Iterable[str]:
    """The domains that a word of a list stands for: itself, those of a table, or those of a file."""
    if is_table(word):
        table = plain_name(word)
        if examined.aliases.has(table):  # as virtual_alias_domains has them by default: a domain's own key
            return [key for key, _ in examined.aliases.rows() if "@" not in key and "." in key]
        if not is_listed(table):
            return _unseen(examined, name, f"{word} can't list what it has")
        try:
            return [key for key, _ in examined.listings.rows(table) if "@" not in key]
        except TableError as error:
            return _unseen(examined, name, f"{word}: {error}")
    if word.startswith("/"):
        return _of_file(examined, name, word)
    return [word]


def _of_file(examined: Examination, name: str, path: str) -> list[str]:
    """The domains that a file lists as a parameter does, but in lines that begin with # . Source: match_list.c."""
    try:
        lines = read_named(path).splitlines()
    except OSError as error:
        return _unseen(examined, name, f"{path}: {error.strerror}")
    words = [word for line in lines if not line.startswith("#") for word in split_words(line)]
    further = [word for word in words if word.startswith("/")]
    if further:  # which may be the file itself
        _unseen(examined, name, f"{path} names {', '.join(further)}, which is not followed")
    return [each for word in words if word not in further for each in _listed(examined, name, word)]


def _unseen(examined: Examination, name: str, why: str) -> list[str]:
    """Note *why* some of what the parameter *name* lists can't be looked at."""
    examined.unseen.append(f"{name}: {why}")
    examined.incomplete.add(name)
    return []


def _normal(names: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        try:
            found[normal_domain(name)] = None
        except AddressError:
            continue
    return [*found]


def _literals(examined: Examination, managed: set[str]) -> Iterator[Diagnosis]:
    """The host's own addresses: Postfix delivers for them as for mydestination."""
    if not examined.instance.values.get("mydestination", "").strip():
        return
    found = [f"[{address}]" for address in own_addresses(examined.instance)]
    missing = [each for each in _normal(found) if each not in managed]
    if missing:
        commands = tuple(f"policyd domain add {quote(each)}" for each in missing)
        told = f"Postfix delivers for its own addresses, {', '.join(missing)}, and policyd does not manage them."
        yield Diagnosis("domain-unmanaged", examined.about(", ".join(missing)), told, commands)


def _dot_mydomain(examined: Examination, managed: set[str]) -> Iterator[Diagnosis]:
    values = examined.instance.values
    if values.get("append_dot_mydomain", "no") != _YES:
        return
    child = re.compile(rf"[^.]+\.{re.escape(values.get('mydomain', ''))}")
    found = sorted(each for each in managed if child.fullmatch(each))
    if found:
        told = f"Postfix completes a domain of one word (append_dot_mydomain), and {found[0]} is managed."
        fix = (examined.postconf("-e", "append_dot_mydomain=no"),)
        yield Diagnosis("dot-mydomain", examined.about("append_dot_mydomain"), told, fix)


def _toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

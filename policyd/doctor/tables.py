"""Compares the tables with Postfix's maps, and looks for entries in the tables that can have no effect."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from itertools import islice
from shlex import quote

from policyd.address import fold
from policyd.decide import Decider
from policyd.doctor.agreement import domains_in
from policyd.doctor.aliases import ASKED
from policyd.doctor.daemon import outsider
from policyd.doctor.diagnosis import Diagnosis
from policyd.doctor.examination import Examination
from policyd.doctor.maps import NO_ALIASES, TableError, is_listed, tables_in
from policyd.doctor.postconf import Instance
from policyd.model import Domain, Request, Rule, Unlisted
from policyd.printable import count_of
from policyd.settings import Settings
from policyd.store.queries import Queries

_TOLD = 20  # findings of one kind, of which there may be a million
_NAMED = 5
_AT_ONCE = 2000  # addresses that are compared with the keys of the maps: as many as a processor's cache holds
_VERDICTS = 20_000  # of the rules, for each kind of finding: of a million aliases all may lead to restricted addresses
_RECIPIENTS = ("virtual_mailbox_maps", "relay_recipient_maps")
_CLASSES = ("mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains")


class MapCheck:
    """One instance's maps against one state of the tables, at *now*, in Unix seconds.

    *restricted* are the addresses of `Queries.perhaps_restricted` with their mailboxes. `compare` is given all
    addresses in the tables, before `run` tells what is wrong.
    """

    def __init__(
        self, examined: Examination, queries: Queries, decider: Decider, restricted: Mapping[str, int], now: int
    ) -> None:
        self._examined = examined
        self._queries = queries
        self._decider = decider
        self._now = now
        self._client = outsider(examined.settings)
        self._domains = {each.name: each for each in queries.domains()}
        self._restricted = restricted
        self._restricting = {name for name in self._domains if self._is_restricting(name)}
        self._seen: set[str] = set()  # keys of mailboxes that are restricted, or of whole domains
        self._verdict = lru_cache(_VERDICTS)(self._decide)
        if examined.aliases.is_silent():
            examined.aliases.ask([*islice(queries.address_texts(), ASKED + 1)])
        self._keys = {name: sorted(keys) for name, keys in self._keys_by_map()}
        self._compared = dict.fromkeys(self._keys, 0)
        self._missing: dict[str, list[str]] = {name: [] for name in self._keys}

    def compare(self, addresses: Sequence[str]) -> None:
        """Take the next of all *addresses* in the tables, which come in their order: none is any more missing."""
        held = set(addresses)
        for name, keys in self._keys.items():
            end = bisect_right(keys, addresses[-1])
            self._missing[name] += [key for key in keys[self._compared[name] : end] if key not in held]
            self._compared[name] = end

    def run(self) -> Iterator[Diagnosis]:
        """What Postfix's maps have that policyd refuses, and where they lead around a restriction."""
        for name, keys in self._keys.items():  # what comes behind the last address of the tables
            self._missing[name] += keys[self._compared[name] :]
        self._keys.clear()
        yield from _first(self._unlisted(), "address-unlisted")
        yield from _first(self._ways_around(), "alias-around")
        yield from self._unknown_to_postfix()

    def _decide(self, recipient: str) -> tuple[bool, Rule, str]:
        """Whether a stranger's mail to *recipient* is refused, by which rule, and whose mailbox it is."""
        request = Request(
            protocol_state="RCPT",
            client_name="unknown",
            client_address=self._client,
            sender="somebody@doctor.invalid",
            recipient=recipient,
        )
        decision = self._decider.decide(request, self._now)
        return decision.is_refused, decision.rule, decision.mailbox

    def _is_restricted(self, address: str) -> bool:
        if address not in self._restricted and address.rpartition("@")[2] not in self._restricting:
            return False
        is_refused, rule, _ = self._verdict(address)
        return is_refused and rule is Rule.RESTRICTED_RECIPIENT

    def _is_restricting(self, name: str) -> bool:
        domain = self._target(name)
        return domain is not None and domain.receive.is_restriction

    def _target(self, address: str) -> Domain | None:
        """The managed domain that *address* is in, of an alias domain the target."""
        domain = self._domains.get(address.rpartition("@")[2])
        return self._domains.get(domain.alias_of, domain) if domain and domain.alias_of else domain

    def _unlisted(self) -> Iterator[Diagnosis]:
        """Addresses that Postfix has and policyd refuses."""
        told: set[str] = set()
        for name, key in ((name, key) for name, keys in self._missing.items() for key in keys):
            domain = self._target(key)
            if key in told or domain is None or domain.unlisted is not Unlisted.REJECT:
                continue
            if self._is_exhausted():
                self._note(f"{name}: more than {_VERDICTS} keys are not in the tables; the others were not looked at")
                return
            if key.startswith("@"):
                if name != "virtual_alias_maps" or not self._examined.aliases.exact(key).startswith("@"):
                    told.add(key)
                    yield self._catch_all(name, key, domain)
                continue
            is_refused, rule, _ = self._verdict(key)
            if not is_refused or rule is not Rule.UNLISTED_RECIPIENT:
                continue
            ends = [way[-1] for way in self._examined.aliases.chains(key)] if name == "virtual_alias_maps" else []
            if ends and all(self._verdict(end)[0] for end in ends):
                continue
            told.add(key)
            yield self._unlisted_address(name, key, ends)

    def _is_exhausted(self) -> bool:
        """Whether the rules were asked often enough."""
        return self._verdict.cache_info().misses > _VERDICTS

    def _keys_by_map(self) -> Iterator[tuple[str, Iterable[str]]]:
        """Postfix's maps, each with its keys that are addresses, or "@" with a domain."""
        examined = self._examined
        for name in _RECIPIENTS:
            keys = [key for key, _ in self._rows(name) if "@" in key]
            self._seen.update(key for key in keys if key in self._restricted or key[0] == "@")
            yield name, keys
        yield "virtual_alias_maps", (key for key in examined.aliases.keys if "@" in key)
        local = examined.settings.origin
        if local and local in domains_in(examined, "mydestination"):
            names = (key for key, value in self._rows("alias_maps") if "@" not in key and value)
            yield "alias_maps", (f"{name}@{local}" for name in names if name not in NO_ALIASES)

    def _rows(self, name: str) -> Iterator[tuple[str, str]]:
        for table in tables_in(self._examined.instance.values.get(name, "")):
            if not is_listed(table):
                self._note(f"{name}: {table} can't list what it has")
                continue
            try:
                yield from self._examined.listings.rows(table)
            except TableError as error:
                self._note(f"{name}: {table}: {error}")

    def _note(self, line: str) -> None:
        if line not in self._examined.unseen:
            self._examined.unseen.append(line)

    def _catch_all(self, name: str, key: str, domain: Domain) -> Diagnosis:
        return Diagnosis(
            "address-unlisted",
            self._examined.about(f"{name}: {key}"),
            f"Postfix takes every address in {key[1:]} ({name}), and policyd refuses those that are not listed.",
            (f"policyd domain set {quote(domain.name)} --unlisted accept",),
        )

    def _unlisted_address(self, name: str, key: str, ends: list[str]) -> Diagnosis:
        mailboxes = {self._verdict(end)[2] for end in ends}
        if len(ends) == 1 and (mailbox := next(iter(mailboxes), "")):
            command = f"policyd address add {quote(mailbox)} {quote(key)}"
        else:
            command = f"policyd mailbox add {quote(self._free_name(key))} {quote(key)}"
        return Diagnosis(
            "address-unlisted",
            self._examined.about(f"{name}: {key}"),
            f"policyd refuses mail to {key}, whom Postfix has ({name}).",
            (command,),
        )

    def _free_name(self, address: str) -> str:
        local = address.rpartition("@")[0]
        return address if self._queries.mailbox_named(fold(local)) is not None else local

    def _ways_around(self) -> Iterator[Diagnosis]:
        """Addresses that anybody may write to, and whose mail Postfix sends on to whom not everybody may."""
        self._verdict.cache_clear()
        aliases = self._examined.aliases
        for key, value in self._leading_on():
            if self._is_exhausted():
                told = f"more than {_VERDICTS} aliases lead to restricted addresses; the others were not looked at"
                self._note(f"virtual_alias_maps: {told}")
                return
            candidates = self._behind(key, value) if key.startswith("@") else aliases.addresses_of(key)
            for address in candidates:
                for way in aliases.chains(address):
                    at = next((at for at in range(1, len(way)) if self._is_restricted(way[at])), 0)
                    if at and not self._verdict(address)[0] and self._target(address) is not None:
                        yield self._way_around(way[: at + 1])
                        break

    def _leading_on(self) -> Iterator[tuple[str, str]]:
        """The aliases worth following: of a million nearly all lead to one address, where mail stays, and is open."""
        keys, restricted = self._examined.aliases.keys, self._restricted
        delimiters = self._examined.instance.values.get("recipient_delimiter", "")
        is_special = re.compile(rf"[\s,{re.escape(delimiters)}]").search
        followed = self._restricting | {key[1:] for key in keys if key[0] == "@"}
        always = set(map(fold, self._examined.settings.always_accept))
        yield from self._examined.aliases.further()
        for key, value in self._examined.aliases.rows():
            if value in restricted:
                # What else is the same mailbox's is restricted as it is, unless it is never refused.
                is_same = restricted.get(key) == restricted[value] and key.partition("@")[0] not in always
                if not is_same or followed:
                    yield key, value
            elif (
                value in keys
                or is_special(value)
                or value[0] == "@"
                or "@" not in value
                or (followed and value.rpartition("@")[2] in followed)
            ):
                yield key, value

    def _behind(self, key: str, value: str) -> list[str]:
        """Addresses in the domain of *key*, whose mail goes on as *value* says, that may lead to restricted ones."""
        if self._domains.get(key[1:]) is None:
            return []
        if not value.startswith("@"):
            return [f"anybody{key}"]
        return [f"{each.rpartition('@')[0]}{key}" for each in self._restricted if each.endswith(value)]

    def _way_around(self, way: list[str]) -> Diagnosis:
        _, _, opened = self._verdict(way[0])
        _, _, closed = self._verdict(way[-1])
        if opened:
            commands = (f"policyd mailbox restrict {quote(opened)}",)
            advice = f"Or give {way[0]} to {closed}: take it from {opened}, and type: policyd address add"
            advice += f" {quote(closed)} {quote(way[0])}."
        else:
            commands, advice = (f"policyd address add {quote(closed)} {quote(way[0])}",), ""
        return Diagnosis(
            "alias-around",
            self._examined.about(" -> ".join(way)),
            f"Anybody may write to {way[0]}, and Postfix sends that on to {way[-1]}, past its restriction.",
            commands,
            advice=advice,
        )

    def _unknown_to_postfix(self) -> Iterator[Diagnosis]:
        """Restricted addresses in a domain with mailboxes that Postfix's maps do not have."""
        examined = self._examined
        tables = tables_in(examined.instance.values.get("virtual_mailbox_maps", ""))
        if not tables or not all(map(is_listed, tables)):
            return
        domains = set(domains_in(examined, "virtual_mailbox_domains"))
        missing = sorted(
            each
            for each in self._restricted
            if (domain := each.rpartition("@")[2]) in domains
            and each not in self._seen
            and f"@{domain}" not in self._seen
            and not examined.aliases.targets(each)
        )
        if missing:
            about = examined.about(_few(missing))
            told = f"Postfix has no mailbox and no alias for {_few(missing)}."
            yield Diagnosis("restricted-unknown-to-postfix", about, told)


def address_tables(instance: Instance) -> list[str]:
    """Postfix's tables of addresses, of which each may have a million, in the order in which they are read here."""
    names = ("virtual_alias_maps", *_RECIPIENTS)
    return [table for name in names for table in tables_in(instance.values.get(name, ""))]


def compare_addresses(queries: Queries, checks: Sequence[MapCheck]) -> set[str]:
    """Give all addresses in the tables to *checks*; the managed domains that have none are returned."""
    addresses = queries.address_texts()
    unused = {domain.name for domain in queries.domains()}
    while some := [*islice(addresses, _AT_ONCE)]:
        if unused:
            unused.difference_update({address.rpartition("@")[2] for address in some})
        for check in checks:
            check.compare(some)
    return unused


def diagnose_tables(
    queries: Queries, examined: list[Examination], unused: Set[str], restricted: Mapping[str, int], now: int
) -> Iterator[Diagnosis]:
    """What in the tables alone can have no effect, or one that nobody means; *unused* are domains without addresses."""
    settings = examined[0].settings
    local = {name for each in examined for name in domains_in(each, "mydestination")} - {settings.origin}
    domains = [*queries.domains()]
    yield from _empty_domains([each for each in domains if each.name in unused - local])
    yield from _ended(domains, queries, now)
    yield from _always_accepted(settings, queries, restricted)
    yield from _strange_domains(domains, examined)


def _empty_domains(unused: Iterable[Domain]) -> Iterator[Diagnosis]:
    """Domains that take listed addresses only, and have none; the host's own names are meant to."""
    for domain in unused:
        if domain.unlisted is Unlisted.REJECT and not domain.alias_of and not domain.name.startswith("["):
            told = f"{domain.name} takes listed addresses only, and none is listed."
            command = f"policyd domain set {quote(domain.name)} --unlisted accept"
            yield Diagnosis("unlisted-empty", domain.name, told, (command,))


def _ended(domains: list[Domain], queries: Queries, now: int) -> Iterator[Diagnosis]:
    mailboxes, entries = queries.ended(now)
    groups = [group for group in queries.groups() if group.receive.is_restriction]
    names = [f"entry {number}" for number in entries] + [f"mailbox {name}" for name in mailboxes]
    names += [f"group {group.name}" for group in groups if group.until is not None and group.until <= now]
    names += [
        f"domain {each.name}"
        for each in domains
        if each.receive.is_restriction and each.until is not None and each.until <= now
    ]
    if names:
        yield Diagnosis("entry-expired", _few(names), f"{count_of(len(names), 'restriction')} ended: {_few(names)}.")


def _always_accepted(settings: Settings, queries: Queries, restricted: Mapping[str, int]) -> Iterator[Diagnosis]:
    accepted = set(map(fold, settings.always_accept))
    found = sorted(each for each in restricted if each.rpartition("@")[0] in accepted)
    for address in found[:_TOLD]:
        mailbox = queries.mailbox_with(address)
        if mailbox is not None and mailbox.receive.is_restriction:
            told = f"{mailbox.name} is restricted, and everybody may write to {address}, as always_accept says."
            yield Diagnosis("always-accept-restricted", address, told, advice="Give the address to another mailbox.")


def _strange_domains(domains: list[Domain], examined: list[Examination]) -> Iterator[Diagnosis]:
    """Managed domains for which no Postfix here takes mail from strangers."""
    if not any(each.is_mx(service) for each in examined for service in each.instance.smtpd):
        return
    known = {name for each in examined for parameter in _CLASSES for name in domains_in(each, parameter)}
    parents = {name for each in examined for name in domains_in(each, "relay_domains")}
    if any(parameter in each.incomplete for each in examined for parameter in _CLASSES):
        return
    for domain in domains:
        name = domain.name
        is_below = any(name.endswith(f".{parent}") for parent in parents)
        if name not in known and not name.startswith("[") and not is_below:
            told = f"{name} is managed, and Postfix takes no mail for it."
            fix = examined[0].postconf("-e", f"relay_domains = {', '.join([*sorted(parents), name])}")
            yield Diagnosis("domain-not-postfix's", name, told, advice=f"If it should, for example: {fix}.")


def _first(found: Iterator[Diagnosis], code: str) -> Iterator[Diagnosis]:
    """The first of *found*, and how many more there are."""
    yield from islice(found, _TOLD)
    more = sum(1 for _ in found)
    if more:
        yield Diagnosis(code, f"{more} more", f"There are {more} more of these.")


def _few(names: Iterable[str]) -> str:
    shown = [*names]
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return f"{', '.join(shown[:_NAMED])}{more}"

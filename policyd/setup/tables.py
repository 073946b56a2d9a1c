"""What Postfix and the system know of domains, mailboxes and addresses, and the tables that are filled with it."""

import pwd
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from policyd.address import normal_domain
from policyd.admin.session import Session, Summary
from policyd.doctor.agreement import domains_in
from policyd.doctor.examination import Examination
from policyd.doctor.hosts import own_addresses
from policyd.doctor.maps import NO_ALIASES, TableError, is_listed, tables_in
from policyd.doctor.words import split_words
from policyd.errors import AddressError
from policyd.model import Domain, Unlisted
from policyd.records import AddressRow, ListEdit, Record, Row
from policyd.store.bulk import BulkEditor
from policyd.store.queries import Queries
from policyd.transfer import values
from policyd.transfer.fields import mailbox_of
from policyd.transfer.values import CellError

_LOGIN_DEFS = Path("/etc/login.defs")
_UID_RANGE = (1000, 60000)  # where login.defs says nothing; source: login.defs(5)
_NO_SHELLS = frozenset({"nologin", "false", "sync", "halt", "shutdown"})
_NAMED_USERS = "unix:passwd.byname"
_LONGEST = 10  # steps of a chain of local aliases
_LARGE = 1000  # rows


@dataclass(slots=True)
class Listed:
    """What Postfix has: domains, each with the one that it stands for or "", addresses of mailboxes, and aliases.

    `aliases` are further addresses, each with the address of its mailbox. `notes` say what could not be listed.
    """

    domains: dict[str, str] = field(default_factory=dict)
    mailboxes: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to put into the tables."""
        return not (self.domains or self.mailboxes or self.aliases)

    def without(self, queries: Queries) -> "Listed":
        """What of it the tables do not have."""
        managed = {domain.name: domain.alias_of for domain in queries.domains()}
        held = set(queries.address_texts())
        return Listed(
            {
                name: "" if managed.get(target) else target  # nothing stands for what stands for another itself
                for name, target in self.domains.items()
                if name not in managed
            },
            [each for each in self.mailboxes if each not in held],
            {address: target for address, target in self.aliases.items() if address not in held},
            self.notes,
        )


def read_listed(examined: Examination, origin: str) -> Listed:
    """What the Postfix that is *examined* knows; *origin* completes names without a domain."""
    listed = Listed()
    local = _read_domains(examined, origin, listed)
    found = dict.fromkeys(_mailboxes(examined, listed))
    if local:
        found.update(dict.fromkeys(f"{name}@{local}" for name in _users(examined)))
    listed.mailboxes = sorted(found)  # a map has no order
    for address, target in [*_virtual_aliases(examined, origin), *_local_aliases(examined, local, listed)]:
        if target in found and address not in found:
            listed.aliases.setdefault(address, target)
    listed.notes += [each for each in examined.unseen if each not in listed.notes]
    return listed


def _read_domains(examined: Examination, origin: str, listed: Listed) -> str:
    """Note the domains that Postfix takes mail for; that of the local users is returned, "" where there is none.

    Every other name of the host has the same users, and stands for that one.
    """
    local = domains_in(examined, "mydestination")
    main = ""
    if local:
        main = origin if origin in local else next((each for each in local if "localhost" not in each), local[0])
        own = _normal(f"[{address}]" for address in own_addresses(examined.instance))
        listed.domains.update({main: "", **{each: main for each in (*local, *own) if each != main}})
    for name in ("virtual_mailbox_domains", "virtual_alias_domains", "relay_domains"):
        for each in domains_in(examined, name):
            listed.domains.setdefault(each, "")
    for each in listed.domains:
        target = examined.domain_target(each)
        if target != each and listed.domains.get(target) == "" and each not in listed.domains.values():
            listed.domains[each] = target
    return main


def _normal(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            yield normal_domain(name)
        except AddressError:
            continue


def _mailboxes(examined: Examination, listed: Listed) -> Iterator[str]:
    """The addresses that the maps of mailboxes and of recipients to relay for list."""
    for name in ("virtual_mailbox_maps", "relay_recipient_maps"):
        for table in tables_in(examined.instance.values.get(name, "")):
            if not is_listed(table):
                listed.notes.append(
                    f"{name}: {table} does not list what it has; export its addresses to a file, one on each line, and "
                    "type: policyd import --format list --into mailboxes FILE"
                )
                continue
            try:
                for key, _ in examined.listings.rows(table):
                    if address := _address(key):
                        yield address
            except TableError as error:
                listed.notes.append(f"{name}: {table}: {error}")


def _users(examined: Examination) -> Iterator[str]:
    """The people among the system's users, where Postfix delivers to these."""
    if _NAMED_USERS not in examined.instance.values.get("local_recipient_maps", ""):
        return
    first, last = _uid_range()
    for user in pwd.getpwall():
        shell = user.pw_shell.rpartition("/")[2]
        if first <= user.pw_uid <= last and shell not in _NO_SHELLS and _address(f"{user.pw_name}@localhost"):
            yield user.pw_name.lower()


def _uid_range() -> tuple[int, int]:
    try:
        text = _LOGIN_DEFS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    said = dict(re.findall(r"^\s*(UID_MIN|UID_MAX)\s+(\d+)", text, re.MULTILINE))
    return int(said.get("UID_MIN", _UID_RANGE[0])), int(said.get("UID_MAX", _UID_RANGE[1]))


def _virtual_aliases(examined: Examination, origin: str) -> Iterator[tuple[str, str]]:
    """Addresses that lead to one other, by virtual(5)."""
    for key, value in examined.aliases.rows():
        targets = split_words(value)
        if len(targets) == 1 and (address := _address(key)):
            target = targets[0] if "@" in targets[0] else f"{targets[0]}@{origin}"
            if to := _address(target):
                yield address, to


def _local_aliases(examined: Examination, local: str, listed: Listed) -> Iterator[tuple[str, str]]:
    """Addresses in the domain *local* that lead to one user, by aliases(5)."""
    rows: dict[str, str] = {}
    for table in tables_in(examined.instance.values.get("alias_maps", "")) if local else ():
        if not is_listed(table):
            continue
        try:
            for key, value in examined.listings.rows(table):
                rows.setdefault(key.lower(), value.strip().lower())
        except TableError as error:
            listed.notes.append(f"alias_maps: {table}: {error}")
    for key in (each for each in rows if each not in NO_ALIASES):
        target = key
        for _ in range(_LONGEST):
            target = rows.get(target, target)
        if (address := _address(f"{key}@{local}")) and re.fullmatch(r"[\w.-]+", target):
            yield address, f"{target}@{local}"


def _address(text: str) -> str:
    """*text* as an address in normal form; "" where it is none, as of a whole domain."""
    local, _, domain = text.rpartition("@")
    if not (local and domain):
        return ""
    try:
        return values.address(text, "")
    except (AddressError, CellError):
        return ""


def fill(session: Session, listed: Listed, actor: str, now: int) -> tuple[int | None, int]:
    """Put what is *listed* into the tables, by *actor* at *now*: the changeset, and how many rows could not be put in.

    A new domain lets unlisted recipients through. Raises StoreError.
    """
    summary = Summary("database.import", "policyd setup")
    is_large = len(listed.mailboxes) + len(listed.aliases) > _LARGE
    with session.changing(actor, now, verb="import", summary=summary, may_create=True, is_bulk=is_large) as made:
        targets = sorted(listed.domains, key=lambda name: bool(listed.domains[name]))  # what others stand for first
        for name in targets:
            alias = listed.domains[name]
            made.edit.add_domain(Domain(name, Unlisted.REJECT if alias else Unlisted.ACCEPT, alias))
        bulk = BulkEditor(made.connection, made.edit)
        wrong = Counter(bool(bulk.apply(Record(number, "", (row,)))) for number, row in enumerate(_rows(listed), 1))
        wrong.update(bool(problems) for _, problems in bulk.finish())
    return made.changeset, wrong[True]


def _rows(listed: Listed) -> Iterator[Row]:
    for address in listed.mailboxes:
        yield mailbox_of(address, addresses=ListEdit(add=(address,)))
    for address, target in listed.aliases.items():
        yield AddressRow(address, target)

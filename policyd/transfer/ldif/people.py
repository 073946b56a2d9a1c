"""Finds out who an entry of a directory is: its mailbox's name and addresses, and who a distinguished name means."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, Protocol

from policyd.address import fold, normal_group, normal_name
from policyd.errors import AddressError, TransferError
from policyd.model import Party, PartyKind
from policyd.transfer.formats import ReadOptions
from policyd.transfer.ldif.entries import ACCEPTED, MEMBERS, NAMES, REJECTED, Block, Entry, read_entries
from policyd.transfer.ldif.names import GROUPS, NOBODY, Name, name_key, parse_name
from policyd.transfer.proxies import Addresses, read_proxies

_GROUPS = frozenset({"group", "groupofnames", "groupofuniquenames", "groupofmembers"})
OWN_ADDRESSES = ("mail", "proxyAddresses", "otherMailbox")  # the attributes
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,39}")
_PEOPLE_LIMIT = 500_000  # names that restrictions and their groups may mention: some 100 MB
_NESTING_LIMIT = 16  # groups in groups; each level reads the file once more


def read_addresses(mail: Iterable[str], proxies: Iterable[str], options: ReadOptions) -> Addresses:
    """The addresses in the values of `mail`, and in *proxies*, those of an attribute written as `proxyAddresses` is.

    `SMTP:` marks the primary one. Where none is marked, they stand in their order, those of `mail` first.
    """
    values = [("mail", text) for text in mail] + [("proxyAddresses", text) for text in proxies]
    return read_proxies(values, options.domain, is_directory=True)


def entry_addresses(values: dict[str, list[str]], options: ReadOptions) -> Addresses:
    """An entry's own addresses, without the one elsewhere that it is only a pointer to (`targetAddress`)."""
    texts = [(column, text) for column in OWN_ADDRESSES for text in values.get(column.lower(), ())]
    found = read_proxies(texts, options.domain, is_directory=True)
    target = read_addresses((), values.get("targetaddress", ()), options).all
    primary, others = (tuple(one for one in some if one not in target) for some in (found.primary, found.others))
    return Addresses(primary, others, found.skipped, found.problems)


def optional_addresses(values: Mapping[str, Sequence[str]], options: ReadOptions) -> tuple[str, ...]:
    """The addresses that only `otherMailbox` says: people's private ones stand there, too."""
    if not values.get("othermailbox"):
        return ()
    said = read_addresses(values.get("mail", ()), values.get("proxyaddresses", ()), options).all
    return tuple(each for each in read_addresses((), values["othermailbox"], options).all if each not in said)


def _addresses_elsewhere(values: dict[str, list[str]], options: ReadOptions) -> tuple[str, ...]:
    """Where mail to an entry goes that is no mailbox here, such as a contact."""
    target = read_addresses((), values.get("targetaddress", ()), options).all
    return target or entry_addresses(values, options).all


def is_mailbox(values: dict[str, list[str]], addresses: Addresses) -> bool:
    """Whether an entry is a mailbox: it has addresses of its own, or had (Active Directory leaves its mailNickname).

    A contact is none.
    """
    if "contact" in {text.lower() for text in values.get("objectclass", ())}:
        return False  # somebody elsewhere
    return bool(addresses.all) or ("mailnickname" in values and "targetaddress" not in values)


def mailbox_name(values: dict[str, list[str]]) -> str:
    """The first of mailNickname, uid and cn that can name a mailbox. Raises AddressError if none can."""
    return _first_name(values, normal_name)


def _first_name(values: dict[str, list[str]], normal: Callable[[str], str]) -> str:
    problem = AddressError("the entry has neither mailNickname nor uid nor cn to name the mailbox")
    for text in (text for attribute in NAMES for text in values.get(attribute, ())):
        try:
            return normal(text)
        except AddressError as error:
            problem = error
    raise problem


def name_in(name: Name) -> str:
    """The mailbox's name in the name of an entry: the value of its first part. Raises AddressError."""
    if not name or name[0][0] not in NAMES:
        raise AddressError("the record has only the entry's dn, and that begins with neither cn= nor uid=")
    return normal_name(name[0][1])


def is_group(values: dict[str, list[str]]) -> bool:
    """Whether an entry stands for its members."""
    classes = {text.lower() for text in values.get("objectclass", ())}
    return bool(classes & _GROUPS) or any(attribute in values for attribute in MEMBERS)


def kind_of(values: dict[str, list[str]]) -> str:
    """One word for what an entry is that is no mailbox."""
    if is_group(values):
        return "group"
    word = values.get("objectclass", [""])[-1]
    return word if _WORD.fullmatch(word) else "entry"


class List(NamedTuple):
    """A group of the directory that something in the file refers to: its name here, and the keys of its members."""

    name: str
    members: tuple[bytes, ...]

    @property
    def party(self) -> Party:
        """It as a party."""
        return Party(PartyKind.GROUP, self.name)


@dataclass(slots=True)
class People:
    """Whom the names in the file's restrictions stand for; nobody else is remembered."""

    senders: dict[bytes, Party] = field(default_factory=dict)
    lists: dict[bytes, List] = field(default_factory=dict)
    nobodies: set[bytes] = field(default_factory=lambda: {_key(NOBODY)})
    _names: dict[str, bytes] = field(default_factory=dict)  # whose a list's name is

    def find(self, text: str) -> tuple[Party, ...]:
        """Whom a distinguished name means: a mailbox, an address elsewhere, or a group.

        Beside a group stand the addresses elsewhere of those in it, who can be in no group here. Raises AddressError
        for who isn't in the file, or has such members.
        """
        key = _key(text)
        if key not in self.lists:
            return self._find_alone(key, f"{text[:200]!a} is")
        found, seen = [self.lists[key].party], {key}
        waiting = [*self.lists[key].members]
        while waiting:
            member = waiting.pop()
            if member not in seen:
                seen.add(member)
                if member in self.lists:
                    waiting += self.lists[member].members
                else:
                    someone = self._find_alone(member, f"a member of {text[:200]!a} is")
                    found += [party for party in someone if party.kind is PartyKind.PATTERN]
        return tuple(dict.fromkeys(found))

    def members_of(self, group: List) -> tuple[tuple[Party, ...], int]:
        """The members of *group* that can be in one here, and how many addresses elsewhere are in it besides.

        Raises AddressError for who isn't in the file.
        """
        found: list[Party] = []
        for key in group.members:
            if key in self.lists:
                found.append(self.lists[key].party)
            else:
                found += self._find_alone(key, f"a member of {group.name[:200]!a} is")
        members = tuple(party for party in found if party.kind is not PartyKind.PATTERN)
        return tuple(dict.fromkeys(members)), len(found) - len(members)

    def member(self, text: str) -> Party | None:
        """Whom the name of a member that joins or leaves means; None for who can be in no group here.

        Who is not in the file is the mailbox, or below our own `GROUPS` the group, that the first part of the name
        names. Raises AddressError.
        """
        key = _key(text)
        if key in self.lists:
            return self.lists[key].party
        if key in self.senders or key in self.nobodies:
            sender = self.senders.get(key)
            return None if sender is None or sender.kind is PartyKind.PATTERN else sender
        name = parse_name(text)
        is_ours = name[1:] == parse_name(GROUPS)
        return Party(PartyKind.GROUP if is_ours else PartyKind.MAILBOX, name_in(name))

    def add(self, key: bytes, entry: Entry, options: ReadOptions) -> None:
        """Remember *entry*, if it can send. One without any address stands for nobody."""
        try:
            if key in self.nobodies:
                return
            if entry.change in ("modify", "delete"):
                self.senders.setdefault(key, Party(PartyKind.MAILBOX, name_in(entry.name)))
            elif is_group(entry.values):
                self._add_list(key, entry)
            elif is_mailbox(entry.values, entry_addresses(entry.values, options)):
                self.senders[key] = Party(PartyKind.MAILBOX, mailbox_name(entry.values))
            elif elsewhere := _addresses_elsewhere(entry.values, options):
                self.senders[key] = Party(PartyKind.PATTERN, elsewhere[0])
            else:
                self.nobodies.add(key)
        except AddressError:
            return  # a record that mentions it has the problem that it is not there

    def _add_list(self, key: bytes, entry: Entry) -> None:
        """Remember a group. Of two with the same name, the second is left out: nobody knows which one is meant."""
        try:
            name = _first_name(entry.values, normal_group)
        except AddressError:
            name = normal_group(name_in(entry.name))
        if self._names.setdefault(fold(name), key) != key:
            raise AddressError(f"another group in this file is called {name}, too")
        members = (text for attribute in MEMBERS for text in entry.values.get(attribute, ()) if text)
        self.lists[key] = List(name, tuple(map(_key, members)))

    def _find_alone(self, key: bytes, who: str) -> tuple[Party, ...]:
        if key in self.senders:
            return (self.senders[key],)
        if key in self.nobodies:
            return ()
        raise AddressError(f"{who} neither a mailbox nor a group in this file")


class Source(Protocol):
    """The good entries of a file, which is read again each time."""

    def restricted(self) -> Iterator[Entry]:
        """Those that accept or reject somebody."""

    def named(self, keys: set[bytes]) -> Iterator[Entry]:
        """Those with these names, by their `name_key`."""


class LdifSource:
    """The entries of LDIF in *stream*."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def restricted(self) -> Iterator[Entry]:
        """Those that accept or reject somebody, or say who joins or leaves a group."""
        return _good_entries(self._stream, _names_people)

    def named(self, keys: set[bytes]) -> Iterator[Entry]:
        """Those with these names."""
        return _good_entries(self._stream, lambda block: name_key(block.name) in keys)


def find_people(source: Source, options: ReadOptions) -> People:
    """Whom the restrictions in the file mention. Reads it once, and once more for each level of groups.

    Raises TransferError where there are too many to remember.
    """
    # The names in the restrictions are the first to look for.
    people = People()
    asked: set[bytes] = set()
    missing = _more((key for entry in source.restricted() for key in _mentioned(entry)), asked)

    # Each pass finds the entries of these names; the members of the groups among them are the names of the next.
    for _ in range(_NESTING_LIMIT):
        if not missing:
            break
        for entry in source.named(missing):
            people.add(name_key(entry.name), entry, options)
        members = (key for each in missing if each in people.lists for key in people.lists[each].members)
        missing = _more(members, asked)
    return people


def _more(keys: Iterable[bytes], asked: set[bytes]) -> set[bytes]:
    """Those of *keys* that were not asked for yet, and now are."""
    new = set()
    for key in keys:
        if key not in asked:
            asked.add(key)
            new.add(key)
            if len(asked) > _PEOPLE_LIMIT:
                raise TransferError(
                    f"the restrictions name more than {_PEOPLE_LIMIT} senders; import the file in parts"
                )
    return new


def _names_people(block: Block) -> bool:
    """Whether a record says who is accepted or rejected, or who joins or leaves a group."""
    return block.mentions(ACCEPTED + REJECTED) or (block.mentions(("changetype",)) and block.mentions(MEMBERS))


def _good_entries(stream: BinaryIO, is_wanted: Callable[[Block], bool]) -> Iterator[Entry]:
    return (entry for entry in read_entries(stream, is_wanted) if isinstance(entry, Entry) and not entry.problems)


def _mentioned(entry: Entry) -> Iterator[bytes]:
    """The keys of the names in an entry's restrictions, and in changes to members.

    What is no name is a problem of its record, found later.
    """
    texts = [text for attribute in ACCEPTED + REJECTED for text in entry.values.get(attribute, ())]
    texts += [text for edit in entry.edits if edit.attribute in ACCEPTED + REJECTED + MEMBERS for text in edit.values]
    for text in texts:
        try:
            yield _key(text)
        except AddressError:
            continue


def _key(text: str) -> bytes:
    try:
        return name_key(parse_name(text))
    except ValueError as error:
        raise AddressError(str(error)) from error

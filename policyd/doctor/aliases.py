"""Where Postfix sends mail for an address on: its canonical addresses, virtual aliases and local aliases.

Source: canonical(5), virtual(5), aliases(5). Of several tables the first that has a key counts; an address is looked
for with its extension, without it, as a plain name where its domain is the host's own, and as its domain alone, until
it leads to itself. A target without a domain is one in that of myorigin.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Set

from policyd.address import fold
from policyd.doctor.maps import Listings, TableError, is_listed, look_up, tables_in
from policyd.doctor.postconf import Instance, read_origin
from policyd.doctor.words import split_words

ASKED = 20_000  # addresses about which a table that lists nothing is asked
# Those that change recipients, and the parameter that says so.
_CANONICAL = {"recipient_canonical_maps": "recipient_canonical_classes", "canonical_maps": "canonical_classes"}
_ENVELOPE = "envelope_recipient"
_NO_ADDRESS = ('"', "|", "/", ":", "\\")  # with which a target begins that is a command, a file, or a list in a file
_LONGEST = 1000  # steps of a chain; source: postconf(5), virtual_alias_recursion_limit


class _Table:
    """The rows of the tables that the parameter *name* has, both folded; the `silent` ones list nothing."""

    def __init__(self, name: str, instance: Instance, listings: Listings, unseen: list[str]) -> None:
        self.name = name
        self.rows: dict[str, str] = {}
        self.silent: list[str] = []
        self.tables: set[str] = set()
        for table in tables_in(instance.values.get(name, "")):
            if not is_listed(table):
                self.silent.append(table)
                continue
            try:
                rows = dict(listings.rows(table))
            except TableError as error:
                unseen.append(f"{name}: {table}: {error}")
                continue
            self.tables.add(table)
            rows.update(self.rows)
            self.rows = rows

    def ask(self, keys: Collection[str], folder: str, unseen: list[str]) -> None:
        """Have the silent tables answer to *keys*, if these are not too many."""
        for table in self.silent:
            if len(keys) > ASKED:
                unseen.append(f"{self.name}: {table}: more than {ASKED} addresses are too many to ask it")
                continue
            try:
                for key, value in look_up(table, keys, folder).items():
                    self.rows.setdefault(key, fold(value))
            except TableError as error:
                unseen.append(f"{self.name}: {table}: {error}")


class Aliases:
    """Where mail is sent on, by *listings* of Postfix's tables; what can't be looked at is added to *unseen*.

    `virtual_alias_maps` may have a million rows; what the others have is found through `further`.
    """

    def __init__(self, instance: Instance, listings: Listings, unseen: list[str]) -> None:
        self._delimiters = instance.values.get("recipient_delimiter", "")
        self._folder = str(instance.folder)
        self._unseen = unseen
        self._origin = _origin(instance)
        self._delivered = {*map(fold, split_words(instance.values.get("mydestination", "")))}
        self._own = {self._origin, *self._delivered}

        def read(name: str) -> _Table:
            return _Table(name, instance, listings, unseen)

        self._virtual = read("virtual_alias_maps")
        self._canonical = [read(name) for name in _CANONICAL if _ENVELOPE in instance.values.get(_CANONICAL[name], "")]
        is_local = instance.values.get("local_transport", "").startswith("local:")
        self._local = read("alias_maps") if self._delivered and is_local else None

    @property
    def keys(self) -> Set[str]:
        """The keys of the virtual aliases that the tables list, folded."""
        return self._virtual.rows.keys()

    def rows(self) -> Iterator[tuple[str, str]]:
        """The virtual aliases that the tables list: keys and values, both folded."""
        return iter(self._virtual.rows.items())

    def further(self) -> Iterator[tuple[str, str]]:
        """The rows of the other tables, in the same way."""
        for table in (*self._canonical, *([self._local] if self._local else [])):
            yield from table.rows.items()

    def has(self, table: str) -> bool:
        """Whether the virtual aliases are those of *table*, too."""
        return table in self._virtual.tables

    def is_silent(self) -> bool:
        """Whether some table lists nothing, as one of patterns, and has to be asked."""
        return any(table.silent for table in (self._virtual, *self._canonical))

    def exact(self, key: str) -> str:
        """The value of *key* itself as a virtual alias, "" where it has none."""
        return self._virtual.rows.get(key, "")

    def ask(self, addresses: Collection[str]) -> None:
        """Have the tables that list nothing say where they send *addresses*, if these are not too many."""
        for table in (self._virtual, *self._canonical):
            table.ask(addresses, self._folder, self._unseen)

    def targets(self, address: str) -> list[str]:
        """Where mail for *address*, folded, is sent on; [] where it stays."""
        local, _, domain = address.rpartition("@")
        base = self._without_extension(local)
        names = (local, base) if domain in self._own else ()
        keys = dict.fromkeys((address, f"{base}@{domain}", *names, f"@{domain}"))
        found = _first((table.rows for table in (*self._canonical, self._virtual)), keys)
        if not found and self._local and domain in self._delivered:
            found = _first([self._local.rows], (local, base))
        return [self._whole(word, local) for word in split_words(found) if not word.startswith(_NO_ADDRESS)]

    def addresses_of(self, key: str) -> list[str]:
        """The addresses that *key* stands for: itself, or, where it has no domain, that name in each of the host's."""
        return [key] if "@" in key else [f"{key}@{domain}" for domain in sorted(self._own) if domain]

    def chains(self, address: str) -> Iterator[list[str]]:
        """Every way that mail for *address* takes, from it to where it stays."""
        left = [[address]]
        for _ in range(_LONGEST):
            if not left:
                return
            way = left.pop()
            further = [each for each in self.targets(way[-1]) if each not in way]
            if not further or way[-1] in self.targets(way[-1]):
                yield way
            left += [[*way, each] for each in further]

    def _whole(self, word: str, local: str) -> str:
        """A target as an address: one that is a domain keeps the name that it was asked with."""
        if word.startswith("@"):
            return f"{local}{word}"
        return word if "@" in word or not self._origin else f"{word}@{self._origin}"

    def _without_extension(self, local: str) -> str:
        for at, character in enumerate(local):
            if at and character in self._delimiters:
                return local[:at]
        return local


def _first(tables: Iterable[Mapping[str, str]], keys: Iterable[str]) -> str:
    """The value of the first of *keys* that the first of *tables* has, of those that have any; "" where none has."""
    return next((value for rows in tables for key in keys if (value := rows.get(key, ""))), "")


def _origin(instance: Instance) -> str:
    try:
        return fold(read_origin(instance))
    except OSError:  # which is told where it is compared with the settings
        return ""

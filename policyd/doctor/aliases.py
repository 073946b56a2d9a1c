"""Postfix's virtual aliases as one table in memory, and where a chain of them leads.

Source: virtual(5). Of several tables the first that has a key counts; an address is looked for with its extension,
without it, as a plain name where its domain is the host's own, and as its domain alone, until it leads to itself. A
target without a domain is one in that of myorigin.
"""

from collections.abc import Collection, Iterator, Set

from policyd.address import fold
from policyd.doctor.maps import Listings, TableError, is_listed, look_up, tables_in
from policyd.doctor.postconf import Instance, read_origin
from policyd.doctor.words import split_words

ASKED = 20_000  # addresses about which a table that lists nothing is asked
_LONGEST = 1000  # steps of a chain; source: postconf(5), virtual_alias_recursion_limit


class Aliases:
    """What `virtual_alias_maps` says, by *listings* of its tables; what can't be looked at is added to *unseen*."""

    def __init__(self, instance: Instance, listings: Listings, unseen: list[str]) -> None:
        self._delimiters = instance.values.get("recipient_delimiter", "")
        self._folder = str(instance.folder)
        self._rows: dict[str, str] = {}
        self._silent: list[str] = []
        self._tables: set[str] = set()
        self._unseen = unseen
        self._origin = _origin(instance)
        self._own = {self._origin, *map(fold, split_words(instance.values.get("mydestination", "")))}
        for table in tables_in(instance.values.get("virtual_alias_maps", "")):
            if not is_listed(table):
                self._silent.append(table)
                continue
            try:
                rows = dict(listings.rows(table))
            except TableError as error:
                unseen.append(f"virtual_alias_maps: {table}: {error}")
                continue
            self._tables.add(table)
            rows.update(self._rows)
            self._rows = rows

    @property
    def keys(self) -> Set[str]:
        """The keys of what the tables list, folded."""
        return self._rows.keys()

    def rows(self) -> Iterator[tuple[str, str]]:
        """What the tables list: keys and values, both folded."""
        return iter(self._rows.items())

    def has(self, table: str) -> bool:
        """Whether the rows are those of *table*, too."""
        return table in self._tables

    def is_silent(self) -> bool:
        """Whether some table lists nothing, as one of patterns, and has to be asked."""
        return bool(self._silent)

    def exact(self, key: str) -> str:
        """The value of *key* itself, "" where it has none."""
        return self._rows.get(key, "")

    def ask(self, addresses: Collection[str]) -> None:
        """Have the tables that list nothing say where they send *addresses*, if these are not too many."""
        for table in self._silent:
            if len(addresses) > ASKED:
                self._unseen.append(f"virtual_alias_maps: {table}: more than {ASKED} addresses are too many to ask it")
                continue
            try:
                for key, value in look_up(table, addresses, self._folder).items():
                    self._rows.setdefault(key, fold(value))
            except TableError as error:
                self._unseen.append(f"virtual_alias_maps: {table}: {error}")

    def targets(self, address: str) -> list[str]:
        """Where mail for *address*, folded, is sent on; [] where it stays."""
        local, _, domain = address.rpartition("@")
        base = self._without_extension(local)
        names = (local, base) if domain in self._own else ()
        for key in dict.fromkeys((address, f"{base}@{domain}", *names, f"@{domain}")):
            if value := self._rows.get(key, ""):
                return [self._whole(word, local) for word in split_words(value)]
        return []

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


def _origin(instance: Instance) -> str:
    try:
        return fold(read_origin(instance))
    except OSError:  # which is told where it is compared with the settings
        return ""

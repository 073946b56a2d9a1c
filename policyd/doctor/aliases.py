"""Postfix's virtual aliases as one table in memory, and where a chain of them leads.

Source: virtual(5). Of several tables the first that has a key counts; an address is looked for with its extension,
without it, and as its domain alone, until it leads to itself.
"""

from collections.abc import Iterator, Set

from policyd.address import fold
from policyd.doctor.maps import TableError, is_listed, list_rows, look_up, tables_in
from policyd.doctor.postconf import Instance
from policyd.doctor.words import split_words

_LONGEST = 1000  # steps of a chain; source: postconf(5), virtual_alias_recursion_limit
_ASKED = 20_000  # addresses about which a table that lists nothing is asked


class Aliases:
    """What `virtual_alias_maps` says; what can't be looked at is added to *unseen*."""

    def __init__(self, instance: Instance, unseen: list[str]) -> None:
        self._delimiters = instance.values.get("recipient_delimiter", "")
        self._folder = str(instance.folder)
        self._rows: dict[str, str] = {}
        self._silent: list[str] = []
        self._tables: set[str] = set()
        self._unseen = unseen
        for table in tables_in(instance.values.get("virtual_alias_maps", "")):
            if not is_listed(table):
                self._silent.append(table)
                continue
            self._tables.add(table)
            try:
                for key, value in list_rows(table, self._folder):
                    self._rows.setdefault(fold(key), value)
            except TableError as error:
                unseen.append(f"virtual_alias_maps: {table}: {error}")

    @property
    def keys(self) -> Set[str]:
        """The keys of what the tables list, folded."""
        return self._rows.keys()

    def rows(self) -> Iterator[tuple[str, str]]:
        """What the tables list: keys, folded, and values."""
        return iter(self._rows.items())

    def has(self, table: str) -> bool:
        """Whether the rows are those of *table*, too."""
        return table in self._tables

    def leads_on(self, address: str) -> bool:
        """Whether mail for *address*, folded, may be sent on: a quick look before `targets`."""
        local, _, domain = address.rpartition("@")
        return address in self._rows or f"@{domain}" in self._rows or any(each in local for each in self._delimiters)

    def exact(self, key: str) -> str:
        """The value of *key* itself, "" where it has none."""
        return self._rows.get(key, "")

    def ask(self, addresses: Set[str]) -> None:
        """Have the tables that list nothing, as those of patterns, say where they send *addresses*."""
        for table in self._silent:
            if len(addresses) > _ASKED:
                self._unseen.append(f"virtual_alias_maps: {table}: {len(addresses)} addresses are too many to ask it")
                continue
            try:
                for key, value in look_up(table, addresses, self._folder).items():
                    self._rows.setdefault(key, value)
            except TableError as error:
                self._unseen.append(f"virtual_alias_maps: {table}: {error}")

    def targets(self, address: str) -> list[str]:
        """Where mail for *address*, folded, is sent on; [] where it stays."""
        local, _, domain = address.rpartition("@")
        base = self._without_extension(local)
        for key in dict.fromkeys((address, f"{base}@{domain}", f"@{domain}")):
            if value := self._rows.get(key, ""):
                words = [fold(word) for word in split_words(value)]
                return [f"{local}{word}" if word.startswith("@") else word for word in words]
        return []

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

    def _without_extension(self, local: str) -> str:
        for at, character in enumerate(local):
            if at and character in self._delimiters:
                return local[:at]
        return local

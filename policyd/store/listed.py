"""Of whom rows of a file have said a whole list, and what other rows of it took away by leaving it out."""

from collections.abc import Iterable

_SHOWN = 20  # of what was taken away

Key = int | str  # a mailbox's number, which a million need; what others are called


class ListedOnce:
    """Remembers whose lists were said as a whole by the records that are applied.

    Two people of one name, and a row for each address of one person, are two rows about one mailbox: the second takes
    the first one's addresses away, and their mail is refused. `taken` says of some what was taken, and from whom.
    """

    def __init__(self) -> None:
        self.taken: list[str] = []
        self._said: set[Key] = set()
        self._saying: list[Key] = []  # by the record that is being applied
        self._taking: list[str] = []  # likewise

    def is_said(self, key: Key) -> bool:
        """Whether another record has said the whole list of *key*."""
        return key in self._said

    def say(self, key: Key, name: str, left_out: Iterable[str]) -> None:
        """Note that the record being applied says the whole list of *key*, called *name*, and lacks *left_out*."""
        if key in self._said and (gone := sorted(left_out)):
            self._taking.append(f"{', '.join(gone)} of {name}")
        self._saying.append(key)

    def keep(self) -> None:
        """The record is applied: what it said counts."""
        if self._saying:
            self._said.update(self._saying)
            self._saying.clear()
            if self._taking:
                self.taken += self._taking[: _SHOWN - len(self.taken)]
                self._taking.clear()

    def drop(self) -> None:
        """The record is not applied."""
        self._saying.clear()
        self._taking.clear()

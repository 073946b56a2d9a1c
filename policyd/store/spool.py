"""Objects that wait in a temporary file: as many as there are, and hardly any memory."""

import pickle
import tempfile
from collections.abc import Iterator
from typing import IO, Generic, TypeVar

_Item = TypeVar("_Item")


class Spool(Generic[_Item]):
    """Keeps objects in the order in which they come; they can be gone through more than once."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self.count = 0

    def put(self, item: _Item) -> None:
        """Keep *item*; not while somebody goes through those there are."""
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        pickle.dump(item, self._file)
        self.count += 1

    def __iter__(self) -> Iterator[_Item]:
        """Every object, the oldest first."""
        if self._file is not None:
            self._file.seek(0)
            for _ in range(self.count):
                yield pickle.load(self._file)

    def close(self) -> None:
        """Forget them all."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self.count = 0

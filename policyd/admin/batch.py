"""Many changes of an administrator's as one changeset, in one transaction that begins with the first of them."""

from contextlib import ExitStack
from types import TracebackType

from policyd.admin.session import Changing, Session
from policyd.model import Change
from policyd.store.spool import Spool


class Batch:
    """The changeset that all lines of a batch add to, by *actor* at *now*, in Unix seconds; *changes* gets its changes.

    The transaction begins when a line asks for the tables. It is kept if the block ends well, and a dry run is not.
    """

    def __init__(
        self, session: Session, actor: str, now: int, changes: Spool[Change], *, is_dry_run: bool = False
    ) -> None:
        self._session = session
        self._actor = actor
        self._now = now
        self._is_dry_run = is_dry_run
        self._stack = ExitStack()
        self._made: Changing | None = None
        self.changes = changes

    def __enter__(self) -> "Batch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._made is not None and self._is_dry_run:
            self._made.discard()
        return self._stack.__exit__(kind, error, trace)

    def begun(self, *, may_create: bool = False) -> Changing:
        """The changeset; what can be the first change of all *may_create* the database. Raises StoreError."""
        if self._made is None:
            changing = self._session.changing(self._actor, self._now, may_create=may_create, spool=self.changes)
            self._made = self._stack.enter_context(changing)
        return self._made

    @property
    def changeset(self) -> int | None:
        """The number of the changeset, None where nothing was changed, or nothing is kept."""
        return self._made.changeset if self._made else None

    @property
    def is_logged(self) -> bool:
        """Whether syslog took every line."""
        return self._made is None or self._made.is_logged

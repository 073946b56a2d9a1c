"""The mail log as policyd writes it, and the decisions in it."""

import re
from collections.abc import Iterator

from tests.support.running_daemon import Syslog
from tests.support.waiting import until

_FIELD = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|<(?:[^>\\]|\\.)*>|[^,]*)(?:, |$)')


class Audit(Syslog):
    """The lines that arrived since the last `take`, oldest first."""

    def decision(self, **wanted: str) -> dict[str, str]:
        """The fields of the first decision that has *wanted* among its own; waits for it."""
        return until(lambda: next(self._decisions(wanted), None), f"a decision with {wanted} in the audit") or {}

    def _decisions(self, wanted: dict[str, str]) -> Iterator[dict[str, str]]:
        for line in self.lines():
            fields = {name: value.strip('"') for name, value in _FIELD.findall(line)}
            if "action" in fields and wanted.items() <= fields.items():
                yield fields

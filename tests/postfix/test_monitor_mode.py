"""Monitor mode: try the rules on real mail before any is refused."""

import pytest

from .audit import Audit
from .conftest import Connect
from .daemon import Daemon
from .replies import ACCEPTED
from .smtp import Session

pytestmark = pytest.mark.postfix

SETTINGS = {"mode": "monitor"}


def test_monitor_mode_refuses_nothing_and_logs_what_it_would(
    outsider: Session, connect: Connect, daemon: Daemon, audit: Audit
) -> None:
    """The administrator sees in the mail log whom a rule would hit, and no sender notices."""
    daemon.command("mailbox", "add", "ida", "ida@example.com")
    daemon.command("mailbox", "restrict", "ida", "--receive", "nobody")
    daemon.command("sender", "block", "ida")
    cases = [
        (outsider, "nosuch@example.com", "unlisted-recipient"),
        (outsider, "ida@example.com", "restricted-recipient"),
        (connect(address="10.1.2.3", login="ida"), "x@other.example", "blocked-sender"),
    ]
    for session, recipient, rule in cases:
        assert session.ask(recipient) == ACCEPTED
        fields = audit.decision(recipient=f"<{recipient}>")
        assert (fields["action"], fields["would"], fields["rule"]) == ("DUNNO", "REJECT", rule)

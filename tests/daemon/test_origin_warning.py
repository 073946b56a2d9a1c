"""The daemon's warning about a setting that leaves a way past every restriction."""

import pytest

from tests.support.drills import drill
from tests.support.running_daemon import Daemon
from tests.support.waiting import until

WARNING = 'warning="no origin is set: mail to <bob> is let through"'


@drill(
    "no ``origin`` in the settings",
    made="a start with one process and with two",
    client="plain ``bob`` is let through",
    log="``no origin is set: …``, once",
    lost="bob's restriction, for those who write to plain ``bob``",
)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("origin", "count"), [(None, 1), ("", 1), ("example.com", 0)])
def test_start_without_an_origin_is_warned_of_once(tmp_path, workers, origin, count):
    """Postfix takes mail for plain bob from anybody; who reads the log at the start can close that."""
    with Daemon(tmp_path) as daemon:
        daemon.write_settings(f"workers = {workers}", origin=origin)
        daemon.make_tables("bob")
        daemon.start()
        until(lambda: len(daemon.syslog.matching("event=started")) == workers, "every worker")
        daemon.reload()
        assert len(daemon.syslog.matching(WARNING)) == count
        if count:
            assert "postconf -h myorigin" in daemon.syslog.wait_for(WARNING)
        assert daemon.stop()[0] == 0

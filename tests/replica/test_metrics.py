"""What a host that follows a database shows of its replica."""

import time

from policyd.replica.status import status_file
from tests.replica.commands import with_tables
from tests.replica.hosts import MakeHost
from tests.support.postgresql import Cluster
from tests.support.scraping import fetch, scrape, value
from tests.support.waiting import until


def test_replica_is_seen_in_the_metrics(server: Cluster, make_host: MakeHost) -> None:
    """The tables that are shown are those from which the host answers, with how old they may be."""
    host = make_host(with_tables(server))
    host.write_settings(f'replica = "{host.replica}"', http=[f'listen = "unix:{host.web}"'])
    host.start()
    until(lambda: status_file(host.replica).exists(), "the first word from who follows")
    assert fetch(host.web, "/readyz")[::2] == (200, "ok\n")
    scraped = scrape(host.web)
    assert value(scraped, "policyd_database_readable") == 1
    assert value(scraped, "policyd_database_change") == host.status.id > 0
    assert 0 <= time.time() - value(scraped, "policyd_database_changed_timestamp_seconds") < 3600
    assert value(scraped, "policyd_entries", table="mailbox", state="in_force") == len(host.rows()["mailbox"]) > 0
    assert value(scraped, "policyd_replica_changes_behind") == 0
    assert 0 <= value(scraped, "policyd_replica_lag_seconds") < 3600
    assert host.stop() == (0, "")

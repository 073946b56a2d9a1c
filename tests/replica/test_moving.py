"""The database moves to another server, and the hosts' settings then name that: replicas go on where they were."""

from pathlib import Path

from tests.replica.commands import run, with_tables
from tests.replica.hosts import Following, rows_of_replica, rows_of_truth
from tests.support.postgresql import Cluster


def test_replica_goes_on_with_the_copy_of_its_database(server: Cluster, tmp_path: Path) -> None:
    """Thousands of hosts don't copy everything again because of a new machine: what they have is in the new one, too.

    By way of a file, as where the two servers see nothing of each other.
    """
    former = with_tables(server)
    with Following(tmp_path, former) as following:
        run(former, "mailbox restrict bob")
        run(former, "undo 6")
        following.wait_to_be_equal()

    # What is there goes to the other server; the host follows that one from then on.
    new = server.url(server.make_empty())
    run(former, f"database copy --to {tmp_path}/moving.db")
    run(f"{tmp_path}/moving.db", f"database copy --to '{new}'")
    assert rows_of_replica(following.replica) == rows_of_truth(new) == rows_of_truth(former)
    run(new, "group add staff bob ann")
    with Following(tmp_path, new) as following:
        following.wait_to_be_equal()
        run(new, "mailbox rename ann anna")
        run(new, "undo 8")
        following.wait_to_be_equal()
        assert following.lines == []  # neither divergence nor a copy
    run(new, "database check")

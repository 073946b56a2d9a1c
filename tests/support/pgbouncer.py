"""pgbouncer in front of a test's own PostgreSQL server, on a port of this machine."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.support.ports import free_port
from tests.support.postgresql import Cluster
from tests.support.required import give_up
from tests.support.waiting import until

_SETTINGS = """\
[databases]
* = host={folder} port={server} user=owner
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {connections}
ignore_startup_parameters = extra_float_digits
"""


def program() -> str:
    """Where pgbouncer is; without it tests are skipped, or fail where it is required."""
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        give_up("PGBOUNCER", "not installed: pgbouncer (Debian: apt-get install pgbouncer)")
    return found


@contextmanager
def pooled(server: Cluster, name: str, mode: str, connections: int = 5) -> Iterator[str]:
    """The URL of the database *name* through a pooler that lends its *connections* for a session or a transaction."""
    port = free_port()
    settings = server.folder / f"pgbouncer-{port}.ini"
    values = {"folder": server.folder, "server": server.port, "port": port, "mode": mode, "connections": connections}
    settings.write_text(_SETTINGS.format(**values))
    settings.chmod(0o644)
    options: dict[str, Any] = {}
    if os.geteuid() == 0:  # it does not run as root
        account = pwd.getpwnam("postgres")
        options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with subprocess.Popen(
        [program(), "--quiet", settings],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    ) as process:
        url = f"postgresql://owner@127.0.0.1:{port}/{name}"
        try:
            until(lambda: _answers(url), "pgbouncer")
            yield url
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True

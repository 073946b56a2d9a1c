"""What tests need of a machine: without it they are skipped, but where it is required they fail."""

import os
import shutil
import socket
from typing import NoReturn

import pytest

# For tests that become somebody else, mount, or make files of others. CI is root: there they fail where it is not.
as_root = pytest.mark.skipif(
    os.geteuid() != 0 and os.environ.get("POLICYD_REQUIRE_ROOT") != "1", reason="only root can do what this test does"
)


def give_up(what: str, reason: str) -> NoReturn:
    """Skip for *reason*, or fail where `POLICYD_REQUIRE_<what>=1` says that it must not happen, as in .ci/run."""
    variable = f"POLICYD_REQUIRE_{what}"
    if os.environ.get(variable) == "1":
        pytest.fail(f"{variable}=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def need_program(name: str, package: str) -> None:
    """Give up where there is no program *name*, of Debian's *package*."""
    if shutil.which(name) is None:
        give_up("PROGRAMS", f"not installed: {name} (Debian: apt-get install {package})")


def need_address(family: int, host: str) -> None:
    """Skip where this machine has no address *host*, as a container without IPv6: nobody can install that."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as tried:
            tried.bind((host, 0))
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")

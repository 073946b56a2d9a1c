"""What is said of too many connections, and when; which sockets other machines can reach."""

import dataclasses
import os
import socket
from contextlib import closing

import pytest

from policyd.audit import AuditLog
from policyd.daemon.admission import QUIET_SECONDS, Admission
from policyd.daemon.listener import listen_on
from policyd.endpoint import Endpoint
from policyd.errors import SettingsError
from policyd.settings import AuditSettings
from tests.support.kept_lines import KeptLines
from tests.support.required import need_address


class Door:
    """An admission of two, with a clock that is turned by hand, and what it says."""

    def __init__(self) -> None:
        log = KeptLines()
        self.lines = log.lines
        self.now = 0.0
        self.admission = Admission(2, 1, AuditLog(AuditSettings(), log), lambda: self.now)


@pytest.fixture
def door():
    return Door()


FULL = 'warning="too many connections; idle ones give way", limit=2'


def test_flood_is_two_lines_in_the_log(door):
    """One when it begins; one when for a while nobody had to give way, with how many did."""
    assert [door.admission.has_room(connections) for connections in (0, 1, 2, 3)] == [True, True, False, False]
    assert door.lines == []
    for second in range(100):
        door.now = float(second)
        if second % 3 == 0:
            door.admission.gave_way()
        assert not door.admission.check_over()
    assert door.lines == [FULL]
    door.now += QUIET_SECONDS
    assert door.admission.check_over()
    assert door.lines == [FULL, 'warning="connections gave way to new ones", count=34']
    assert door.admission.check_over()
    assert len(door.lines) == 2
    door.admission.gave_way()
    assert door.lines[2] == FULL


def test_stop_tells_how_many_there_were(door):
    """A restart is what people do first."""
    door.admission.gave_way()
    door.admission.end()
    assert door.lines == [FULL, 'warning="connections gave way to new ones", count=1']


def test_lack_of_descriptors_is_told_once(door):
    """Five attempts a second would fill the disk, too."""
    for _ in range(100):
        door.admission.ran_short(OSError(24, "Too many open files"))
    door.now += QUIET_SECONDS
    assert door.admission.check_over()
    assert door.lines == [
        'warning="connections wait\\x2c they can\'t be accepted: Too many open files"',
        'warning="connections are accepted again"',
    ]


def bound(family: socket.AddressFamily, address: tuple[str, int] | str) -> socket.socket:
    """A socket at that address; for IPv6, IPv4 gets in as well."""
    made = socket.socket(family)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind(address)
    return made


@pytest.mark.parametrize(
    ("family", "address", "local"),
    [
        (socket.AF_INET, ("127.0.0.1", 0), True),
        (socket.AF_INET, ("127.1.2.3", 0), True),
        (socket.AF_INET, ("", 0), False),
        (socket.AF_INET6, ("::1", 0), True),
        (socket.AF_INET6, ("::", 0), False),
        (socket.AF_INET6, ("::ffff:127.0.0.1", 0), True),
        (socket.AF_INET6, ("::ffff:0.0.0.0", 0), False),
        (socket.AF_UNIX, "\0policyd test", True),
    ],
)
def test_whoever_has_bound_a_socket_it_is_known_who_reaches_it(family, address, local):
    """A supervisor that hands over a socket may have bound it anywhere."""
    if family == socket.AF_INET6:
        need_address(family, address[0])
    with closing(bound(family, address)) as made:
        endpoint = Endpoint("what was handed over", descriptor=made.fileno())
        (listener,) = listen_on([endpoint], None, allow_remote=True)
        assert listener.is_local is local
        if not local:
            with pytest.raises(SettingsError, match="what was handed over: can be reached from other machines"):
                listen_on([dataclasses.replace(endpoint, descriptor=os.dup(made.fileno()))], None, allow_remote=False)
        made.detach()  # it was handed over
        listener.close()

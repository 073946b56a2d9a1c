"""Policy services and the daemon's sockets: which is which, and what Postfix has to write for one. Pure, but for links.

Source: postconf(5), check_policy_service; SMTPD_POLICY_README. A path that does not begin with `/` is one within the
queue directory, and the only one that a smtpd in a chroot can reach.
"""

import os
import re
from pathlib import Path

from policyd.doctor.postconf import Instance, Service
from policyd.endpoint import Endpoint, is_loopback

_INET = re.compile(r"(?:inet:)?(?:(.*):)?(\d+)", re.IGNORECASE)
_OF_MASTER = re.compile(r"unix:/?private/([^/]+)")


def path_of(endpoint: str, instance: Instance) -> Path | None:
    """Where the unix socket *endpoint* of Postfix's is; None where it is no unix socket."""
    kind, _, path = endpoint.partition(":")
    return instance.queue / path if kind.lower() == "unix" and path else None


def host_and_port(endpoint: str) -> tuple[str, int] | None:
    """The host and port of the TCP endpoint *endpoint* of Postfix's; None where it is none, or the port has a name."""
    match = _INET.fullmatch(endpoint)
    return ((match[1] or "localhost").strip("[]"), int(match[2])) if match else None


def service_of(endpoint: str, instance: Instance) -> Service | None:
    """The service of master.cf that has the unix socket *endpoint*; None where master has no such."""
    match = _OF_MASTER.fullmatch(endpoint)
    if match is None:
        return None
    return next((service for service in instance.services if service.name == f"{match[1]}/unix"), None)


def is_spawned(endpoint: str, instance: Instance) -> bool:
    """Whether spawn(8) starts policyd for each connection to *endpoint*."""
    service = service_of(endpoint, instance)
    return service is not None and service.command == "spawn" and "--stdio" in service.arguments


def relative_endpoint(endpoint: str, instance: Instance, listen: tuple[Endpoint, ...]) -> Endpoint | None:
    """Which of *listen* Postfix reaches at *endpoint*; None for none. spawn(8)'s is one of its own."""
    if is_spawned(endpoint, instance):
        return Endpoint(endpoint)
    path, inet = path_of(endpoint, instance), host_and_port(endpoint)
    for each in listen:
        if each.path and path is not None and os.path.realpath(path) == os.path.realpath(each.path):
            return each
        if each.port and inet is not None and inet[1] == each.port and _is_same_host(inet[0], each.interface):
            return each
    return None


def _is_same_host(host: str, interface: str) -> bool:
    is_here = host == "localhost" or is_loopback(host)
    return host == interface or (is_here and (interface in ("", "::", "0.0.0.0") or is_loopback(interface)))


def wanted_endpoint(instance: Instance, listen: tuple[Endpoint, ...], *, is_chrooted: bool) -> str:
    """What Postfix has to write to reach the daemon, as `unix:policyd/policyd.sock`."""
    queue = os.path.realpath(instance.queue)
    for each in listen:
        if each.path and os.path.realpath(each.path).startswith(f"{queue}/"):
            return f"unix:{os.path.relpath(os.path.realpath(each.path), queue)}"
    for each in listen:
        if each.port:
            host = each.interface if each.interface not in ("", "::", "0.0.0.0") else "127.0.0.1"
            return f"inet:{f'[{host}]' if ':' in host else host}:{each.port}"
    for each in listen:
        if each.path and not is_chrooted:
            return f"unix:{each.path}"
    return "unix:policyd/policyd.sock"


def needs_socket_in(instance: Instance, listen: tuple[Endpoint, ...], *, is_chrooted: bool) -> str:
    """The endpoint to add to `listen`, where smtpd in its chroot can't reach any; "" where it can."""
    wanted = wanted_endpoint(instance, listen, is_chrooted=is_chrooted)
    if relative_endpoint(wanted, instance, listen) is not None:
        return ""
    return f"unix:{instance.queue}/policyd/policyd.sock:mode=660"

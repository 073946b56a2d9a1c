"""Parses Twisted's endpoint strings, which say where the daemon listens. Pure, but for asking Postfix for its queue."""

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

_POSTFIX_QUEUE = "/var/spool/postfix"
_UNESCAPED_COLON = re.compile(r"(?<!\\):")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen: a unix socket at `path`, or a TCP `port` on `interface` ("" is every one).

    `mode` is the socket's, `backlog` how many connections may wait to be accepted. `descriptor` is a socket that
    listens there already, and belongs to whoever opened it; -1 is none.
    """

    text: str
    path: str = ""
    mode: int = 0o660
    port: int = 0
    interface: str = ""
    backlog: int = 512
    descriptor: int = -1

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.path) or is_loopback(self.interface)


class Given(NamedTuple):
    """The sockets that systemd has opened: for Postfix, and those called `http` for metrics and the pages."""

    listen: tuple[Endpoint, ...] = ()
    http: tuple[Endpoint, ...] = ()


NOT_GIVEN = Given()


def is_loopback(host: str) -> bool:
    """Whether *host* is a loopback address, of IPv4, IPv6, or IPv4 within IPv6; no name is one."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def parse_endpoint(text: str) -> Endpoint:
    """An endpoint in Twisted's notation: `unix:PATH[:mode=660]` or `tcp:PORT[:interface=ADDRESS]`.

    Raises ValueError.
    """
    allowed = f"{text!r}: allowed are unix:/path[:mode=660] and tcp:PORT[:interface=127.0.0.1], each with [:backlog=N]"
    # Options have a name; what has none is the path or the port.
    kind, *words = (word.replace("\\:", ":") for word in _UNESCAPED_COLON.split(text))
    named = dict(word.split("=", 1) for word in words if re.match(r"(mode|interface|backlog|port|address)=", word))
    plain = [word for word in words if word.partition("=")[0] not in named]
    if len(plain) > 1 or len(plain) + len(named) != len(words):
        raise ValueError(allowed)

    # Each kind takes its options, and no other may be left.
    try:
        backlog = int(named.pop("backlog", "512"))
        if backlog < 1 or "\0" in text:
            raise ValueError(text)
        if kind == "unix":
            path = plain[0] if plain else named.pop("address")
            mode = int(named.pop("mode", "660"), 8)
            if named or not path.startswith("/") or not 0 <= mode <= 0o777:
                raise ValueError(path)
            return Endpoint(text, path=path, mode=mode, backlog=backlog)
        if kind not in ("tcp", "tcp6"):
            raise ValueError(kind)
        port = int(plain[0] if plain else named.pop("port"))
        interface = named.pop("interface", "::" if kind == "tcp6" else "").replace("localhost", "127.0.0.1")
        if named or not 0 <= port <= 65535 or (interface and not ip_address(interface).compressed):
            raise ValueError(port)
    except (ValueError, KeyError) as error:
        raise ValueError(allowed) from error
    return Endpoint(text, port=port, interface=interface, backlog=backlog)


def default_listen() -> tuple[Endpoint, ...]:
    """A socket in the folder policyd/ of Postfix's queue directory if it can be made there, else TCP port 10040."""
    folder = Path(_queue_directory(), "policyd")
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return (Endpoint(f"unix:{folder}/policyd.sock", path=f"{folder}/policyd.sock"),)
    return (parse_endpoint("tcp:10040:interface=127.0.0.1"),)


def _queue_directory() -> str:
    import shutil  # where `listen` says what is meant, or nothing listens, nobody needs them
    import subprocess

    postconf = shutil.which("postconf", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
    if postconf is None:
        return _POSTFIX_QUEUE
    try:
        asked = subprocess.run([postconf, "-h", "queue_directory"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return _POSTFIX_QUEUE
    return asked.stdout.strip() or _POSTFIX_QUEUE

"""A system that is this machine's, but for what the documents write to: mounts that nobody else sees, and a network.

All this runs in a mount namespace of its own; without one it would change the machine. Source: unshare(1).
"""

import os
import shutil
import subprocess
from pathlib import Path

HIDDEN = Path("/mnt")  # where what is covered can still be reached
OURS = ("127.0.0.1", "192.0.2.1")  # as the guide shows them
OUTSIDE = "203.0.113.7"  # in nobody's networks

# A Postfix that works already, which the guide asks for: the host's own Debian master.cf beside these lines.
MAIN_CF = """
compatibility_level = 3.6
myhostname = mx.example.com
myorigin = example.com
mydestination = mx.example.com, localhost, example.com
mynetworks = 127.0.0.0/8, [::1]/128, 192.0.2.0/24
inet_interfaces = 127.0.0.1, 192.0.2.1
inet_protocols = ipv4
recipient_delimiter = +
alias_maps = inline:{ a.smith=alice }
alias_database =
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
"""


def make_private() -> None:
    """Cover every folder that the documents write to."""
    run("mount", "-t", "tmpfs", "tmpfs", str(HIDDEN))
    shutil.copytree("/etc", HIDDEN / "etc", symlinks=True, ignore_dangling_symlinks=True)
    run("mount", "--bind", str(HIDDEN / "etc"), "/etc")
    for folder in ("/opt", "/usr/local/bin", "/dev"):
        _cover(Path(folder))
    for folder in ("/var/lib", "/var/mail", "/var/backups", "/var/spool/postfix"):
        if Path(folder).is_dir():
            run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
    run("chgrp", "mail", "/var/mail")
    run("chmod", "2775", "/var/mail")


def configure_postfix() -> None:
    """Make the mail system that the guide begins with, and the people on it."""
    Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{OURS[1]} mx.example.com mx\n")
    Path("/etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
    Path("/etc/resolv.conf").unlink(missing_ok=True)
    Path("/etc/resolv.conf").touch()
    Path("/etc/postfix/main.cf").write_text(MAIN_CF)
    for person in ("alice", "bob", "carol", "dora"):
        run("useradd", "--no-create-home", person)


def connect_network() -> None:
    """Give the host its addresses, and that of somebody outside."""
    run("ip", "link", "set", "lo", "up")
    for address in (OURS[1], OUTSIDE):
        run("ip", "address", "add", f"{address}/24", "dev", "lo")


def run(*words: str) -> None:
    """Run a command, which must succeed."""
    subprocess.run(words, check=True, timeout=60)


def _cover(folder: Path) -> None:
    """Put a new folder in place of *folder*, with a link to each thing that was in it."""
    kept = HIDDEN / folder.name
    kept.mkdir()
    run("mount", "--rbind", str(folder), str(kept))
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder))
    for name in os.listdir(kept):
        (folder / name).symlink_to(kept / name)

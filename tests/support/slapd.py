"""A directory server of our own for a test: Debian's slapd on a loopback port, its database in a folder.

Its schema is that of inetOrgPerson, with the few attributes of Active Directory that say who may send to whom.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.required import give_up

SUFFIX = "dc=example,dc=test"
EXPORTED = "ou=policyd"  # where policyd's own exports go
PASSWORD = "secret"
LIMIT_SECONDS = 60

_PROGRAMS = ("slapd", "ldapadd", "ldapmodify", "ldapsearch")
_PATH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"  # slapd is not in everybody's

# Object identifiers under 2.999, the arc for examples.
_SCHEMA = """\
attributetype ( 2.999.1.1 NAME 'proxyAddresses' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 2.999.1.2 NAME 'mailNickname' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 2.999.1.3 NAME 'targetAddress' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 2.999.1.4 NAME 'authOrig' SUP distinguishedName )
attributetype ( 2.999.1.5 NAME 'unauthOrig' SUP distinguishedName )
attributetype ( 2.999.1.6 NAME 'dLMemSubmitPerms' SUP distinguishedName )
attributetype ( 2.999.1.7 NAME 'dLMemRejectPerms' SUP distinguishedName )
attributetype ( 2.999.1.8 NAME 'msExchRequireAuthToSendTo' EQUALITY booleanMatch
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.7 SINGLE-VALUE )
objectclass ( 2.999.2.1 NAME 'mailRecipient' SUP top AUXILIARY
    MAY ( proxyAddresses $ mailNickname $ authOrig $ unauthOrig $ dLMemSubmitPerms $ dLMemRejectPerms
        $ msExchRequireAuthToSendTo ) )
objectclass ( 2.999.2.2 NAME 'contact' SUP top STRUCTURAL MUST cn MAY ( targetAddress $ proxyAddresses $ mail ) )
"""

_SETTINGS = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include {folder}/recipients.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
argsfile {folder}/slapd.args
sizelimit unlimited
database mdb
maxsize 67108864
suffix "{suffix}"
rootdn "cn=admin,{suffix}"
rootpw {password}
directory "{folder}/database"
database mdb
maxsize 67108864
suffix "{exported}"
rootdn "cn=admin,{exported}"
rootpw {password}
directory "{folder}/exported"
"""

_TOP = f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n"


@dataclass(frozen=True, slots=True)
class Directory:
    """A running server. Its calls raise CalledProcessError with the programs' own words."""

    url: str

    def add(self, ldif: str, below: str = SUFFIX) -> None:
        """Load entries, with `ldapadd`."""
        self._run("ldapadd", below, ldif)

    def modify(self, ldif: str, below: str = SUFFIX) -> None:
        """Apply change records, with `ldapmodify`."""
        self._run("ldapmodify", below, ldif)

    def export(self, *arguments: str, below: str = SUFFIX) -> bytes:
        """What `ldapsearch` prints of all that is *below*: `-LLL`, a filter and attributes may be given."""
        return self._run("ldapsearch", below, "", "-b", below, *arguments)

    def _run(self, program: str, below: str, text: str, *arguments: str) -> bytes:
        command = [_find(program), "-x", "-H", self.url, "-D", f"cn=admin,{below}", "-w", PASSWORD, *arguments]
        result = subprocess.run(command, input=text.encode(), capture_output=True, timeout=LIMIT_SECONDS, check=False)
        assert result.returncode == 0, result.stderr.decode("utf-8", "replace")
        return result.stdout


@contextmanager
def run_directory(folder: Path) -> Iterator[Directory]:
    """A server with nothing but the top entry in it, as long as the block lasts.

    Skips the test where slapd isn't installed, or fails it with POLICYD_REQUIRE_SLAPD=1.
    """
    _require_programs()
    for database in ("database", "exported"):
        (folder / database).mkdir(parents=True)
    (folder / "recipients.schema").write_text(_SCHEMA)
    settings = folder / "slapd.conf"
    settings.write_text(_SETTINGS.format(folder=folder, suffix=SUFFIX, exported=EXPORTED, password=PASSWORD))
    url = f"ldap://127.0.0.1:{free_port()}/"
    with (folder / "slapd.log").open("wb") as log:
        # With -d it stays in the foreground: it ends with us, whatever happens.
        command = [_find("slapd"), "-f", str(settings), "-h", url, "-d", "0"]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            directory = Directory(url)
            _await(server, url, folder / "slapd.log")
            directory.add(_TOP)
            yield directory
        finally:
            _stop(server)


def _require_programs() -> None:
    missing = [program for program in _PROGRAMS if not shutil.which(program, path=_PATH)]
    if not missing:
        return
    give_up("SLAPD", f"not installed: {', '.join(missing)} (Debian: apt-get install slapd ldap-utils)")


def _find(program: str) -> str:
    return shutil.which(program, path=_PATH) or program


def _await(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return once the server answers; fail with its own words if it doesn't."""
    port = int(url.rstrip("/").rpartition(":")[2])
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"slapd does not answer: {log.read_text(errors='replace')}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()

"""The errors of policyd, each named for who must act; `str()` gives one line for a log or a terminal."""

import errno
import os
import sys


class PolicydError(Exception):
    """What went wrong and what to do, in one line; `exit_status` is what a command ends with."""

    exit_status = 1


class ProtocolError(PolicydError):
    """The peer broke the policy delegation protocol: hang up, without a reply."""

    exit_status = 65  # EX_DATAERR


class AuditLineError(PolicydError):
    """A line of a log that does not hold a whole request: give another line, or the request itself."""

    exit_status = 65  # EX_DATAERR


class LogError(PolicydError):
    """A log that is not there, or can't be read: name another one, or become who may read it."""

    exit_status = 74  # EX_IOERR


class AddressError(PolicydError):
    """A text that is not the address, domain, pattern or name it was given as: type it differently."""


class RefusedError(PolicydError):
    """The change or question makes no sense for the tables as they are: nothing was changed.

    `fact` is what is wrong, without the command to type: for a row of a file, where nobody types one.
    """

    def __init__(self, message: str, *, fact: str = "") -> None:
        super().__init__(message)
        self.fact = fact or message


class NotYetError(RefusedError):
    """What is not there, or what another has: a later row of a file may change that."""


class NotManagedError(RefusedError):
    """A domain that policyd does not manage: the message names the command that would add it.

    *spelling* is what to know besides, where Postfix takes the domain for another one.
    """

    def __init__(self, what: str, domain: str, spelling: str = "") -> None:
        also = f". {spelling}" if spelling else ""
        super().__init__(f"{what}: the domain {domain} is not managed; add it with: policyd domain add {domain}{also}")
        self.domain = domain


class StoreError(PolicydError):
    """The database can't be reached or read: wait, or fix it."""

    exit_status = 69  # EX_UNAVAILABLE


class TablesMovedError(StoreError):
    """The tables were changed while they were read: read again what belongs together."""

    def __init__(self) -> None:
        super().__init__("the tables were changed while they were read; ask again")


class DivergedError(StoreError):
    """The replica is not what the database's journal says of it: copy the whole database again."""


class StoreAwayError(StoreError):
    """The server can't be reached, or does not answer: it is tried again, whatever words it has for that."""


class NoReplicaError(StoreError):
    """The file is somebody else's, by what it begins with: nothing is done to it."""


class ReplicaSpoiledError(StoreError):
    """The replica's file is damaged, or another file's log is beside it: make it again."""


class StoreMissingError(StoreError):
    """There is no database where the settings say."""


class StoreSpoiledError(StoreError):
    """The database is there, and no waiting makes it one that can be read: restore a backup."""


class StoreOutdatedError(StoreSpoiledError):
    """The tables are those of an older policyd: upgrade them."""


class StoreWriteError(StoreError):
    """The database can't be written; what was to be changed is as it was."""

    exit_status = 74  # EX_IOERR


class StoreCreateError(StoreError):
    """The database can't be made."""

    exit_status = 73  # EX_CANTCREAT


class StoreUnsoundError(StoreError):
    """The database can be read, and is not as it should be; what is wrong with it has been printed."""

    exit_status = 1


class SettingsError(PolicydError):
    """A setting the administrator must fix; the message names the file and the key."""

    exit_status = 78  # EX_CONFIG


class PostfixError(PolicydError):
    """Postfix's configuration can't be read: install Postfix, or name the folder of its configuration."""

    exit_status = 69  # EX_UNAVAILABLE


class SetupError(PolicydError):
    """What keeps Postfix from being connected with policyd, or that from being taken back: do what it says."""


class TransferError(PolicydError):
    """A file that can't be imported, as a whole: fix it, or say how it is to be read."""

    exit_status = 65  # EX_DATAERR


class BatchError(PolicydError):
    """A line of a batch that can't be done: nothing was changed. It ends as the line alone would have ended."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class DaemonError(PolicydError):
    """The running daemon can't be asked: start it, or see its log."""

    exit_status = 69  # EX_UNAVAILABLE


class ListenError(PolicydError):
    """An endpoint that can't be listened on."""

    exit_status = 69  # EX_UNAVAILABLE


def reason_of(error: OSError) -> str:
    """The operating system's own words for *error*, without the path and number around them."""
    return error.strerror or errno.errorcode.get(error.errno or 0, str(error))


# The packages that only an extra of policyd needs.
_EXTRAS = {"prometheus_client": "web", "jinja2": "web", "markupsafe": "web", "psycopg": "postgresql"}


def missing_package(error: ModuleNotFoundError) -> str:
    """Which package is not installed, and what to type; "" where it is a module of policyd that is not there."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "policyd"):
        return ""
    return f"the Python package {package} is missing; type: {install_line(_EXTRAS.get(package, ''))}"


def install_line(extra: str = "") -> str:
    """The command that installs what policyd needs, or an *extra* of it: by the pip of the environment it is in."""
    is_apart = sys.prefix != sys.base_prefix  # Debian refuses pip install beside its own packages
    pip = os.path.join(sys.prefix, "bin", "pip") if is_apart else "pip"
    return f"{pip} install 'policyd[{extra}]'" if extra else f"{pip} install policyd"

"""Which user the daemon runs as: what root must do is done first, and then root is given up for good."""

import grp
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs

from policyd.errors import SettingsError, reason_of

UMASK = 0o027  # what the daemon makes, its group may read and nobody else


@attrs.frozen
class Identity:
    """A user to become, with the group and the supplementary groups."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Be that user for a moment, as far as files go. The process must be root's, whoever it acts as already."""
        before = os.geteuid(), os.getegid(), os.getgroups()
        try:
            _act_as(self.uid, self.gid, self.groups)
        except OSError as error:
            _act_as(*before)
            raise self.refused(error) from error
        try:
            yield
        finally:
            _act_as(*before)

    def refused(self, error: OSError) -> SettingsError:
        """What to say where the operating system doesn't let it be that user."""
        return SettingsError(f"user: can't become {self.user}: {reason_of(error)}")


def _act_as(uid: int, gid: int, groups: Sequence[int]) -> None:
    os.seteuid(0)
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)


def identity_to_become(user: str, group: str) -> Identity | None:
    """Whom the settings *user* and *group* mean, or None where that is who started the daemon.

    Raises SettingsError: also for root, unless *user* says so, and where only root could become it.
    """
    is_root = os.geteuid() == 0
    if is_root and not user:
        raise SettingsError(
            "user: policyd was started as root, and does not serve as root unasked; set user to the one it shall "
            'become, as user = "policyd" in the settings file (or user = "root", to stay root)'
        )
    account = _account(user) if user else None
    gid = _gid(group) if group else None
    if not is_root:
        if account is not None and account.pw_uid != os.geteuid():
            raise SettingsError(_only_root("user", user))
        if gid is not None and gid not in (os.getegid(), *os.getgroups()):
            raise SettingsError(_only_root("group", group))
        return None
    assert account is not None  # root has said whom
    if account.pw_uid == 0 and gid is None:
        return None
    gid = account.pw_gid if gid is None else gid
    return Identity(user, account.pw_uid, gid, tuple(os.getgrouplist(account.pw_name, gid)))


def become(identity: Identity) -> None:
    """Be *identity* from now on, without a way back. Raises SettingsError if that can't be."""
    try:
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        raise identity.refused(error) from error
    if _can_come_back(identity):
        raise SettingsError(
            f"user: became {identity.user}, and could still become root again, by capabilities or securebits that "
            "policyd was started with; start it without"
        )


def _can_come_back(identity: Identity) -> bool:
    for attempt, number in ((os.setuid, identity.uid), (os.setgid, identity.gid)):
        if number != 0:
            try:
                attempt(0)
            except PermissionError:
                continue
            return True
    return False


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError as error:
        raise SettingsError(
            f"user: there is no user {user!r}; make it with: useradd --system --user-group {user}"
        ) from error


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise SettingsError(f"group: there is no group {group!r}; make it with: groupadd --system {group}") from error


def _only_root(key: str, name: str) -> str:
    return f"{key}: only root can become {name}: start policyd as root, or as {name}, or take {key} out of the settings"

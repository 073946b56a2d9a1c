"""Becomes the user that the daemon runs as, once what only root can do is done, and gives root up for good."""

import grp
import os
import pwd

from policyd.errors import SettingsError
from policyd.files import Identity

UMASK = 0o027  # what the daemon makes, its group may read and nobody else


def identity_to_become(user: str, group: str) -> Identity | None:
    """Whom the settings *user* and *group* mean, or None where that is who started the daemon.

    Raises SettingsError: also for root, unless *user* says so, and where only root could become it.
    """
    # Root must say which user to become.
    is_root = os.geteuid() == 0
    if is_root and not user:
        raise SettingsError(
            "user: policyd was started as root, and does not serve as root unasked; set user to the one it shall "
            'become, as user = "policyd" in the settings file (or user = "root", to stay root)'
        )

    # Nobody else can become another user, or join another group.
    account = _account(user) if user else None
    gid = _gid(group) if group else None
    if not is_root:
        if account is not None and account.pw_uid != os.geteuid():
            raise SettingsError(_only_root("user", user))
        if gid is not None and gid not in (os.getegid(), *os.getgroups()):
            raise SettingsError(_only_root("group", group))
        return None

    # Root becomes that user, with the primary group where no other is named.
    assert account is not None  # root has named one
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

"""Who the daemon is, and who could write what it relies on. Most of it takes root to try."""

import grp
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

import policyd
from policyd.cli import main
from tests.support import preloaded
from tests.support.drills import drill
from tests.support.fake_smtpd import FakeSmtpd, request
from tests.support.places import OPEN_PLACE
from tests.support.processes import tree
from tests.support.processes import workers as workers_of
from tests.support.required import as_root, give_up
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS, until

ALICE = request(recipient="alice@example.com")
USER = "nobody"
IS_ROOT = os.geteuid() == 0
KINDS = pytest.mark.parametrize(
    "workers", [pytest.param(1, id="one process"), pytest.param(2, id="workers", marks=pytest.mark.full)]
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can reach and only its owner can write."""
    folder = Path(tempfile.mkdtemp(prefix="policyd-", dir=OPEN_PLACE))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def daemon(folder) -> Iterator[Daemon]:
    """A daemon that is not started yet, and becomes nobody. It knows alice@example.com."""
    if not IS_ROOT:
        give_up("ROOT", "only root can become somebody else")
    (folder / "site").mkdir()
    shutil.chown(folder / "site", USER)
    with Daemon(folder / "site", USER) as daemon:
        daemon.make_tables("alice")
        yield daemon


@pytest.fixture
def plain(tmp_path) -> Iterator[Daemon]:
    """A daemon that is not started yet, and stays who starts it."""
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        yield daemon


def status_of(pid: int) -> dict[str, list[str]]:
    """What the kernel says of a process, by key."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: rest.split() for key, _, rest in (line.partition(":") for line in lines)}


def start(daemon: Daemon, workers: int, *lines: str) -> None:
    """Start it; return when all workers are ready."""
    daemon.write_settings(f"workers = {workers}", *lines)
    daemon.start()
    until(lambda: len(daemon.syslog.matching("event=started")) == workers, "all workers")


@drill(
    "started as root",
    made='``user = "nobody"``; /proc/PID/status of all processes',
    log="``event=started``",
)
@KINDS
def test_root_is_given_up_for_good_in_every_process(daemon, workers):
    """Whoever breaks into the daemon finds a user with nothing, and no way back."""
    start(daemon, workers)
    account = pwd.getpwnam(USER)
    processes = tree(daemon.pid)
    assert len(processes) == (1 if workers == 1 else 1 + workers)
    for pid in processes:
        status = status_of(pid)
        assert status["Uid"] == [str(account.pw_uid)] * 4
        assert status["Gid"] == [str(account.pw_gid)] * 4
        assert status["Groups"] == [str(account.pw_gid)]
        assert [status[key] for key in ("CapPrm", "CapEff", "CapAmb", "CapInh")] == [["0" * 16]] * 4
        assert status["Umask"] == ["0027"]
    assert daemon.ask(ALICE) == "DUNNO"
    owners = {each.name: each.stat().st_uid for each in daemon.folder.glob("policy*") if each != daemon.config}
    assert set(owners.values()) == {account.pw_uid}
    assert "policyd.db-shm" in owners
    assert daemon.stop() == (0, "")
    assert not daemon.socket.exists()


@drill(
    "root's groups",
    made='``group = "daemon"``',
)
@KINDS
def test_group_and_the_users_other_groups_are_taken(daemon, workers):
    """Whatever groups root's shell had are gone."""
    group = grp.getgrnam("daemon")
    start(daemon, workers, 'group = "daemon"')
    for pid in tree(daemon.pid):
        status = status_of(pid)
        assert status["Gid"] == [str(group.gr_gid)] * 4
        assert {*status["Groups"]} == {*map(str, os.getgrouplist(USER, group.gr_gid))}
    made = daemon.socket.stat()
    assert (made.st_gid, stat.S_IMODE(made.st_mode)) == (group.gr_gid, 0o660)


@drill(
    "Postfix's group must get in",
    made="folder 2750 nobody:mail",
)
def test_socket_gets_the_group_of_its_setgid_folder(daemon, folder):
    """As contrib/postfix/README.rst has it: the folder is the user's, and Postfix's group gets in."""
    queue = folder / "queue"
    queue.mkdir()
    shutil.chown(queue, USER, "mail")
    queue.chmod(0o2750)
    daemon.socket = queue / "policyd.sock"
    start(daemon, 1)
    made = daemon.socket.stat()
    assert (made.st_uid, made.st_gid) == (pwd.getpwnam(USER).pw_uid, grp.getgrnam("mail").gr_gid)
    assert stat.S_IMODE(made.st_mode) == 0o660
    assert daemon.stop() == (0, "")
    assert not daemon.socket.exists()


@drill(
    "socket where only root may write",
    made="folder 0755 of root, start and stop twice",
    client="nothing after the start",
    lost="the socket file stays until the next start",
)
@KINDS
def test_socket_in_a_folder_of_roots_is_the_users_and_outlives_the_daemon(daemon, folder, workers):
    """Root can put it there, the user can't take it away: the next start does."""
    (folder / "run").mkdir()
    daemon.socket = folder / "run" / "policyd.sock"
    for _ in range(2):
        daemon.write_settings(f"workers = {workers}", 'group = "mail"')
        daemon.start()
        made = daemon.socket.stat()
        assert (made.st_uid, made.st_gid) == (pwd.getpwnam(USER).pw_uid, grp.getgrnam("mail").gr_gid)
        assert daemon.ask(ALICE) == "DUNNO"
        assert daemon.stop() == (0, "")
        assert daemon.socket.is_socket()


@drill(
    "socket in somebody else's folder",
    made="started as root, with the folder of the socket owned by another user, who puts a socket of his own there",
    client="its answers",
    lost="nothing; what has the socket's name at the end, and is another one, stays",
)
@pytest.mark.parametrize("user", [USER, "root"])
def test_roots_socket_in_somebody_elses_folder_is_made_with_his_rights(folder, user):
    """Swapped folders lead root nowhere that the owner couldn't go himself, and a link gets nothing made or removed."""
    if not IS_ROOT:
        give_up("ROOT", "only root can become somebody else")
    (folder / "site").mkdir()
    shutil.chown(folder / "site", user)
    queue, theirs = folder / "queue", folder / "theirs"
    for each in (queue, theirs):
        each.mkdir(mode=0o755)
    shutil.chown(queue, "daemon")
    with Daemon(folder / "site", user) as daemon:
        daemon.make_tables("alice")
        daemon.socket = queue / "policyd.sock"
        daemon.write_settings()
        daemon.start()
        account = pwd.getpwnam(user)
        assert (daemon.socket.stat().st_uid, daemon.socket.stat().st_gid) == (account.pw_uid, account.pw_gid)
        assert daemon.ask(ALICE) == "DUNNO"

        # The owner has another socket by that name when the daemon ends: it stays.
        daemon.socket.rename(queue / "moved.sock")
        with closing(socket.socket(socket.AF_UNIX)) as other:
            other.bind(str(daemon.socket))
        assert daemon.stop() == (0, "")
        assert daemon.socket.is_socket()

        # He has a link in the place of the folder, to where he himself can make and remove nothing.
        with closing(socket.socket(socket.AF_UNIX)) as other:
            other.bind(str(theirs / "policyd.sock"))
        (queue / "run").symlink_to(theirs)
        os.chown(queue / "run", pwd.getpwnam("daemon").pw_uid, -1, follow_symlinks=False)
        daemon.socket = queue / "run" / "policyd.sock"
        daemon.write_settings()
        before = (theirs / "policyd.sock").lstat().st_ino
        status, told = daemon.refuse()
        assert status != 0
        assert told.startswith(f"policyd: can't listen on unix:{daemon.socket}: "), told
        assert (theirs / "policyd.sock").lstat().st_ino == before


@drill(
    "a privileged port",
    made="listen on one",
    log="``event=listening``",
)
def test_port_below_1024_is_bound_before_root_is_given_up(daemon):
    """The user could not."""
    for port in range(700, 800):
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                break
    daemon.write_settings(listen=[f"tcp:{port}:interface=127.0.0.1"])
    daemon.start()
    with FakeSmtpd(("127.0.0.1", port)) as smtpd:
        assert smtpd.ask(ALICE) == "DUNNO"


IMPORTS_WATCHED = """
import os, sys

class Watch:
    @staticmethod
    def find_spec(name, *_):
        if os.geteuid():
            with open(os.environ["WATCHED"], "a") as file:
                file.write(name + chr(10))

sys.path[0] = os.environ["PACKAGES"]
sys.meta_path.insert(0, Watch)
import policyd
assert policyd.__file__.startswith(os.environ["PACKAGES"]), policyd.__file__
from policyd.cli import main
main(args=sys.argv[1:])
"""


@drill(
    "the program lies where only root reads",
    made=(
        "package in a 0700 folder, each import after the drop is watched; reason in three scripts, IDN sender, "
        "junk, reloads, dead worker, garbage database"
    ),
    log="only the faults' own lines",
)
@KINDS
def test_nothing_is_imported_once_root_is_given_up(daemon, folder, workers, monkeypatch):
    """The program may lie where only root can read it: what is left for later would fail at the worst moment."""
    packages = folder / "packages"
    packages.mkdir(mode=0o700)
    shutil.copytree(Path(policyd.__file__).parent, packages / "policyd")
    watched = folder / "site" / "imports"
    watched.touch()
    shutil.chown(watched, USER)
    monkeypatch.setenv("PACKAGES", str(packages))
    monkeypatch.setenv("WATCHED", str(watched))
    daemon.write_settings(f"workers = {workers}")
    daemon.start([sys.executable, "-c", IMPORTS_WATCHED, *map(str, daemon.arguments("serve")[3:])])
    until(lambda: len(daemon.syslog.matching("event=started")) == workers, "all workers")
    with FakeSmtpd(str(daemon.socket)) as smtpd:
        assert smtpd.ask(ALICE) == "DUNNO"
        daemon.command("mailbox", "restrict", "alice", "--reason", "Urlaub – пауза 假期")
        assert smtpd.ask(ALICE).endswith(": Urlaub - pauza JiaQi")
        for sender in ("müller@bücher.example", "x@xn--bcher-kva.example", "x@[192.0.2.1]", '"a b"@ſtraße.example'):
            assert smtpd.ask(request(recipient="IMCEAEX-_O=A_CN=ALICE@example.com", sender=sender)).startswith("REJECT")
        smtpd.send(b"junk\n\n")
        smtpd.must_hang_up()
    daemon.write_settings(f"workers = {workers}", origin="bücher.example")
    daemon.reload()
    daemon.config.write_text("= broken")
    daemon.reload("the settings stay as they were")
    daemon.write_settings(f"workers = {workers}")
    if workers > 1:
        os.kill(workers_of(daemon.pid)[0], signal.SIGKILL)
        until(lambda: len(daemon.syslog.matching("event=started")) == workers + 1, "the new worker")
    backup = folder / "site" / "backup.db"
    shutil.copy(daemon.database, backup)
    daemon.database.write_bytes(os.urandom(20_000))
    with FakeSmtpd(str(daemon.socket)) as smtpd:
        smtpd.send(ALICE)
        smtpd.must_hang_up()
    assert daemon.stop() == (0, "")
    assert daemon.syslog.matching("internal error") == []
    assert watched.read_text() == ""


@drill(
    "settings root alone can read, at SIGHUP",
    made="chmod 0600",
    log="``the settings stay as they were: …: Permission denied``",
    lost="the new settings",
)
@KINDS
def test_settings_that_the_user_cannot_read_stay_as_they_were(daemon, workers):
    """Root could read them at the start; at SIGHUP nobody is root."""
    start(daemon, workers)
    daemon.config.chmod(0o600)
    line = daemon.reload("warning=")
    assert line == f'warning="the settings stay as they were: {daemon.config}: Permission denied"'
    assert daemon.ask(ALICE) == "DUNNO"
    daemon.config.chmod(0o644)
    daemon.write_settings(f"workers = {workers}", 'group = "daemon"')
    daemon.tell(signal.SIGHUP)
    until(lambda: len(daemon.syslog.matching("event=reloaded")) == workers, "all processes")
    (line,) = daemon.syslog.matching('warning="group')
    assert line == 'warning="group is as it was; to change it\\x2c restart"'


@drill(
    "syslog restarted after the drop",
    made="socket removed and made again",
    log="goes on in the new socket",
)
def test_syslog_that_comes_back_is_found_by_the_new_user(daemon):
    """rsyslog is restarted once a night, by logrotate; the audit must go on."""
    start(daemon, 1)
    daemon.ask(ALICE)
    (daemon.folder / "log").unlink()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as log:
        log.bind(str(daemon.folder / "log"))
        (daemon.folder / "log").chmod(0o666)
        log.settimeout(LIMIT_SECONDS)
        daemon.tell(signal.SIGHUP)
        assert b"event=reloaded" in log.recv(8192)
        daemon.ask(ALICE)
        assert b"action=DUNNO" in log.recv(8192)


@drill(
    "root without ``user``",
    made="serve",
    client="``default_action`` (no daemon)",
    log="stderr, exit 78",
)
@as_root
@KINDS
def test_start_as_root_without_a_user_is_refused(plain, workers):
    """Nobody should have to ask for the safe thing."""
    plain.config.write_text(plain.config.read_text().replace('user = "root"\n', ""))
    status, told = plain.refuse("--workers", str(workers))
    assert status == 78
    assert told.startswith("policyd: user: policyd was started as root, and does not serve as root unasked; set user")
    assert told.count("\n") == 1
    assert not plain.socket.exists()


@drill(
    "mistyped user or group",
    made="serve",
    client="``default_action`` (no daemon)",
    log="stderr, exit 78",
)
@as_root
def test_start_with_an_unknown_user_or_group_is_refused(plain):
    """With the command that makes it."""
    plain.user = "nosuch"
    plain.write_settings()
    told = "policyd: user: there is no user 'nosuch'; make it with: useradd --system --user-group nosuch\n"
    assert plain.refuse() == (78, told)
    plain.user = USER
    plain.write_settings('group = "nosuch"')
    told = "policyd: group: there is no group 'nosuch'; make it with: groupadd --system nosuch\n"
    assert plain.refuse() == (78, told)
    assert not plain.socket.exists()


@drill(
    "database of root's own",
    made='serve with ``user = "nobody"``',
    client="``default_action`` (no daemon)",
    log="stderr, exit 69",
)
@as_root
def test_database_that_the_user_cannot_read_is_told_before_anything_listens(plain):
    """Root's test with `policyd check` succeeds there, and the daemon would refuse every answer."""
    plain.user = USER
    plain.write_settings()
    told = f"policyd: {plain.database}: the database can't be read: Permission denied\n"
    assert plain.refuse() == (69, told)
    assert not plain.socket.exists()


@drill(
    "database of root's own in a folder of the user's",
    made="serve with ``user``",
    client="``default_action`` (no daemon)",
    log="stderr, exit 69",
)
def test_database_of_roots_in_a_folder_of_the_users_is_told(daemon):
    """Somebody copied a backup there."""
    shutil.chown(daemon.database, "root", "root")
    assert daemon.refuse() == (69, f"policyd: {daemon.database}: the database can't be read: Permission denied\n")


@drill(
    "securebits that keep capabilities",
    made="setpriv(1)",
    client="``default_action`` (no daemon)",
    log="stderr, exit 78",
)
def test_root_that_could_be_regained_is_noticed(daemon):
    """With such securebits a process keeps root's capabilities whoever it becomes: worse than root that shows."""
    words = ["setpriv", "--securebits=+no_setuid_fixup", *daemon.arguments("serve")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 78
    assert done.stderr.startswith(f"policyd: user: became {USER}, and could still become root again")
    assert done.stderr.count("\n") == 1
    assert not daemon.socket.exists()


@drill(
    "no CAP_SETUID",
    made="setpriv(1)",
    client="``default_action`` (no daemon)",
    log="stderr, exit 78",
)
def test_root_without_the_capability_to_change_users_is_told(daemon):
    """So it is in a container that was made without."""
    words = ["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid", *daemon.arguments("serve")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert (done.returncode, done.stderr) == (78, f"policyd: user: can't become {USER}: Operation not permitted\n")


@drill(
    "started as a third user",
    made='serve as nobody, ``user = "daemon"``',
    client="``default_action`` (no daemon)",
    log="stderr, exit 78",
)
def test_user_who_is_not_root_can_become_nobody_else(daemon):
    """The settings say one thing, the supervisor another: the administrator must know."""
    words = list(map(str, daemon.arguments("serve")))
    daemon.user = "daemon"
    daemon.write_settings()
    script = "import sys; from policyd.cli import main; main(args=sys.argv[1:])"
    user = pwd.getpwnam(USER)
    imports = "import os, policyd.cli.serve, policyd.daemon.run;"  # which the user may not be able to read
    drop = f"{imports} os.setgid({user.pw_gid}); os.setuid({user.pw_uid});"
    words = [sys.executable, "-c", drop + script, *words[3:]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    told = "user: only root can become daemon: start policyd as root, or as daemon, or take user out of the settings"
    assert (done.returncode, done.stderr) == (78, f"policyd: {told}\n")


@drill(
    "database, -wal, -shm or -journal 0666",
    made="chmod",
    client="``default_action`` (no daemon)",
    log="stderr, exit 69, of all commands",
)
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_database_that_everybody_can_write_is_refused(plain, suffix):
    """Any user of the machine could decide whose mail is refused; no command relies on it either."""
    path = Path(f"{plain.database}{suffix}")
    path.touch()
    path.chmod(0o666)
    told = f"policyd: {path}: everybody can write it (mode 0666); see who has, and type: chmod o-w {path}\n"
    assert plain.refuse() == (69, told)
    for words in (["domain", "list"], ["mailbox", "add", "bob"], ["check", "--recipient", "a@example.com"]):
        done = CliRunner().invoke(main, [*map(str, plain.arguments(*words)[3:])])
        assert (done.exit_code, done.stdout, done.stderr) == (69, "", told)
    assert not plain.socket.exists()


@drill(
    "folder 0777",
    made="chmod",
    client="``default_action`` (no daemon)",
    log="stderr, exit 69 (settings there: 78)",
)
def test_database_in_a_folder_that_everybody_can_write_is_refused(plain):
    """A file there can be replaced by anybody; and in one like /tmp, anybody can put a -wal beside it."""
    plain.folder.chmod(0o777)
    told = f"everybody can write in its folder (mode 0777); type: chmod o-w {plain.folder}\n"
    assert plain.refuse() == (78, f"policyd: {plain.config}: {told}")
    done = preloaded.run([*preloaded.PROGRAM, "--database", plain.database, "domain", "list"], text=True)
    assert (done.returncode, done.stderr) == (69, f"policyd: {plain.database}: {told}")
    plain.folder.chmod(0o1777)
    told = f"everybody can write in its folder (mode 1777); type: chmod o-w {plain.folder}\n"
    assert plain.refuse() == (69, f"policyd: {plain.database}: {told}")


@drill(
    "settings 0646",
    made="chmod",
    client="``default_action`` (no daemon)",
    log="stderr, exit 78, of all commands",
)
def test_settings_that_everybody_can_write_are_refused(plain):
    """They say where the database is."""
    plain.config.chmod(0o646)
    told = f"everybody can write it (mode 0646); see who has, and type: chmod o-w {plain.config}"
    assert plain.refuse() == (78, f"policyd: {plain.config}: {told}\n")
    done = preloaded.run(plain.arguments("domain", "list"), text=True)
    assert (done.returncode, done.stderr) == (78, f"policyd: {plain.config}: {told}\n")


@drill(
    "settings or database 0666 at SIGHUP",
    made="chmod on the running daemon",
    log="``the settings stay as they were: …``",
    lost="the new settings",
)
def test_files_that_everybody_can_write_are_noticed_at_sighup(plain):
    """The daemon goes on with what it read before."""
    plain.start()
    plain.config.chmod(0o666)
    assert "settings stay as they were" in plain.reload("warning=")
    plain.config.chmod(0o644)
    plain.database.chmod(0o666)
    plain.tell(signal.SIGHUP)
    until(lambda: plain.syslog.matching(f"{plain.database}: everybody can write it"), "the warning")
    assert plain.ask(ALICE) == "DUNNO"


@drill(
    "socket's folder 0777",
    made="chmod",
    client="``default_action`` (no daemon)",
    log="stderr, exit 69",
)
def test_socket_in_a_folder_that_everybody_can_write_is_refused(plain):
    """Anybody could put a server of his own in its place, that has no objection to anything."""
    folder = plain.folder / "open"
    folder.mkdir()
    folder.chmod(0o777)
    endpoint = f"{folder}/policy.sock"
    told = f"everybody can write in its folder (mode 0777); type: chmod o-w {folder}"
    assert plain.refuse("--listen", f"unix:{endpoint}") == (69, f"policyd: can't listen on {endpoint}: {told}\n")


@drill(
    "spawn(8) with ``user`` set",
    made="serve --stdio",
)
def test_spawned_daemon_is_who_started_it(daemon):
    """spawn(8) runs it as a user of its own, on the same settings."""
    done = preloaded.run(daemon.arguments("serve", "--stdio"), given=ALICE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"action=DUNNO\n\n", b"")

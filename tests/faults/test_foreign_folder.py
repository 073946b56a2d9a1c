"""A folder that is somebody else's: nothing that he plants or swaps there makes root read, write, own or wait."""

import multiprocessing
import os
import pwd
import shlex
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

import policyd
from policyd.cli import main
from policyd.errors import StoreError
from policyd.files import owner_of, replacing
from policyd.store.backup import back_up, copy_database, empty_file, opened_again
from policyd.store.connection import Database
from policyd.store.database import create_database
from tests.support import preloaded
from tests.support.command_line import Ended
from tests.support.drills import drill
from tests.support.fake_smtpd import request
from tests.support.few import few
from tests.support.places import OPEN_PLACE
from tests.support.required import as_root
from tests.support.waiting import LIMIT_SECONDS

OWNER, STRANGER = "nobody", "daemon"
PROGRAM = f"{shlex.quote(sys.executable)} -m policyd"  # for a shell
SECRET = "root:$6$secret:19000:0:99999:7:::\n" * 20
COMMANDS = (
    "mailbox list",
    "mailbox add bob",
    "check --recipient a@example.com",
    "address find a@example.com",
    "database check",
    "export",
)
ROWS = "name,addresses\nbob,bob@elsewhere.example\n"

pytestmark = as_root


class Place:
    """A folder of nobody's with a database that root made, in a folder of root's, with a file that is root's alone."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.folder = self.make_folder("site", OWNER)
        self.database = self.folder / "policyd.db"
        self.victim = top / "shadow"
        self.victim.write_text(SECRET)
        self.victim.chmod(0o600)
        self.config = top / "policyd.toml"
        self.config.write_text(f'database = "{self.database}"\n[audit]\nsyslog = "none"\n')
        for line in ("domain add example.com", "mailbox add alice alice@example.com"):  # nothing is planted yet
            assert CliRunner().invoke(main, ["--config", str(self.config), *line.split()]).exit_code == 0

    def make_folder(self, name: str, user: str, mode: int = 0o755) -> Path:
        folder = self.top / name
        folder.mkdir()
        shutil.chown(folder, user)
        folder.chmod(mode)
        return folder

    def run(self, line: str, *words: str | Path, user: str = "root", folder: Path | None = None) -> Ended:
        """`policyd` as root, in a process of its own, which must end: who waits for a planted pipe waits for ever.

        In *folder*, if not at the top; or as another *user*, who may not be let into the folder of the program.
        """
        preloaded.load()
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe()

        def command() -> None:
            os.chdir(folder or self.top)
            if user != "root":
                account = pwd.getpwnam(user)
                os.setgroups([])
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
            done = CliRunner().invoke(main, ["--config", str(self.config), *line.split(), *map(str, words)])
            theirs.send(Ended(done.exit_code, done.stdout, done.stderr))

        process = fork.Process(target=command)
        process.start()
        theirs.close()
        try:
            assert ours.poll(LIMIT_SECONDS), f"policyd {line} {words} hangs"
            ended: Ended = ours.recv()
        except EOFError:  # it ended at once, with its line on the real stderr: what it opened was swapped for a pipe
            process.join(LIMIT_SECONDS)
            ended = Ended(process.exitcode or 0, "", "")
            assert ended.status == 69
        finally:
            process.kill()
            process.join()
            ours.close()
        return ended

    def refuses(self, line: str, *parts: str, status: int = 69) -> None:
        """The command must end with one line that has *parts*, and with *status*."""
        done = self.run(line)
        assert (done.status, done.out, done.err.count("\n")) == (status, "", 1), (line, done)
        assert all(part in done.err for part in parts), done.err

    def is_unharmed(self) -> bool:
        """Whether root's file is as it was."""
        status = self.victim.stat()
        return self.victim.read_text() == SECRET and (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600)


@pytest.fixture
def place() -> Iterator[Place]:
    top = Path(tempfile.mkdtemp(prefix="policyd-", dir=OPEN_PLACE))
    top.chmod(0o755)
    yield Place(top)
    shutil.rmtree(top)


def _make_socket(_place: Place, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


PLANTED: dict[str, Callable[[Place, Path], object]] = {
    "link to root's file": lambda place, path: path.symlink_to(place.victim),
    "link to nothing": lambda place, path: path.symlink_to(place.top / "planted"),
    "hard link to root's file": lambda place, path: path.hardlink_to(place.victim),
    "pipe": lambda _, path: os.mkfifo(path),
    "pipe that can only be read": lambda _, path: os.mkfifo(path, 0o400),
    "socket": _make_socket,
    "device": lambda _, path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5)),  # /dev/zero
    "folder": lambda _, path: path.mkdir(),
    "file of a stranger's": lambda _, path: path.write_bytes(b"x" * 100),
}
KINDS = tuple(PLANTED)
OFTEN = ("link to root's file", "hard link to root's file", "pipe")  # ./test plants these everywhere, the others once


def plant(place: Place, path: Path, kind: str) -> None:
    """Put there what the owner of the folder could, or had there."""
    PLANTED[kind](place, path)
    if kind != "hard link to root's file":
        user = pwd.getpwnam(STRANGER if "stranger" in kind else OWNER)
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


# --- Beside the database, and in its place ---


@drill(
    "a link, a hard link, a pipe, a socket, a device, a folder or a stranger's file as ``-wal``, ``-shm`` or "
    "``-journal``",
    made="planted by the owner of the folder; then root's commands",
    log="stderr, exit 69, ``type: rm …``",
    lost="nothing; root's file is as it was",
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", few(["-shm", "-wal", "-journal"], "-shm"))
def test_what_is_planted_beside_the_database_is_refused(place, suffix, kind):
    """SQLite would open it, zero its beginning, wait for it, or take it for the newest rows."""
    path = Path(f"{place.database}{suffix}")
    plant(place, path, kind)
    for line in COMMANDS:
        place.refuses(line, f"policyd: {path}: it ", f"type: rm {path}")
    place.refuses(f"database backup {place.top}/backup.db", f"type: rm {path}")
    assert place.is_unharmed()
    assert not (place.top / "planted").exists()
    path.rmdir() if kind == "folder" else path.unlink()
    assert place.run("mailbox list").status == 0


@drill(
    "a link, a hard link, a pipe, a socket, a device, a folder or a stranger's file in the place of the database",
    made="planted by the owner of the folder; then root's commands, and ``database create``",
    log="stderr, exit 69 or 73",
)
@pytest.mark.parametrize("kind", few((kind for kind in KINDS if "stranger" not in kind), *OFTEN))
def test_what_is_planted_in_the_place_of_the_database_is_refused(place, kind):
    """Neither opened, nor waited for; nor made."""
    place.database.unlink()
    plant(place, place.database, kind)
    for line in (*COMMANDS, "database create"):
        done = place.run(line)
        assert done.status in (69, 73), (line, done)
        assert done.err.count("\n") == 1
    assert place.is_unharmed()
    assert not (place.top / "planted").exists()


@drill(
    "a link, a hard link, a pipe, a socket, a device, a folder or a stranger's file as ``.x.policyd-draft``",
    made="planted by the owner of the folder; then create, backup, export and an import with wrong rows",
)
@pytest.mark.parametrize("kind", few(KINDS, *OFTEN))
def test_drafts_that_were_planted_are_not_touched(place, kind):
    """Leftovers of killed commands are removed; nobody opens what somebody else put under such a name."""
    (place.folder / "people.csv").write_text(ROWS)
    for folder in (place.folder, place.top):
        plant(place, folder / ".x.policyd-draft", kind)
    assert place.run("database backup", place.top / "backup.db").status == 0
    assert place.run("database backup", place.folder / "backup.db").status == 0
    assert place.run("database create --database", place.folder / "other.db").status == 0
    assert place.run("export -o", place.folder / "out.jsonl").status == 0
    assert place.run("import", place.folder / "people.csv").status == 65
    assert (place.folder / "people.csv.err").read_text() == ROWS
    assert place.is_unharmed()
    assert all(os.path.lexists(folder / ".x.policyd-draft") for folder in (place.folder, place.top))


# --- Swapped meanwhile ---

SWAP = """
import os, sys
folder, victim, user = sys.argv[1:4]
os.setgid(int(user)); os.setuid(int(user))
os.chdir(folder)
print("ready", flush=True)
while True:
    for name in os.listdir("."):
        if name.startswith(".") and name.endswith(("-draft", ".new")):
            try:
                os.unlink(name)
                os.symlink(victim, name)
            except OSError:
                pass
"""


@contextmanager
def swapping(place: Place) -> Iterator[None]:
    """Each draft in the folder is replaced by a link to root's file, as soon as it is there."""
    uid = str(pwd.getpwnam(OWNER).pw_uid)
    words = ["python3", "-c", SWAP, str(place.folder), str(place.victim), uid]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd="/") as swapper:
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            swapper.kill()


@drill(
    "a draft that is swapped for a link to root's file",
    made="by a process of the owner's, as fast as it can, while 40 databases are made",
    lost="nothing; root's file is as it was",
)
def test_draft_that_is_swapped_while_the_database_is_made(place):
    """`chown` by name gave any file of root's away, and a link by name made it the database."""
    with swapping(place):
        for number in range(40):
            try:
                create_database(Database.at(place.folder / f"new{number}.db"))
            except StoreError:
                continue
    assert place.is_unharmed()


@drill(
    "a draft of a backup that is swapped for a link to root's file",
    made="by a process of the owner's, as fast as it can, while 15 backups are written",
    lost="the copy, in his folder",
)
def test_draft_that_is_swapped_while_a_backup_is_written(place):
    """Into his folder; what becomes of the copy is up to him there, and nothing else is."""
    with swapping(place):
        for number in range(15):
            try:
                back_up(Database.at(place.database), place.folder / f"b{number}.db", lambda *_: None, lambda _: None)
            except StoreError:
                continue
    assert place.is_unharmed()


@drill(
    "a draft of an export, or of rejected rows, that is swapped for a link to root's file",
    made="by a process of the owner's, as fast as it can, while 40 of them are written",
    lost="the export, in his folder",
)
def test_draft_that_is_swapped_while_an_export_is_written(place):
    """And so for rejected rows."""
    with swapping(place):
        for number in range(40):
            try:
                with replacing(place.folder / f"out{number}") as stream:
                    stream.write(b"rows of an attacker's\n")
            except OSError:
                continue
    assert place.is_unharmed()


@drill(
    "a database made by root",
    made="``domain add`` in a folder of nobody's",
)
def test_database_is_made_as_the_owner_of_the_folder(place):
    """Not given away afterwards: there is no moment in which it is root's."""
    made = {each.stat().st_uid for each in place.folder.iterdir()}
    assert made == {pwd.getpwnam(OWNER).pw_uid}
    assert stat.S_IMODE(place.database.stat().st_mode) == 0o640


FLIP = """
import ctypes, os, sys
folder, user, name, kind = sys.argv[1:5]
os.setgid(int(user)); os.setuid(int(user))
os.chdir(folder)
other = b"flipped"
os.mkfifo(other, 0o400) if kind == "pipe" else os.symlink(kind, other)
rename = ctypes.CDLL(None).renameat2
print("ready", flush=True)
while True:
    rename(-100, os.fsencode(name), -100, other, 2)  # RENAME_EXCHANGE
"""


@contextmanager
def flipping(place: Place, name: str, kind: str) -> Iterator[None]:
    """What has that name in the folder is now itself, now a pipe or a link: thousands of times a second."""
    uid = str(pwd.getpwnam(OWNER).pw_uid)
    words = ["python3", "-c", FLIP, str(place.folder), uid, name, kind]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd="/") as flipper:
        assert flipper.stdout is not None
        assert flipper.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            flipper.kill()


@drill(
    "the database, its ``-wal`` or its ``-shm`` that is swapped for a pipe, or for a link to a file of root's",
    made="by a process of the folder's owner, as fast as it can, under root's commands",
    log="nothing, or stderr",
    lost="nothing; root's files are as they were, and no pipe is waited for",
)
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("policyd.db", "pipe"),
        ("policyd.db-wal", "shadow"),
        ("policyd.db-shm", "elsewhere"),
        *(
            pytest.param(name, kind, marks=pytest.mark.full)
            for name, kind in (
                *(("policyd.db", "shadow"), ("policyd.db", "elsewhere"), ("policyd.db-wal", "pipe")),
                *(("policyd.db-wal", "elsewhere"), ("policyd.db-shm", "pipe"), ("policyd.db-shm", "shadow")),
            )
        ),
    ],
)
def test_what_is_swapped_between_the_look_and_the_opening(place, name, kind):
    """Refused, or worked on as the owner of the folder; and a pipe is not waited for."""
    if not os.path.lexists(place.folder / name):
        (place.folder / name).touch()
        shutil.chown(place.folder / name, OWNER)
    elsewhere = place.make_folder("private", "root", 0o700)
    shutil.copy(place.database, elsewhere / "other.db")
    before = (elsewhere / "other.db").read_bytes()
    target = {"shadow": str(place.victim), "elsewhere": str(elsewhere / "other.db")}.get(kind, kind)
    backup = place.top / "monday.db"
    assert place.run("database backup", backup).status == 0 or name != "policyd.db"
    with flipping(place, name, target):
        for number in range(2):
            for line in ("mailbox list", f"mailbox add m{number}", f"database restore --yes {backup}"):
                done = place.run(line)
                assert (
                    (done.status, done.err.count("\n")) == (0, 0) or done.err.count("\n") >= 1 or done.status == 69
                ), (line, done)
                assert "internal error" not in done.err
    assert place.is_unharmed()
    assert [each.name for each in elsewhere.iterdir()] == ["other.db"]
    assert (elsewhere / "other.db").read_bytes() == before


@drill(
    "a database in a folder of root's, below a folder of somebody else's",
    made="a folder below the owner's; root's commands",
    log="stderr, exit 69, ``type: chown root …``",
)
def test_database_in_a_folder_that_is_swapped_below_the_owners(place):
    """A folder of root's there would be worked on as root, if only its own owner counted."""
    inner = place.folder / "inner"
    inner.mkdir()
    shutil.copy(place.database, inner)
    for line in COMMANDS:
        place.refuses(f"{line} --database {inner}/policyd.db", f"belongs to {OWNER}", f"chown root {place.folder}")
    with pytest.raises(StoreError, match="could swap it"):
        owner_of(inner / "policyd.db")


@drill(
    "a pipe or a file as ``-journal``, ``-wal`` or ``-shm`` beside the draft of a backup",
    made="planted in a sticky folder while the backup is written",
    lost="nothing; the backup is whole, and what was planted is no part of it",
)
@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_nothing_beside_a_backups_draft_becomes_a_part_of_it(place, suffix, kind):
    """In /tmp anybody can put a journal beside it, which SQLite would play back into the copy."""
    sticky = place.make_folder("sticky", "root", 0o1777)
    draft = sticky / "draft"
    with closing(sqlite3.connect(place.database)) as source:
        draft.touch()
        with empty_file(draft) as copy:
            beside = Path(f"{draft}{suffix}")
            os.mkfifo(beside) if kind == "pipe" else beside.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" * 512)
            copy_database(source, copy, draft, lambda *_: None)
        assert stat.S_ISFIFO(beside.lstat().st_mode) is (kind == "pipe")
        assert beside.lstat().st_size == (0 if kind == "pipe" else 4096)
        with opened_again(draft) as copy:
            assert copy.execute("PRAGMA quick_check").fetchall() == [("ok",)]
            assert copy.execute("SELECT name FROM mailbox").fetchall() == [("alice",)]
            assert (
                copy.execute("PRAGMA schema_version").fetchall() != source.execute("PRAGMA schema_version").fetchall()
            )
    assert {each.name for each in sticky.iterdir()} == {"draft", beside.name}


# --- What a person names ---


@drill(
    "a link under the name that rejected rows had while they were written",
    made="``.people.csv.err.PID.new``, with the number of the process",
)
def test_name_of_the_rejected_rows_draft_cannot_be_guessed(place):
    """With the number of the process in it, whoever sent the file chose which file of root's got his rows."""
    (place.folder / "people.csv").write_text(ROWS)
    script = f"ln -s {place.victim} {place.folder}/.people.csv.err.$$.new; exec {PROGRAM} "
    script += f"--config {place.config} import {place.folder}/people.csv"
    done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 65
    assert place.is_unharmed()
    assert (place.folder / "people.csv.err").read_text() == ROWS


@drill(
    "a link, a hard link or a pipe as ``FILE.err``, or as the file of an export",
    made="planted by the owner of the folder",
    log="nothing, or stderr, exit 74",
)
@pytest.mark.parametrize("kind", ["link to root's file", "link to nothing", "hard link to root's file", "pipe"])
def test_rejected_rows_and_exports_are_files_of_their_own(place, kind):
    """Whatever was under that name: it is replaced, or refused, but never written through."""
    (place.folder / "people.csv").write_text(ROWS)
    plant(place, place.folder / "people.csv.err", kind)
    assert place.run("import", place.folder / "people.csv").status == 65
    left = place.folder / "people.csv.err"
    status = left.lstat()
    assert (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid) == (stat.S_IFREG, 0o600, 0)
    assert left.read_text() == ROWS
    plant(place, place.folder / "out.jsonl", kind)
    done = place.run("export -o", place.folder / "out.jsonl")
    assert (done.status, done.err.count("\n")) in ((0, 0), (74, 1))
    assert place.is_unharmed()
    assert not (place.top / "planted").exists()


@drill(
    "a link or a pipe as the file to import",
    made="planted by the owner of the folder",
    log="stderr, exit 74",
    lost="nothing; nothing of root's is read",
)
@pytest.mark.parametrize("kind", ["link to root's file", "link to nothing", "pipe"])
def test_file_to_import_is_no_link_and_no_pipe_of_somebody_elses(place, kind):
    """His link would have root read a file of root's; on his pipe root would wait."""
    plant(place, place.folder / "people.csv", kind)
    done = place.run("import", place.folder / "people.csv")
    assert done.status in (2, 74)
    assert SECRET[:20] not in done.out + done.err
    assert not os.path.lexists(place.folder / "people.csv.err")


@drill(
    "a link in the middle of a path",
    made="planted by the owner of the folder; it leads to a folder of root's",
    log="stderr, exit 73 or 74",
)
def test_folder_of_a_stranger_is_no_way_to_root(place):
    """A link in the middle of a path is a link, too."""
    (place.top / "private").mkdir(mode=0o700)
    (place.top / "private" / "people.csv").write_text(ROWS)
    (place.folder / "in").symlink_to(place.top / "private")
    os.chown(place.folder / "in", pwd.getpwnam(OWNER).pw_uid, -1, follow_symlinks=False)
    done = place.run("import", place.folder / "in" / "people.csv")
    assert (done.status, "made the link" in done.err) == (74, True)
    for line in ("export -o", "database backup"):
        assert place.run(line, place.folder / "in" / "out").status in (73, 74)
    assert [each.name for each in (place.top / "private").iterdir()] == ["people.csv"]


@drill(
    "pipes, links, devices and descriptors of root's own",
    made="``<(…)``, ``/dev/stdin``, ``-``, a pipe; an export to each",
    lost="nothing: all go on working",
)
@pytest.mark.parametrize(
    "script",
    [
        "policyd import --format csv <(cat rows.csv)",
        "cat rows.csv > pipe & policyd import --format csv pipe; s=$?; wait; exit $s",
        "policyd export --format csv -o >(cat > /dev/null)",
        *(
            pytest.param(script, marks=pytest.mark.full)
            for script in (
                "cat rows.csv | policyd import --format csv /dev/stdin",
                "cat rows.csv | policyd import --format csv -",
                "policyd import --format csv /dev/stdin < rows.csv",
                "policyd import --format csv link.csv",
                "policyd export --format csv -o /dev/stdout | grep -q alice",
                "cat pipe | grep -q alice & policyd export --format csv -o pipe && wait $!",
                "policyd export --format csv -o /dev/null",
                "policyd --config <(cat policyd.toml) domain list | grep -q example.com",
            )
        ),
    ],
)
def test_pipes_and_links_of_the_persons_own_go_on_working(place, script):
    """`import <(...)`, `-`, /dev/stdin, a pipe, a link; `export -o` to each of these."""
    pipe = place.top / "pipe"
    os.mkfifo(pipe)
    (place.top / "rows.csv").write_text("name,addresses\ncarol,carol@example.com\n")
    (place.top / "link.csv").symlink_to("rows.csv")
    shell = f'policyd() {{ {PROGRAM} --config {place.config} "$@"; }}\n{script}'
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False, cwd=place.top
    )
    assert (done.returncode, done.stderr) == (0, ""), (script, done)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


OPENED = """
import os, sys
os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
opened = os.open(sys.argv[2], os.O_PATH)  # which takes no permission
for link in sys.argv[3:]:
    os.symlink(f"/proc/{os.getpid()}/fd/{opened}", link)
print("ready", flush=True)
sys.stdin.read()
"""


@drill(
    "a link to a descriptor that a process of somebody else's has on root's file",
    made="as the file to import, to export to, to restore, and as the settings",
    log="stderr, exit 65, 74 or 78",
    lost="nothing; root's file is neither read nor written",
)
def test_descriptor_in_a_strangers_process_is_no_way_to_roots_files(place):
    """His link to what he has open there without being allowed to read it would have root read it, or write over it."""
    links = [place.folder / name for name in ("in.csv", "out.jsonl", "policyd.toml", "monday.db")]
    words = ["python3", "-c", OPENED, str(pwd.getpwnam(OWNER).pw_uid), place.victim, *links]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as his:
        assert his.stdout is not None
        assert his.stdin is not None
        assert his.stdout.readline() == "ready\n"
        for line, status in (
            (f"import --format csv {links[0]}", 74),
            (f"export -o {links[1]}", 74),
            (f"mailbox list --config {links[2]}", 78),
            (f"database restore --yes {links[3]}", 65),
        ):
            place.refuses(line, OWNER, status=status)
        his.stdin.close()
    assert place.is_unharmed()


@drill(
    "an export to ``/dev/stdout``, which is a file that has lines already",
    made="``export -o /dev/stdout`` with ``>>``",
    lost="nothing; the export follows what was there",
)
def test_export_goes_on_where_stdout_stands(place):
    """`-o /dev/stdout` opened the file a second time, and wrote over what was in it."""
    script = f"echo first; {PROGRAM} --config {place.config} export --format csv -o /dev/stdout"
    with (place.top / "out").open("ab") as out:
        subprocess.run(["bash", "-c", script], stdout=out, timeout=LIMIT_SECONDS, check=True)
    assert (place.top / "out").read_text().startswith("first\n")
    assert "alice" in (place.top / "out").read_text()


@drill(
    "a file whose name is an option, a line break, a terminal sequence, no UTF-8, a URL or very long",
    made="import, export, backup, restore and ``--database`` with each",
    log="stderr, printable, a line for each problem",
)
@pytest.mark.parametrize(
    "name",
    [
        *("-", "a\nb", "\udcff"),
        *(
            pytest.param(name, marks=pytest.mark.full)
            for name in ("--help", "\x1b[2J", "a?b#c%41", "x" * 250, "file:x")
        ),
    ],
)
def test_odd_names_are_names(place, name):
    """`./-` is a file; a line break in a name doesn't forge a line; a name may be as long as a name may be."""
    rows, out, copy = (place.make_folder(each, "root") for each in ("rows", "out", "copy"))
    (rows / name).write_text("name,addresses\ndora,dora@example.com\nbob,bob@elsewhere.example\n")
    for folder, line, status in (
        (rows, "import --format csv", 65),
        (out, "export -o", 0),
        (copy, "database backup", 0),
        (copy, "database restore --yes", 0),
        (copy, "mailbox show dora --database", 0),
    ):
        done = place.run(line, f"./{name}", folder=folder)
        assert done.status == status, (line, done)
        assert "\x1b" not in done.out + done.err
        assert done.err.count("\n") == (2 if status else 0), done
    assert (out / name).stat().st_size
    assert [each.name for each in out.iterdir()] == [name]


# --- Where a database may be ---


@drill(
    "a database in a folder that others can write, sticky or not",
    made="``chmod 777``, ``1777``, ``757``, ``3777``; root's commands",
    client="``default_action`` (no daemon)",
    log="stderr, exit 69",
)
@pytest.mark.parametrize(
    "mode", [0o1777, *(pytest.param(mode, marks=pytest.mark.full) for mode in (0o777, 0o757, 0o3777))]
)
def test_database_in_a_folder_that_others_can_write_is_refused(place, mode):
    """A -wal that anybody puts beside it becomes the tables, and `database check` would find them sound."""
    place.folder.chmod(mode)
    for line in (*COMMANDS, "database create", "serve --listen tcp:1:interface=127.0.0.1 --stdio"):
        place.refuses(line, "everybody can write in its folder", f"type: chmod o-w {place.folder}")


@drill(
    "a folder above the database's that others can write, or that is a stranger's",
    made="``chmod`` or ``chown`` one folder higher; a sticky one is fine there",
    log="stderr, exit 69",
)
def test_folder_above_that_others_can_write_is_refused_unless_it_is_sticky(place):
    """They could put a whole folder in the place of that one; in /tmp only its owner can."""
    upper = place.make_folder("upper", "root")
    shutil.move(place.folder, upper)
    place.config.write_text(f'database = "{upper}/site/policyd.db"\n[audit]\nsyslog = "none"\n')
    upper.chmod(0o777)
    for line in COMMANDS:
        place.refuses(line, f"everybody can write in the folder {upper}", f"type: chmod o-w {upper}")
    upper.chmod(0o1777)
    assert place.run("mailbox list").status == 0
    shutil.chown(upper, STRANGER)
    place.refuses("mailbox list", f"{upper}", f"belongs to {STRANGER}", f"chown root {upper}")
    upper.chmod(0o755)
    place.refuses("mailbox list", f"{upper}", f"belongs to {STRANGER}", f"chown root {upper}")


@drill(
    "a folder of root's that a group can write",
    made="``chown root:daemon``, ``chmod 770``",
    log="stderr, exit 69",
)
def test_folder_of_roots_that_a_group_can_write_is_refused(place):
    """There is nobody to work as but root, in a folder where the daemon can plant what it likes."""
    shutil.chown(place.folder, "root", STRANGER)
    place.folder.chmod(0o770)
    for line in COMMANDS:
        place.refuses(line, "its group can write", f"chmod g-w {place.folder}")


@drill(
    "links to the database",
    made="made by root, by the owner, and by a stranger",
    log="stderr, exit 69, for the stranger's, and for the owner's to a stranger's database",
)
def test_links_to_a_database_count_by_who_made_them(place):
    """Root's own lead anywhere, the owner's into what is his, and nobody else's anywhere."""
    uid, stranger = (pwd.getpwnam(user).pw_uid for user in (OWNER, STRANGER))
    by_root, by_owner = place.top / "by-root", place.folder / "own.db"
    by_root.symlink_to(place.folder)
    by_owner.symlink_to("policyd.db")
    os.chown(by_owner, uid, uid, follow_symlinks=False)
    assert place.run("mailbox list --database", by_root / "policyd.db").status == 0
    assert place.run("mailbox list --database", by_owner).status == 0
    os.chown(by_root, stranger, stranger, follow_symlinks=False)
    place.refuses(f"mailbox list --database {by_root}/policyd.db", f"{STRANGER} made the link {by_root}")
    theirs = place.make_folder("theirs", STRANGER)
    shutil.copy(place.database, theirs)
    shutil.chown(theirs / "policyd.db", STRANGER)
    by_owner.unlink()
    by_owner.symlink_to(theirs / "policyd.db")
    os.chown(by_owner, uid, uid, follow_symlinks=False)
    place.refuses(f"mailbox list --database {by_owner}", f"{OWNER} made the link {by_owner}")


@drill(
    "a database of root's in his folder",
    made="``chown root``, then a command of root's",
    log="stderr, exit 69, ``type: chown …``",
)
def test_database_of_roots_in_his_folder_is_told_with_what_to_type(place):
    """Somebody copied a backup there."""
    shutil.chown(place.database, "root")
    place.refuses("mailbox list", f"type: chown --reference={place.folder} {place.database}")


# --- Restored ---


def back_up_as_root(place: Place) -> Path:
    """A backup in a folder of root's, which only root can read; since then there is bob, too."""
    backup = place.top / "monday.db"
    assert place.run("database backup", backup).status == 0
    backup.chmod(0o600)
    assert place.run("mailbox add bob bob@example.com").status == 0
    return backup


def spoil_with(content: bytes) -> Callable[[Place], object]:
    return lambda place: place.database.write_bytes(content)


@drill(
    "root restores into the daemon's user's folder",
    made="the database sound, gone, empty, garbage",
    lost="nothing: all that is made belongs to the folder's owner",
)
@pytest.mark.parametrize(
    "spoil",
    [lambda _: None, lambda place: place.database.unlink(), spoil_with(b""), spoil_with(b"x" * 9000)],
    ids=["sound", "gone", "empty", "garbage"],
)
def test_what_root_restores_belongs_to_the_owner_of_the_folder(place, spoil):
    """Else the daemon can't write its own tables any more, or its user owns a file of root's."""
    backup = back_up_as_root(place)
    spoil(place)
    for _ in range(2):
        ended = place.run("database restore --yes", backup)
        assert (ended.status, ended.err) == (0, "")
    uid = pwd.getpwnam(OWNER).pw_uid
    made = {each.name: each.stat() for each in place.folder.iterdir()}
    assert {"policyd.db", "policyd.db.before-1"} <= {*made} <= {f"policyd.db{end}" for end in ENDS}
    assert {each.st_uid for each in made.values()} == {uid}
    assert {stat.S_IMODE(each.st_mode) for each in made.values()} == {0o640}
    assert (backup.stat().st_uid, stat.S_IMODE(backup.stat().st_mode)) == (0, 0o600)
    assert place.run("mailbox list").out.count("\n") == 1
    assert place.run("database check").status == 0
    assert place.run("mailbox add carol", user=OWNER).status == 0


ENDS = ("", ".before-1", ".before-2")


@drill(
    "a link, pipe, device, socket or folder of somebody else's as the file to restore",
    made="made by another user, in a folder of his",
    lost="nothing; status 65, and nothing was changed",
)
@pytest.mark.parametrize("kind", few([*KINDS, "link to the backup"], *OFTEN, "link to the backup"))
def test_file_to_restore_is_no_link_and_no_pipe_of_somebody_elses(place, kind):
    """What is read is what root named; and no device or pipe keeps root waiting."""
    backup = back_up_as_root(place)
    before = place.database.read_bytes()
    file = place.make_folder("theirs", STRANGER) / "monday.db"
    if kind == "link to the backup":
        file.symlink_to(backup)
        os.chown(file, pwd.getpwnam(STRANGER).pw_uid, -1, follow_symlinks=False)
    else:
        plant(place, file, kind)
    ended = place.run("database restore --yes", file)
    assert (ended.status, ended.err.count("\n")) == (65, 1), ended
    assert "nothing was changed" in ended.err
    assert SECRET[:20] not in ended.err
    assert place.database.read_bytes() == before
    assert [each.name for each in place.folder.iterdir()] == ["policyd.db"]
    assert place.is_unharmed()


@drill(
    "a sound backup that belongs to somebody else, with a link to root's file and a pipe planted beside it",
    made="``database restore`` by root, which names it",
    lost="nothing; it is restored, and root's file is as it was",
)
def test_sound_backup_of_somebody_elses_is_taken_where_root_names_it(place):
    """As a file to import is: it is read by its descriptor, and only the copy of it is looked at and taken."""
    backup = back_up_as_root(place)
    file = place.make_folder("theirs", STRANGER) / "monday.db"
    shutil.copy(backup, file)
    shutil.chown(file, STRANGER)
    (file.parent / "monday.db-shm").symlink_to(place.victim)
    os.mkfifo(f"{file}-wal")
    assert place.run("database restore --yes", file).status == 0
    assert place.run("mailbox list").out.count("\n") == 1
    assert place.is_unharmed()
    os.unlink(f"{file}-wal")
    Path(f"{file}-wal").write_bytes(b"x" * 5000)
    assert "has changes in monday.db-wal beside it" in place.run("database restore --yes", file).err


@drill(
    "a link, a hard link, a pipe, a socket, a device or a folder in the place where a restore keeps the old tables",
    made="planted as ``policyd.db.before-1``; then ``database restore`` by root",
    lost="nothing; the old tables are kept under the next number",
)
@pytest.mark.parametrize("kind", few((kind for kind in KINDS if "stranger" not in kind), *OFTEN))
def test_what_is_planted_where_the_old_tables_would_be_kept_is_not_touched(place, kind):
    """They get the next number."""
    backup = back_up_as_root(place)
    planted = Path(f"{place.database}.before-1")
    plant(place, planted, kind)
    assert place.run("database restore --yes", backup).status == 0
    assert Path(f"{place.database}.before-2").stat().st_uid == pwd.getpwnam(OWNER).pw_uid
    assert place.is_unharmed()
    assert not (place.top / "planted").exists()


@drill(
    "a draft of a restore that is swapped for a link to root's file",
    made="by a process of the owner's, as fast as it can, while eight backups are restored",
    lost="nothing; root's file is as it was, and nobody reads it",
)
def test_draft_that_is_swapped_while_a_backup_is_restored(place):
    """Root's file is neither written nor given away, nor does the owner get to read it."""
    backup = back_up_as_root(place)
    with swapping(place):
        for _ in range(8):
            place.run("database restore --yes", backup)
    assert place.is_unharmed()
    assert not any(SECRET.encode() in each.read_bytes() for each in place.folder.iterdir() if not each.is_symlink())


@drill(
    "a restore by somebody who can't read the backup, or can't write the database",
    made="``database restore`` as the owner, and as a stranger",
    log="stderr, exit 65 or 74",
)
def test_only_who_can_read_the_backup_and_write_the_database_restores(place):
    """One line each, and nothing is changed."""
    backup = back_up_as_root(place)
    before = place.database.read_bytes()
    refused = place.run("database restore --yes", backup, user=OWNER)
    assert (refused.status, refused.err.count("\n")) == (65, 1), refused
    assert "Permission denied; nothing was changed" in refused.err
    backup.chmod(0o644)
    refused = place.run("database restore --yes", backup, user=STRANGER)
    assert (refused.status, refused.err.count("\n")) == (74, 1), refused
    assert "nothing was changed" in refused.err
    assert place.database.read_bytes() == before
    assert place.run("database restore --yes", backup, user=OWNER).status == 0
    assert place.run("mailbox list").out.count("\n") == 1


@drill(
    "a link in the path of the database to restore",
    made="by a stranger, and by root",
    log="stderr, exit 69, for the stranger's",
)
def test_links_to_the_database_to_restore_count_by_who_made_them(place):
    """Root restores what root, or the folder's owner in it, leads to; not what somebody else does."""
    backup = back_up_as_root(place)
    link = place.top / "by-stranger"
    link.symlink_to(place.folder)
    os.chown(link, pwd.getpwnam(STRANGER).pw_uid, -1, follow_symlinks=False)
    before = place.database.read_bytes()
    place.refuses(f"database restore --yes --database {link}/policyd.db {backup}", f"{STRANGER} made the link")
    assert place.database.read_bytes() == before
    os.chown(link, 0, 0, follow_symlinks=False)
    assert place.run("database restore --yes --database", link / "policyd.db", backup).status == 0
    assert place.run("mailbox list").out.count("\n") == 1


# --- Settings ---


@drill(
    "settings that belong to somebody else",
    made="``chown nobody``; a command, and serve",
    client="``default_action`` (no daemon)",
    log="stderr, exit 78",
)
def test_settings_of_somebody_elses_are_refused(place):
    """They say where the database is, where the log goes, and who runs the daemon."""
    shutil.chown(place.config, OWNER)
    place.refuses("mailbox list", f"belongs to {OWNER}", f"type: chown root {place.config}", status=78)
    place.refuses("serve", f"belongs to {OWNER}", status=78)


@drill(
    "a link or a pipe of somebody else's as the settings",
    made="``--config``",
    log="stderr, exit 78",
)
@pytest.mark.parametrize("kind", ["link to root's settings", "pipe"])
def test_settings_that_somebody_planted_are_refused(place, kind):
    """A pipe would keep root waiting; a link could lead to settings that root wrote for something else."""
    planted = place.folder / "policyd.toml"
    if kind == "pipe":
        plant(place, planted, "pipe")
    else:
        planted.symlink_to(place.config)
        os.chown(planted, pwd.getpwnam(OWNER).pw_uid, -1, follow_symlinks=False)
    place.refuses(f"mailbox list --config {planted}", str(planted), OWNER, status=78)


@drill(
    "settings below a folder that everybody can write",
    made="``chmod 777`` two folders above; sticky is fine",
    log="stderr, exit 78",
)
def test_settings_below_a_folder_that_everybody_can_write_are_refused(place):
    """Whoever can swap the folder writes the settings."""
    upper = place.make_folder("upper", "root", 0o777)
    (upper / "etc").mkdir()
    shutil.copy(place.config, upper / "etc")
    place.refuses(f"mailbox list --config {upper}/etc/policyd.toml", f"type: chmod o-w {upper}", status=78)
    upper.chmod(0o1777)
    assert place.run("mailbox list --config", upper / "etc" / "policyd.toml").status == 0


@drill(
    "settings that a group can write",
    made="``chgrp``, ``chmod 664``; root's commands",
    log="stderr, exit 78, ``type: chmod g-w …``",
)
def test_settings_that_a_group_can_write_are_refused(place):
    """The daemon's own group, maybe: whoever is in it could have root do anything."""
    shutil.chown(place.config, "root", STRANGER)
    place.config.chmod(0o664)
    place.refuses("mailbox list", f"its group, {STRANGER}", f"type: chmod g-w {place.config}", status=78)
    shutil.chown(place.config, "root", "root")
    assert place.run("mailbox list").status == 0


# --- The daemon ---


@drill(
    "``serve --stdio`` as root",
    made="in a folder of nobody's; /proc/PID/status",
    client="answers as ever",
    lost="nothing: root is given up",
)
def test_spawned_daemon_gives_up_root_for_good(place):
    """spawn(8) may run it as root by mistake: it becomes the owner of the database's folder."""
    with subprocess.Popen(
        [sys.executable, "-m", "policyd", "--config", place.config, "serve", "--stdio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as daemon:
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        daemon.stdin.write(request(recipient="alice@example.com"))
        daemon.stdin.flush()
        assert daemon.stdout.readline() == b"action=DUNNO\n"
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        assert f"Uid:{(chr(9) + str(pwd.getpwnam(OWNER).pw_uid)) * 4}\n" in status
        daemon.stdin.close()
        assert daemon.wait(LIMIT_SECONDS) == 0


@drill(
    '``user = "root"`` in a folder of nobody\'s',
    made="serve",
    client="``default_action`` (no daemon)",
    log="stderr, exit 78",
)
def test_daemon_that_stays_root_serves_no_folder_of_somebody_elses(place):
    """user = "root" is for those who know why; here it would be the way to root."""
    place.config.write_text(f'user = "root"\ndatabase = "{place.database}"\nlisten = ["unix:{place.top}/s"]\n')
    place.refuses("serve", f"a folder of {OWNER}'s", f'set user = "{OWNER}"', status=78)
    assert not (place.top / "s").exists()


# --- The program ---

# Runs each command in a process that has imported nothing of the program yet; what is no part of it is there.
WATCHED = """
import os, sys
import click, sqlalchemy.dialects.sqlite

class Watch:
    @staticmethod
    def find_spec(name, *_):
        assert os.geteuid() == 0, name

packages, config, *lines = sys.argv[1:]
sys.path[0] = packages
sys.meta_path.insert(0, Watch)
for line in lines:
    child = os.fork()
    if not child:
        from policyd.cli import main
        main(args=["--config", config, *line.split()])
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1, 65), (line, status)
"""


@drill(
    "a program that only root can read",
    made="a copy with mode 0700; every kind of command, none of which imports anything as the owner",
)
@pytest.mark.parametrize("which", few(["some", "all"], "some"))
def test_commands_need_nothing_of_the_program_while_they_are_somebody_else(place, which):
    """It may lie where only root can read it."""
    packages = place.top / "packages"
    packages.mkdir(mode=0o700)
    shutil.copytree(Path(policyd.__file__).parent, packages / "policyd")
    (place.top / "rows.csv").write_text(ROWS)
    lines = (
        *COMMANDS,
        "database create --database site/second.db",
        "domain add bücher.example",
        "mailbox restrict alice --reason Urlaub --until +3d",
        "mailbox show alice",
        "sender block alice",
        "import --dry-run --format list --domain example.com policyd.toml",
        "history",
        "undo 5",
        "database stats",
        "database backup site/copy.db",
        "mailbox restrict alice --reason Grüße",
        "check alice@example.com --sender joe@outside.example",
        *(f"export --format {name}" for name in ("csv", "jsonl", "ldif", "exchange-csv", "postfix -o site/maps")),
        "group add staff alice",
        "group restrict staff --reason Grüße",
        "completion zsh -- mailbox show al",
        "database restore --yes site/copy.db",
        "mailbox remove alice --yes",
    )
    called = [sys.executable, "-c", WATCHED, packages, place.config, *(lines if which == "all" else lines[1::2])]
    done = subprocess.run(called, capture_output=True, text=True, cwd=place.top, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done
    assert "AssertionError" not in done.stderr
    assert "internal error" not in done.stderr

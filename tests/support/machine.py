"""A machine with systemd as its first process, whose files are a layer in memory over a system that stays as it is.

Its processes, network and host name are its own. It ends, and the layer with it, when its first process does.
"""

import hashlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.required import give_up
from tests.support.waiting import LIMIT_SECONDS, until

HERE, STRANGER = "192.0.2.25", "203.0.113.7"  # its address, and that of somebody outside
_PROGRAMS = ("unshare", "nsenter", "pivot_root", "ip")
_SYSTEMD = "/lib/systemd/systemd"
_NAMESPACES = ("mount", "pid", "net", "uts", "ipc", "cgroup")
_LAYER = "run/layer"  # below its root: what has been changed
_BOOT = """
set -e
mount -t tmpfs tmpfs {place}
cd {place}
mkdir upper work root
mount -t overlay overlay -o lowerdir={system},upperdir=upper,workdir=work root
mount -t proc proc root/proc
mount -t sysfs -o ro sysfs root/sys
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs root/run
mount -t tmpfs -o mode=1777 tmpfs root/tmp
mount -t tmpfs -o mode=755 tmpfs root/dev
for each in null zero full random urandom; do
    touch root/dev/$each
    mount --bind /dev/$each root/dev/$each
done
mkdir -p root/dev/shm root/dev/pts root/{layer} root/run/outside
mount -t tmpfs -o mode=1777 tmpfs root/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts root/dev/pts
ln -s pts/ptmx root/dev/ptmx
ln -s /proc/self/fd root/dev/fd
mount --bind upper root/{layer}
ip link set lo up
ip address add {here}/32 dev lo
ip address add {stranger}/32 dev lo
echo mx > root/etc/hostname
printf '127.0.0.1 localhost\\n{here} mx.example.com mx\\n' > root/etc/hosts
{preparation}

cd root
pivot_root . run/outside # a service may have users of its own only where nothing is above its root
cd /
umount -l /run/outside
exec env -i container=policyd PATH=/usr/sbin:/usr/bin:/sbin:/bin {systemd} --system --unit=multi-user.target
"""
# What a running machine writes by itself.
_OWN = ("/var/log/", "/var/lib/systemd/", "/var/lib/postfix/", "/var/mail", "/var/cache/", "/var/tmp/", "/root/")
State = dict[str, list[object]]


class Machine:
    """A machine that runs from when it is made until `stop`, with its mounts at *place*, an empty folder.

    *system* is the root folder of what it runs. Before it boots, the lines of *preparation* change its files: bash runs
    them in the folder that has them as ``root``.
    """

    def __init__(self, place: Path, system: Path = Path("/"), preparation: str = "") -> None:
        self._system = system
        script = _BOOT.format(
            place=shlex.quote(str(place)),
            system=shlex.quote(str(system)),
            layer=_LAYER,
            here=HERE,
            stranger=STRANGER,
            preparation=preparation,
            systemd=_SYSTEMD,
        )
        words = ["unshare", *(f"--{each}" for each in _NAMESPACES), "--fork", "--kill-child"]
        self._output = place.parent / f"{place.name}.output"
        with self._output.open("wb") as output:
            self._holder = subprocess.Popen(
                [*words, "bash", "-c", script], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            until(self._is_up, "systemd")
        except BaseException:
            self.stop()
            raise

    def _is_up(self) -> bool:
        if self._holder.poll() is not None:
            give_up("SYSTEMD", f"no machine can be made here: {self._output.read_text()}")
        if not self._first():
            return False
        return self._enter("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def stop(self) -> None:
        """End it, with all that runs there."""
        self._holder.kill()
        self._holder.wait(LIMIT_SECONDS)

    @property
    def root(self) -> Path:
        """Its root folder, seen from here."""
        return Path(f"/proc/{self._first()}/root")

    def _first(self) -> str:
        """The process id of its first process, here; "" before there is one."""
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text()
        return children.partition(" ")[0]

    def command(self, *words: str, is_online: bool = False) -> list[str]:
        """The command that runs *words* there, from here; *is_online* with the network of here, where downloads are."""
        entered = [f"--{each}" for each in _NAMESPACES if not (is_online and each == "net")]
        return ["nsenter", *entered, "--root", "--wd", "--target", self._first(), "--", *words]

    @property
    def environment(self) -> Mapping[str, str]:
        """What is set for a command there: as for somebody who typed su(1)."""
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

    def _enter(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What became of a command there."""
        return subprocess.run(
            self.command(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self.environment
        )

    def run(self, *words: str, status: int = 0) -> str:
        """What a command there prints, which must end with *status*."""
        done = self._enter(*words)
        assert done.returncode == status, f"{words}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def output(self, *words: str) -> str:
        """What a command there prints, however it ends."""
        done = self._enter(*words)
        return done.stdout + done.stderr

    def status(self, *words: str) -> int:
        """What a command there ends with; -9 where it was killed."""
        status = self._enter(*words).returncode
        return -signal.SIGKILL if status == 128 + signal.SIGKILL else status

    def answer(self, recipient: str) -> str:
        """What a stranger is told about *recipient*."""
        session = [
            "--server",
            HERE,
            "--local-interface",
            STRANGER,
            "--from",
            "carol@far.example",
            "--quit-after",
            "RCPT",
        ]
        said = self._enter("swaks", *session, "--to", recipient).stdout
        replies = [line[4:] for line in said.splitlines() if line.startswith("<")]
        return replies[-2]  # the last is that to QUIT

    def state(self) -> State:
        """Each file on its disk that is not as the system has it: by its path, what it holds, its owner and mode."""
        layer = f"{self.root}/{_LAYER}"
        found: State = {}
        for folder, folders, files in os.walk(layer):
            for name in folders + files:
                file = Path(folder, name)
                status = file.lstat()
                path = str(file).removeprefix(layer)
                if stat.S_ISDIR(status.st_mode) and self._has_folder(path, status):
                    continue
                content = b""
                if stat.S_ISREG(status.st_mode):
                    content = file.read_bytes()
                elif stat.S_ISLNK(status.st_mode):
                    content = os.readlink(file).encode()
                digest = hashlib.sha256(content).hexdigest()
                found[path] = [digest, status.st_uid, status.st_gid, status.st_mode]
        queue = "/var/spool/postfix/"
        return {
            path: told
            for path, told in found.items()
            if not path.startswith(_OWN) and not (path.startswith(queue) and not path.startswith(f"{queue}policyd"))
        }

    def _has_folder(self, path: str, status: os.stat_result) -> bool:
        """Whether the system has the folder *path* with that owner and mode: it is in the layer for what is in it."""
        try:
            own = os.lstat(f"{self._system}{path}")
        except FileNotFoundError:
            return False
        return (own.st_mode, own.st_uid, own.st_gid) == (status.st_mode, status.st_uid, status.st_gid)


def missing_for_a_machine(*programs: str) -> str:
    """Why there can be no machine here that needs *programs* of this one's, or ""."""
    if os.geteuid() != 0:
        return "a machine can only be made by root"
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    missing = [each for each in (*_PROGRAMS, *programs) if not shutil.which(each, path=path)]
    return f"not installed: {', '.join(missing)}" if missing else ""

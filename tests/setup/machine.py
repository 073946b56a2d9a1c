"""A machine with systemd and a Postfix as Debian configures it, which borrows this one's programs.

Its files are this machine's with a layer in memory over them, so that everything may be changed; processes, network and
host name are its own. It ends, and the layer with it, when its first process does.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.required import give_up
from tests.support.waiting import LIMIT_SECONDS, until

CHECKOUT = Path(__file__).resolve().parents[2]
HERE, STRANGER = "192.0.2.25", "192.0.2.7"  # its address, and that of somebody outside
_PROGRAMS = ("unshare", "nsenter", "pivot_root", "ip", "systemctl", "postfix", "dpkg-reconfigure", "swaks", "useradd")
_SYSTEMD = "/lib/systemd/systemd"
_PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
# How policyd is started there: in /opt it is, since a service sees neither /root nor /home.
INTERPRETER = [f"/opt/policyd/python/bin/{_PYTHON}", "-IB"]
PATH = 'import sys; sys.path[:0] = ["/opt/policyd/checkout", "/opt/policyd/packages"]'
# What has been changed is in /run/layer.
_BOOT = """
set -e
mount -t tmpfs tmpfs {place}
cd {place}
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
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
mkdir -p root/dev/shm root/dev/pts root/run/layer root/run/outside root/opt/policyd/python root/opt/policyd/checkout
mkdir root/opt/policyd/packages
mount -t tmpfs -o mode=1777 tmpfs root/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts root/dev/pts
ln -s pts/ptmx root/dev/ptmx
ln -s /proc/self/fd root/dev/fd
mount --bind upper root/run/layer
mount --bind -o ro {python} root/opt/policyd/python
mount --bind -o ro {checkout} root/opt/policyd/checkout
mount --bind -o ro {packages} root/opt/policyd/packages
cat > root/usr/local/bin/policyd <<end
#!{interpreter}
{path}
from policyd.cli import main
main()
end
chmod 755 root/usr/local/bin/policyd

# None of this machine's services, and no Postfix yet.
rm -rf root/etc/rc?.d/S* root/lib/systemd/system/systemd-journald-audit.socket root/etc/systemd/system
rm -rf root/etc/policyd root/etc/postfix/main.cf root/var/lib/policyd root/usr/sbin/policy-rc.d
mkdir root/etc/systemd/system
ip link set lo up
ip address add {here}/32 dev lo
ip address add {stranger}/32 dev lo
echo mx > root/etc/hostname
printf '127.0.0.1 localhost\\n{here} mx.example.com mx\\n' > root/etc/hosts

cd root
pivot_root . run/outside # a service may have users of its own only where nothing is above its root
cd /
umount -l /run/outside
exec env -i container=policyd PATH=/usr/sbin:/usr/bin:/sbin:/bin {systemd} --system --unit=multi-user.target
"""
_CONFIGURE = """
set -e
PATH=$PATH:/usr/sbin:/sbin
debconf-set-selections <<end
postfix postfix/main_mailer_type select Internet Site
postfix postfix/mailname string example.com
end
DEBIAN_FRONTEND=noninteractive dpkg-reconfigure -f noninteractive postfix
useradd --create-home --shell /bin/bash alice
useradd --create-home --shell /bin/bash bob
systemctl start postfix
"""
# Of each file in the layer its path, content, owner and mode.
_STATE = """
import hashlib, json, os, stat, sys
found = {}
for folder, folders, files in os.walk("/run/layer"):
    for name in folders + files:
        path = os.path.join(folder, name)
        status = os.lstat(path)
        content = b""
        if stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path).encode()
        digest = hashlib.sha256(content).hexdigest()
        found[path.removeprefix("/run/layer")] = [digest, status.st_uid, status.st_gid, status.st_mode]
json.dump(found, sys.stdout)
"""
# What a running machine writes by itself.
_OWN = ("/var/log/", "/var/lib/systemd/", "/var/lib/postfix/", "/var/mail", "/var/cache/", "/var/tmp/", "/root/")
State = dict[str, list[object]]


class Machine:
    """A machine at the mount point *place*, an empty folder; it runs Postfix from when it is made until `stop`."""

    def __init__(self, place: Path) -> None:
        script = _BOOT.format(
            place=shlex.quote(str(place)),
            python=shlex.quote(sys.base_prefix),
            checkout=shlex.quote(str(CHECKOUT)),
            packages=shlex.quote(str(Path(sys.prefix, "lib", _PYTHON, "site-packages"))),
            interpreter=" ".join(INTERPRETER),
            path=PATH,
            here=HERE,
            stranger=STRANGER,
            systemd=_SYSTEMD,
        )
        words = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
        self._output = place.parent / "machine.output"
        with self._output.open("wb") as output:
            self._holder = subprocess.Popen(
                [*words, "bash", "-c", script], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            until(self._is_up, "systemd")
            self.run("bash", "-c", _CONFIGURE)
        except BaseException:
            self.stop()
            raise

    def _is_up(self) -> bool:
        if self._holder.poll() is not None:
            give_up("SYSTEMD", f"no machine can be made here: {self._output.read_text()}")
        said = self._enter("systemctl", "is-system-running")
        return said.stdout.strip() in ("running", "degraded")

    def stop(self) -> None:
        """End it, with all that runs there."""
        self._holder.kill()
        self._holder.wait(LIMIT_SECONDS)

    def _enter(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What became of a command there."""
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        command = ["nsenter", "--all", "--root", "--wd", "--target", *children[:1], "--", *words]
        path = "/usr/local/bin:/usr/bin:/bin"  # as of somebody who typed su(1)
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env={"PATH": path, "LC_ALL": "C.UTF-8"}
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
        """Everything on its disk that is not as on this machine's."""
        found: State = json.loads(self.run("/usr/bin/python3", "-c", _STATE))
        queue = "/var/spool/postfix/"
        return {
            path: told
            for path, told in found.items()
            if not path.startswith(_OWN) and not (path.startswith(queue) and not path.startswith(f"{queue}policyd"))
        }


def missing_for_a_machine() -> str:
    """Why there can be no such machine here, or ""."""
    if os.geteuid() != 0:
        return "a machine can only be made by root"
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    missing = [each for each in (*_PROGRAMS, _SYSTEMD) if not shutil.which(each, path=path)]
    return f"not installed: {', '.join(missing)}" if missing else ""

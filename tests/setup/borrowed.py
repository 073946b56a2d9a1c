"""A machine with a Postfix as Debian configures it; it borrows this one's programs, and policyd from the checkout."""

import shlex
import sys
from pathlib import Path

from tests.support.machine import Machine, missing_for_a_machine

CHECKOUT = Path(__file__).resolve().parents[2]
_PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
# How policyd is started there: in /opt it is, since a service sees neither /root nor /home.
INTERPRETER = [f"/opt/policyd/python/bin/{_PYTHON}", "-IB"]
PATH = 'import sys; sys.path[:0] = ["/opt/policyd/checkout", "/opt/policyd/packages"]'
_BORROW = f"""
mkdir -p root/opt/policyd/python root/opt/policyd/checkout root/opt/policyd/packages
mount --bind -o ro {shlex.quote(sys.base_prefix)} root/opt/policyd/python
mount --bind -o ro {shlex.quote(str(CHECKOUT))} root/opt/policyd/checkout
mount --bind -o ro {shlex.quote(str(Path(sys.prefix, "lib", _PYTHON, "site-packages")))} root/opt/policyd/packages
cat > root/usr/local/bin/policyd <<end
#!{" ".join(INTERPRETER)}
{PATH}
from policyd.cli import main
main()
end
chmod 755 root/usr/local/bin/policyd

# None of this machine's services, and no Postfix yet.
rm -rf root/etc/rc?.d/S* root/lib/systemd/system/systemd-journald-audit.socket root/etc/systemd/system
rm -rf root/etc/policyd root/etc/postfix/main.cf root/var/lib/policyd root/usr/sbin/policy-rc.d
mkdir root/etc/systemd/system
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


def borrowed_machine(place: Path) -> Machine:
    """Such a machine, with Alice and Bob; *place* is as `Machine` has it."""
    machine = Machine(place, preparation=_BORROW)
    try:
        machine.run("bash", "-c", _CONFIGURE)
    except BaseException:
        machine.stop()
        raise
    return machine


def missing_to_borrow() -> str:
    """Why there can be no such machine here, or ""."""
    return missing_for_a_machine("systemctl", "postfix", "dpkg-reconfigure", "swaks", "useradd", "/lib/systemd/systemd")

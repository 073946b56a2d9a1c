"""A setup that ends itself at a step of its, as kill -9 would, and at which steps that is tried."""

import os
import random

from tests.support.randomised import a_seed

IS_EACH = os.environ.get("POLICYD_EVERY_STEP") == "1"
_MOST = 400  # steps
# A program whose first word is the number of the step. A step is what changes a file or calls another program.
KILLED = """
import atexit, os, signal, sys
at, steps, begun = int(sys.argv.pop(1)), 0, "--apply" not in sys.argv
def look(event, args):
    global steps, begun
    begun = begun or (event == "os.mkdir" and "setup-" in str(args[0]))
    is_step = event in (
        "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chown", "os.chmod", "subprocess.Popen", "sqlite3.connect"
    ) or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR))
    if begun and is_step:
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(look)
atexit.register(lambda: print(f"{steps} steps", file=sys.stderr))
from policyd.cli import main
main()
"""


def some_steps(every: int) -> range:
    """The steps at which to kill: one of so many, from one on that nobody has chosen; or each."""
    if IS_EACH:
        return range(1, _MOST)
    return range(random.Random(a_seed()).randint(1, every), _MOST, every)

"""`python -m tests.fuzz`: look for inputs on which policyd fails, led by the branches that they reach.

Without a fuzzer the same target runs in `tests/test_fuzz.py`.
"""

import argparse
import hashlib
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "var" / "fuzz"
INSTRUMENTED = [
    *("policyd.wire", "policyd.daemon.server", "policyd.daemon.connection", "policyd.decide", "policyd.store.lookup"),
    *("policyd.rules", "policyd.address", "policyd.reply", "policyd.audit"),
]
INSTRUMENTED_HTTP = ["policyd.web", "policyd.audit_lines", "twisted.web.http", "twisted.protocols.basic"]
LONGEST = 4096  # bytes of an input


def main() -> None:
    """Fuzz for some time. An input that fails is kept as crash-..., its traceback shown, and the status is not 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=main.__doc__)
    parser.add_argument("--of", choices=("policy", "http"), default="policy", help="which server (default: policy)")
    parser.add_argument("--seconds", type=int, default=60, help="how long; 0 is until it is stopped (default: 60)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        help="where what was learnt is kept for the next time (default: var/fuzz)",
    )
    parser.add_argument("inputs", nargs="*", type=Path, help="play these files again, and fuzz nothing")
    typed = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit(
            "python -m tests.fuzz: there is no atheris here, which comes for Python 3.11 to 3.13 on Linux and x86-64; "
            "type: .venv/bin/python -m pip install --editable '.[test,fuzz]'"
        )
    if typed.of == "http":
        with atheris.instrument_imports(include=INSTRUMENTED_HTTP):
            from tests.fuzz.http_seeds import seeds, words
            from tests.fuzz.http_target import run
    else:
        with atheris.instrument_imports(include=INSTRUMENTED):
            from tests.fuzz.seeds import seeds, words
            from tests.fuzz.target import run
    for path in typed.inputs:
        run(path.read_bytes())
    if typed.inputs:
        return
    folder = typed.folder if typed.of == "policy" else typed.folder / typed.of
    corpus, seeded, dictionary = folder / "corpus", folder / "seeds", folder / "words"
    for each in (corpus, seeded):
        each.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds().values()):
        (seeded / f"{number:03}").write_bytes(seed)
    dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words()))
    options = [f"-max_total_time={typed.seconds}", f"-max_len={LONGEST}", "-timeout=10", "-rss_limit_mb=512"]
    options += [f"-dict={dictionary}", f"-artifact_prefix={folder}/", "-verbosity=0", "-print_final_stats=1"]

    def keep_where_it_fails(raw: bytes) -> None:
        try:
            run(raw)
        except BaseException:
            (folder / f"crash-{hashlib.sha256(raw).hexdigest()[:16]}").write_bytes(raw)
            raise

    atheris.Setup([sys.argv[0], *options, str(corpus), str(seeded)], keep_where_it_fails)  # it writes to the first only
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()

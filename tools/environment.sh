# The environment of ./run, ./test and docs/build: .venv in the checkout, made when it is missing, stale or half made.
#
# Sourced by them as their first step; POSIX sh and no program that bare Debian lacks. Sourcing changes to the
# checkout; `make_environment [test|docs|web]` then leaves a usable .venv there, or ends with one sentence and 69.
# A script in another folder sets checkout_as_typed first.
# In the environment: PYTHON (which interpreter, default python3), and PIP_* for pip.

checkout_as_typed=${checkout_as_typed:-$(dirname -- "$0")}
started_in=$(pwd)
CDPATH= cd -- "$checkout_as_typed"

# What .venv was made from, and the extras of setup.py that are in it. Written last: without it .venv is half made.
stamp_file=.venv/policyd-stamp

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    say "$0: $*"
    exit 69 # EX_UNAVAILABLE in sysexits.h
}

# Set python to an interpreter that is new enough, and fingerprint to what .venv depends on: the two files
# that say what to install, the Python, and the folder (an environment can't be moved or copied).
find_python() {
    python=${PYTHON:-python3}
    case $python in
    /*) ;;
    */*) python=$started_in/$python ;;
    esac
    command -v "$python" >/dev/null ||
        fail "there is no $python here: install Python 3.11 or newer, or name one, as in PYTHON=/path/to/python3 $0"
    # Must run under any Python, to be able to refuse it. From inside an activated .venv it answers with
    # the interpreter behind it: .venv can't make itself again.
    answer=$("$python" -c '
import hashlib, os, sys
if sys.version_info < (3, 11):
    print("old %d.%d" % sys.version_info[:2])
    sys.exit()
parts = [sys.version.encode(), os.fsencode(os.getcwd())]
for name in ("setup.py", "pyproject.toml"):
    with open(name, "rb") as file:
        parts.append(hashlib.sha256(file.read()).digest())
answer = [hashlib.sha256(b"\0".join(parts)).hexdigest()]
if os.path.realpath(sys.prefix) == os.path.realpath(".venv"):
    answer.append(sys._base_executable)
print(" ".join(answer))
') || fail "$python does not work: name another Python, as in PYTHON=/path/to/python3 $0"
    case $answer in
    old\ *) fail "$python is Python ${answer#old }, policyd needs 3.11 or newer: name one, as in PYTHON=/path/to/python3 $0" ;;
    *\ *) python=${answer#* } ;;
    esac
    fingerprint=${answer%% *}
}

# Make a new .venv with a pip that works; false where Python can't.
make_venv() {
    { rm -f "$stamp_file" && rm -rf .venv && mkdir .venv; } ||
        fail "can't make .venv anew in $(pwd): see the line above, fix that and start $0 again"
    "$python" -m venv .venv >/dev/null 2>&1 && .venv/bin/python -m pip --version >/dev/null 2>&1
}

# Install what Debian splits off from Python, the one package that .venv can need from the system.
install_venv_package() {
    say "Python can't make an environment here: installing Debian's python3-venv ..."
    for refresh in false true; do
        # A fresh image has no package lists until the first update.
        if $refresh && ! apt-get update >/dev/null; then return 1; fi
        if DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv \
            >/dev/null </dev/null; then return 0; fi
    done
    return 1
}

# Make a new .venv, with the system's help if that is needed and allowed.
require_venv() {
    make_venv && return
    by_hand="$python -m venv fails: type \`apt-get install --no-install-recommends python3-venv\`"
    command -v apt-get >/dev/null ||
        fail "$python -m venv fails: install the package of your system that has Python's venv and ensurepip, and start $0 again"
    [ "$(id -u)" -eq 0 ] || fail "$by_hand as root, and start $0 again"
    install_venv_package || fail "$by_hand, fix what it reports, and start $0 again"
    make_venv || fail "$python -m venv fails, with Debian's python3-venv too: name another Python, as in PYTHON=/usr/bin/python3 $0"
}

# Make what find_python asked for be there, with the extra $1 of setup.py, or none where that is empty.
build_environment() {
    recorded=
    if [ -x .venv/bin/python ] && [ -r "$stamp_file" ]; then
        read -r recorded <"$stamp_file" || recorded=
    fi
    case $recorded in
    "$fingerprint" | "$fingerprint "*)
        extras=${recorded#"$fingerprint"}
        case "$1:$extras " in
        *" $1 "* | web:*" test "*) return ;; # the tests need all that the web does
        esac
        [ -n "$1" ] || return 0
        # Added to, not made anew: a daemon from ./run may be running out of it.
        say "Adding the $1 tools to the Python environment in .venv (once; from the network, about a minute) ..."
        rm -f "$stamp_file"
        ;;
    *)
        extras=
        say "Making the Python environment in .venv (once; from the network, about a minute) ..."
        require_venv
        ;;
    esac
    .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --editable ".${1:+[$1]}" ||
        fail "pip could not install what policyd needs (no network?): see its message above, and start $0 again"
    printf '%s\n' "$fingerprint$extras${1:+ $1}" >"$stamp_file"
}

# One at a time: a second script would take the first one's unfinished .venv for a half-made one.
# The lock is on setup.py, which is always there, and ends with this function.
make_environment() {
    find_python
    {
        if command -v flock >/dev/null && ! flock -n 9; then
            say "Waiting for another ./run or ./test that is making the Python environment ..."
            flock 9
        fi
        build_environment "${1:-}"
    } 9<setup.py
}

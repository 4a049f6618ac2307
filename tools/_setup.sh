# Sourced by the commands beside it: makes the private environment in .venv once, and sets $root and $python.
#
# It needs Python 3.11 or newer with pip, and nothing else ($WALSTORE_PYTHON names one that is not found by itself).
# What is installed are the pinned, hashed versions of requirements-dev.txt.  The file .venv/ready is written last and
# holds the key that the environment was made for, so an interrupted set-up is begun anew, a changed lock file makes a
# new environment, and a finished one costs two file reads.  Several at once: one makes it, the others wait.

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python

_setup_key() {
    cksum <"$root/requirements-dev.txt"
    printf '%s\n' "$root" # scripts of an environment hold its place, so a moved checkout needs a new one
}

_setup_is_ready() {
    [ -x "$python" ] && [ -f "$root/.venv/ready" ] && [ "$(cat "$root/.venv/ready")" = "$(_setup_key)" ]
}

_setup_find_python() {
    local candidate
    for candidate in "${WALSTORE_PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    echo "set-up: no Python 3.11 or newer was found; install one, or name it in WALSTORE_PYTHON" >&2
    return 1
}

# Each step says `|| return`, because errexit is off inside a condition.
_setup_make() {
    local base=$1 venv=$root/.venv
    if [ -e "$venv" ] && [ ! -f "$venv/.walstore" ] && ! rmdir "$venv" 2>/dev/null; then
        echo "set-up: $venv was not made by this script; move it away" >&2
        return 1
    fi
    rm -rf "$venv"
    mkdir "$venv" && touch "$venv/.walstore" || return
    if "$base" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (22, 3))' 2>/dev/null; then
        "$base" -m venv --without-pip "$venv" || return # the lock file brings a pip, and seconds are saved
        set -- "$base" -m pip --python "$python"
    else
        "$base" -m venv "$venv" || return
        set -- "$python" -m pip
    fi
    "$@" install --disable-pip-version-check --no-input --no-deps --require-hashes \
        -r "$root/requirements-dev.txt" || return
    "$python" - "$root" <<'PYTHON' || return
import pathlib, sys, sysconfig
# The checkout itself, so that `import walstore` works in every directory.
pathlib.Path(sysconfig.get_path("purelib"), "walstore-checkout.pth").write_text(sys.argv[1] + "\n")
PYTHON
    _setup_key >"$venv/ready.tmp" && mv "$venv/ready.tmp" "$venv/ready"
}

_setup() {
    _setup_is_ready && return
    (
        # The lock lives as long as this subshell and what it starts, so no crash leaves it behind.
        exec 9>"$root/.venv.lock"
        base=$(_setup_find_python) || exit
        "$base" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
        _setup_is_ready && exit
        echo "set-up: making a private environment in .venv (once, about a minute)" >&2
        _setup_make "$base" >"$root/.venv.log" 2>&1 && exit
        cat "$root/.venv.log" >&2
        echo "set-up: failed, see above" >&2
        exit 1
    )
}

_setup || exit

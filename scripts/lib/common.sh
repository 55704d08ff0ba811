# What every script here needs: where things are, and how to talk to the user. Sourced, never run.
#
# A step is announced on standard error before it starts, so that a terminal that stands still always says
# what it is waiting for. Output of the tools themselves goes to a log, which is shown when they fail.

STAG_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
HOME=${HOME:-$(cd ~ && pwd)}
STAG_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/stag

# say WORDS: one progress line
say() {
    if [ -t 2 ]; then
        printf '\033[1;32m==>\033[0m %s\n' "$*" >&2
    else
        printf '==> %s\n' "$*" >&2
    fi
}

# die WORDS: one sentence on what went wrong, and the end
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# quietly LOG COMMAND...: runs COMMAND with its output in LOG; shows the log's end if it fails
quietly() {
    local log=$1
    shift
    mkdir -p "$(dirname "$log")"
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        die "this failed: $* (whole log: $log)"
    fi
}

# as_root COMMAND...: runs COMMAND as root, by sudo where we are not
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "installing packages needs root: run this as root, or install sudo"
    fi
}

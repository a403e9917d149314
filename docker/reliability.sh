#!/usr/bin/env bash
# Runs the fault matrix on a cluster of three hosts and three Consul servers, all of it on this machine, one mode after the other,
# and writes the tables of docs/reliability.md:
#
#   docker/reliability.sh
#   REMORA_FAULTS=clock_ahead,slow_list docker/reliability.sh     only these (functions of tests/cluster/faults); writes no table
#
# The first time it builds two older Remoras as well, of earlier states of this repository, for the rows about updates (REMORA_OLD_BIN: a
# folder that has them already, `agent` and `catalog`).
# Needs root, cargo, dockerd, iproute2, iptables and a Docker Engine (for its image); the rest comes as it does for docker/test.sh.
# What it starts lives in network namespaces of its own, and is gone at the end.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ $(id -u) == 0 ]] || die 'network namespaces need root.'
for program in dockerd ip tc iptables nsenter unshare openssl; do
    have "$program" || die "$program is missing (Debian: docker.io, iproute2, iptables, util-linux, openssl)."
done

# What lies between a program and its clock: the installed one, else out of the distribution's package.
faketime() {
    local found
    found=$(find /usr/lib "$target/faketime" -name libfaketime.so.1 -print -quit 2>/dev/null || true)
    if [[ ! $found ]]; then
        say 'reliability: fetching the package libfaketime…'
        apt_fetch libfaketime "$(own_suite)" "$target/faketime" ||
            die 'the package libfaketime cannot be fetched (Debian: apt-get install libfaketime).'
        found=$(find "$target/faketime" -name libfaketime.so.1 -print -quit)
    fi
    printf '%s\n' "$found"
}

# old MODE COMMIT: builds that state, unless it has been.
old() {
    local program="$target/old/bin/$1" source="$target/old/$2"
    if [[ -x $program ]]; then return; fi
    say "reliability: building the Remora of $2…"
    mkdir -p "$source" "$target/old/bin"
    git -C "$root" archive "$2" | tar -x -C "$source"
    (cd "$source" && CARGO_TARGET_DIR="$target/old/target" cargo build --locked --bin remora) >&2
    mv "$target/old/target/debug/remora" "$program"
}

REMORA_FAKETIME=${REMORA_FAKETIME:-$(faketime)}
export REMORA_FAKETIME
if [[ ! ${REMORA_OLD_BIN:-} ]]; then
    # The first that published all there is to publish, before it healed; and the first that needed no agent.
    old agent 97dd9de
    old catalog baf4cc4
    export REMORA_OLD_BIN=$target/old/bin
fi
export REMORA_RELIABILITY=$root/docs/reliability.md
exec "$root/docker/test.sh" --test cluster -- --test-threads 1 --nocapture

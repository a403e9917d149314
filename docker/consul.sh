#!/usr/bin/env bash
# Prints the path of a real Consul binary, fetching one if needed. Looked for in this order:
#
#   1. CONSUL_BIN                 4. the distribution's package `consul` (or Debian bullseye's: the last with one)
#   2. `consul` on PATH           5. the official image hashicorp/consul
#   3. what was fetched before    6. a package file, REMORA_CONSUL_DEB
#
# What is fetched is kept in target/consul; nothing is installed on the machine.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# 1.20: the newest line whose images are published under a version tag of this form.
official=${CONSUL_IMAGE:-hashicorp/consul:1.20}
cache="$target/consul"
# The last resort: a package laid beside the project, for machines that reach neither archive nor registry.
package=${REMORA_CONSUL_DEB:-$root/../shared/packages/consul_*.deb}

# Not `| grep -q`: it hangs up after the first line, and a Consul that was still talking would count as one that does not run.
works() { [[ -x $1 && $("$1" version 2>/dev/null) == 'Consul v'* ]]; }

# keep FILE: puts the binary into the cache in one step, so that no one ever sees half of it, and answers with it.
keep() {
    works "$1" || return 1
    mv -f "$1" "$cache/consul"
    printf '%s\n' "$cache/consul"
}

if [[ -n ${CONSUL_BIN:-} ]]; then
    works "$CONSUL_BIN" || die "CONSUL_BIN=$CONSUL_BIN: expected the path of a Consul binary that runs on this machine."
    printf '%s\n' "$CONSUL_BIN"
    exit
fi
if found=$(command -v consul) && works "$found"; then
    printf '%s\n' "$found"
    exit
fi

mkdir -p "$cache"
# Two runs at once fetch once (where flock exists; without it they fetch twice and the result is the same).
if have flock; then
    exec 9>"$cache/lock"
    flock 9
fi
if works "$cache/consul"; then
    printf '%s\n' "$cache/consul"
    exit
fi

unpacked=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$unpacked"' EXIT

for suite in $(own_suite) bullseye; do
    say "consul: asking the package archive for Consul ($suite)…"
    if apt_fetch consul "$suite" "$unpacked" && keep "$unpacked/usr/bin/consul"; then exit; fi
done

if have docker && docker version >/dev/null 2>&1 && image_available "$official"; then
    say "consul: taking it out of the image $official…"
    container=$(docker create "$official")
    docker cp "$container:/bin/consul" "$unpacked/consul" || true
    docker rm "$container" >/dev/null
    if keep "$unpacked/consul"; then exit; fi
fi

for file in $package; do
    if [[ -r $file ]] && dpkg -x "$file" "$unpacked" && keep "$unpacked/usr/bin/consul"; then exit; fi
done

die "no Consul found: put 'consul' on PATH or set CONSUL_BIN (https://developer.hashicorp.com/consul/install);" \
    "neither the package archive nor the image $official could be reached."

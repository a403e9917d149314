#!/usr/bin/env bash
# Runs the fault matrix on a cluster of three hosts and three Consul servers, all of it on this machine, one mode after the other,
# and writes the tables of docs/reliability.md:
#
#   docker/reliability.sh
#
# Needs root, cargo, dockerd, iproute2, iptables and a Docker Engine (for its image); the rest comes as it does for docker/test.sh.
# What it starts lives in network namespaces of its own, and is gone at the end.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ $(id -u) == 0 ]] || die 'network namespaces need root.'
for program in dockerd ip tc iptables nsenter unshare; do
    have "$program" || die "$program is missing (Debian: docker.io, iproute2, iptables, util-linux)."
done
export REMORA_RELIABILITY=$root/docs/reliability.md
exec "$root/docker/test.sh" --test cluster -- --test-threads 1 --nocapture

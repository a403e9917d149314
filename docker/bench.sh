#!/usr/bin/env bash
# Measures Remora against the floor on this machine's Docker Engine and a real Consul, and prints the table of
# docs/performance.md:
#
#   docker/bench.sh [--quick] [--minutes N] [--idle-only | --catalog-only | --burst-only]
#   docker/bench.sh --scale [containers | nodes] [NUMBER…]      how cost grows with containers, and with nodes
#   docker/bench.sh --all                                       all that can be measured, one after the other: about an hour
#
# REGISTRATOR_BIN=/path/to/registrator is measured beside Remora, in the same run.
#
# What is measured is the static release binary, as it is in the image: a dynamic one counts the C library's pages as its own.
# Needs cargo and a Docker Engine; the rest comes as it does for docker/test.sh.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

have cargo || die 'cargo is missing: install Rust (https://rustup.rs).'
need_engine
CONSUL_BIN=$("$root/docker/consul.sh")
REMORA_TEST_IMAGE=${REMORA_TEST_IMAGE:-$("$root/docker/images.sh" sample)}
cd "$root"
if [[ -z ${REMORA_BIN:-} ]]; then
    host=$(rustc -vV | sed -n 's/^host: //p')
    # The same flags as in the Dockerfile.
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$host"
    REMORA_BIN=$target/$host/release/remora
fi
export CONSUL_BIN REMORA_TEST_IMAGE REMORA_BIN
case ${1:-} in
    --scale) shift && exec cargo bench --locked --bench scale -- "$@" ;;
    --all)
        cargo bench --locked --bench publish -- --minutes 10
        cargo bench --locked --bench scale
        cargo bench --locked --bench probe
        exec "$root/docker/bench-heal.sh"
        ;;
esac
exec cargo bench --locked --bench publish -- "$@"

#!/usr/bin/env bash
# Measures how long failures last that Remora heals, on this machine's Docker Engine and a real Consul, and prints the table of
# docs/healing-performance.md:
#
#   docker/bench-heal.sh [--quick]
#
# Needs cargo and a Docker Engine; the rest comes as it does for docker/test.sh. REMORA_BIN names another binary to measure.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

have cargo || die 'cargo is missing: install Rust (https://rustup.rs).'
need_engine
CONSUL_BIN=$("$root/docker/consul.sh")
REMORA_TEST_IMAGE=${REMORA_TEST_IMAGE:-$("$root/docker/images.sh" sample)}
cd "$root"
if [[ -z ${REMORA_BIN:-} ]]; then
    cargo build --release --locked
    REMORA_BIN=$target/release/remora
fi
export CONSUL_BIN REMORA_TEST_IMAGE REMORA_BIN
exec cargo bench --locked --bench heal -- "$@"

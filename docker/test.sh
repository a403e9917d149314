#!/usr/bin/env bash
# Runs all tests against a real Docker Engine and a real Consul, fetching what they need:
#
#   docker/test.sh [arguments of `cargo test`]        e.g.  docker/test.sh --test e2e -- --nocapture
#
# Consul comes from docker/consul.sh (CONSUL_BIN), the containers' image from docker/images.sh (REMORA_TEST_IMAGE). Without
# cargo on this machine the tests run in a container of RUST_IMAGE (rust:1.95-slim).
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_engine
CONSUL_BIN=$("$root/docker/consul.sh")
REMORA_TEST_IMAGE=${REMORA_TEST_IMAGE:-$("$root/docker/images.sh" sample)}
export CONSUL_BIN REMORA_TEST_IMAGE
say "test: Docker Engine $(docker version --format '{{.Server.Version}}'), $("$CONSUL_BIN" version | head -n 1), $REMORA_TEST_IMAGE"

cd "$root"
if have cargo; then
    exec cargo test --locked "$@"
fi

rust_image=${RUST_IMAGE:-rust:1.95-slim}
image_available "$rust_image" ||
    die "there is no cargo on this machine (https://rustup.rs), and the image $rust_image cannot be pulled instead."
# In the host's network, where Consul and the published ports are, and as the user who called, so that what is built belongs
# to them; the socket's group lets the tests reach the engine.
socket=/var/run/docker.sock
if [[ ${DOCKER_HOST:-} == unix://* ]]; then socket=${DOCKER_HOST#unix://}; fi
mkdir -p "$target/container"
exec docker run --rm --init --network host --user "$(id -u):$(id -g)" \
    --group-add "$(docker run --rm --volume "$socket:/socket" "$REMORA_TEST_IMAGE" stat -c %g /socket)" \
    --volume "$root:$root" --workdir "$root" --volume "$target/container:$target/container" \
    --volume "$socket:/var/run/docker.sock" --volume "$(command -v docker):/usr/local/bin/docker:ro" \
    --volume "$CONSUL_BIN:/usr/local/bin/consul:ro" --env CONSUL_BIN=/usr/local/bin/consul \
    --env REMORA_TEST_IMAGE --env "CARGO_TARGET_DIR=$target/container" \
    "$rust_image" cargo test --locked "$@"

#!/usr/bin/env bash
# Builds the image of Remora and prints its name.
#
#   docker/build-image.sh [--from-source | --packed] [NAME]        NAME: remora:local
#
#   --from-source   by the Dockerfile. Its base is RUST_IMAGE (rust:1.95-slim); where that can be neither found nor pulled,
#                   a base is made on this machine (docker/builder-image.sh, a few minutes).
#   --packed        the binary is built by this machine's cargo and packed into the same image.
#
# Without either: from source if the base image is here or a registry answers, else packed. The result is the same image:
# what is packed is described by the last stage of the Dockerfile and by nothing else.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

how=auto name=remora:local
for argument in "$@"; do
    case $argument in
        --from-source | --packed) how=${argument#--} ;;
        -*) die "unknown option $argument; expected --from-source or --packed" ;;
        *) name=$argument ;;
    esac
done

rust_image=${RUST_IMAGE:-rust:1.95-slim}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
describe=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision" --tag "$name")

from_source() {
    say "image: building $name from source on $1…"
    docker build --build-arg "RUST_IMAGE=$1" "${describe[@]}" "$root" >&2
}

packed() {
    local triple
    have cargo || die "the base image $rust_image cannot be pulled and there is no cargo on this machine: one of them is needed."
    triple=$(rustc -vV | sed -n 's/^host: //p')
    [[ $triple == *-linux-* ]] || die "cargo on this machine builds for $triple, the image needs Linux: use --from-source."
    say "image: building the static binary for $triple with this machine's cargo…"
    (cd "$root" && REMORA_REVISION=${revision:0:12} RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$triple" >&2)

    context=$(mktemp -d)
    # Expanded now: at the end of the script the variable is not there any more.
    # shellcheck disable=SC2064
    trap "rm -rf '$context'" EXIT
    mkdir -p "$context/out/etc/ssl/certs"
    cp "$target/$triple/release/remora" "$context/out/remora"
    if [[ -r /etc/ssl/certs/ca-certificates.crt ]]; then
        cp -L /etc/ssl/certs/ca-certificates.crt "$context/out/etc/ssl/certs/"
    fi
    # The last stage of the Dockerfile, fed from the folder instead of from the first stage.
    awk '/^FROM scratch/ { last = 1 } last { sub(/--from=build \/out\//, "out/"); print }' "$root/Dockerfile" \
        >"$context/Dockerfile"
    docker build "${describe[@]}" "$context" >&2
}

need_engine
case $how in
    packed) packed ;;
    from-source)
        image_available "$rust_image" || rust_image=$("$root/docker/builder-image.sh")
        from_source "$rust_image"
        ;;
    auto) if image_available "$rust_image"; then from_source "$rust_image"; else packed; fi ;;
esac
printf '%s\n' "$name"

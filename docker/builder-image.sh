#!/usr/bin/env bash
# Makes an image to build Remora in, from this machine, and prints its name: for building the Dockerfile where no image can
# be pulled. It holds a minimal Debian with a C compiler (debootstrap, from the archive that this machine's package sources
# name), this machine's Rust toolchain, and the sources of all crates of Cargo.lock, so that the build needs no network.
#
# Needs Linux, root (debootstrap), cargo, and about 2.5 GB of disk. The name says what it is: remora-demo/rust.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

image=remora-demo/rust:local
need_engine
have cargo || die "this machine has no cargo whose toolchain could go into the image."
[[ $(id -u) == 0 ]] || die "debootstrap needs root; run this as root, or set RUST_IMAGE to an image with cargo and a C compiler."

work=$(mktemp -d "${TMPDIR:-/tmp}/remora-builder.XXXXXX")
trap 'rm -rf "$work"' EXIT
system="$work/system"

say "builder: minimal Debian ($(own_suite))…"
read -r archive _ < <(archives) || die "no package archive found in this machine's package sources."
if have debootstrap; then
    debootstrap=(debootstrap)
else
    # The package is a folder of scripts: it runs from where it is unpacked.
    apt_fetch debootstrap "$(own_suite)" "$work/debootstrap" || die "the package debootstrap cannot be fetched."
    debootstrap=(env "DEBOOTSTRAP_DIR=$work/debootstrap/usr/share/debootstrap" sh "$work/debootstrap/usr/sbin/debootstrap")
fi
[[ ! -r $debian_keyring ]] || debootstrap+=(--keyring="$debian_keyring")
# ring compiles C and assembler; the C library's static half comes with libc6-dev.
"${debootstrap[@]}" --variant=minbase --include=gcc,libc6-dev,ca-certificates "$(own_suite)" "$system" "$archive" \
    >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2 && die "debootstrap failed."; }
rm -rf "$system"/var/cache/apt/* "$system"/var/lib/apt/lists/* "$system"/usr/share/{doc,man,locale}

say "builder: Rust toolchain and crates…"
mkdir -p "$system/usr/local/rust" "$system/usr/local/cargo"
(cd "$(rustc --print sysroot)" && tar -c --exclude=./share . ) | tar -x -C "$system/usr/local/rust"
(cd "$root" && cargo vendor --quiet --locked --versioned-dirs "$system/usr/local/cargo/vendor" >/dev/null)
cat >"$system/usr/local/cargo/config.toml" <<'END'
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "/usr/local/cargo/vendor"
[net]
offline = true
END

say "builder: importing…"
# An earlier one would stay behind without a name, and it is large.
docker image rm "$image" >/dev/null 2>&1 || true
tar -C "$system" -c . | docker import \
    --change 'ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENV CARGO_HOME=/usr/local/cargo' \
    --change 'LABEL org.opencontainers.image.title="Debian with a Rust toolchain, made by docker/builder-image.sh"' \
    - "$image" >/dev/null
printf '%s\n' "$image"

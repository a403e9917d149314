#!/usr/bin/env bash
# Prints the path of a folder with the `dockerd` of another Debian suite (and nothing else in it), fetching it if needed:
#
#   docker/engine.sh SUITE        e.g.  PATH="$(docker/engine.sh sid):$PATH" dockerd --version
#
# Nothing is installed: the suite's packages with all that they depend on are unpacked below target/engine/SUITE. This `dockerd`
# sees them as its root, in a mount namespace of its own that ends with it; of the machine it sees /tmp (so that its folders and its
# socket belong there, and bind mounts of the tests work) besides what the kernel shows. Its network is the caller's: give it a
# namespace of its own, or it takes the first engine's bridge. Needs root and tar. What was fetched is used again; REMORA_FETCH=again
# looks for a newer one.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ ${1:-} =~ ^[a-z-]+$ ]] || die "expected the name of a Debian suite (trixie, sid…), got '${1:-}'"
suite=$1 cache=$target/engine/$1

mkdir -p "$cache"
if have flock; then
    exec 9>"$cache/lock"
    flock 9
fi
if [[ ! -x $cache/bin/dockerd || ${REMORA_FETCH:-} == again ]]; then
    say "engine: asking the package archive for the Docker Engine of $suite…"
    rm -rf "$cache/bin" "$cache/root" "$cache/new"
    apt_tree "$suite" "$cache/new" docker.io containerd runc iptables \
        base-files dash coreutils mount ||
        die "the Docker Engine of $suite cannot be fetched; see $target/apt/$suite/log"
    # What the packages' scripts would have done.
    for name in iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore; do
        ln -sf "${name/tables/tables-nft}" "$cache/new/usr/sbin/$name"
    done
    ln -sf dash "$cache/new/usr/bin/sh"
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$cache/new/etc/passwd"
    printf 'root:x:0:\ndocker:x:999:\n' >"$cache/new/etc/group"
    mkdir -p "$cache/new"/{proc,sys,dev,tmp,run,mnt,root}
    mv "$cache/new" "$cache/root"
    mkdir -p "$cache/bin" "$cache/run"
    cat >"$cache/bin/dockerd" <<'END'
#!/bin/sh
# Made by docker/engine.sh. The folder really becomes the root (`chroot` alone would do for the engine, but what enters a container
# lands in the root of the container's mount namespace, and that would be the machine's). What is in /run stays: by the sockets there a
# restarted engine finds what runs on.
exec unshare --mount --propagation slave sh -ec '
root=$0
mount --bind "$root" "$root"
for folder in proc sys dev tmp; do mount --rbind /$folder "$root/$folder"; done
mount --bind "$root/../run" "$root/run"
cd "$root"
pivot_root . mnt
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh -ec "umount -l /mnt; exec dockerd \"\$@\"" dockerd "$@"
' "$(dirname "$(dirname "$(readlink -f "$0")")")/root" "$@"
END
    chmod +x "$cache/bin/dockerd"
fi
"$cache/bin/dockerd" --version >&2 || die "the Docker Engine of $suite does not start here."
printf '%s\n' "$cache/bin"

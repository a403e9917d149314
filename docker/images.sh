#!/usr/bin/env bash
# Prints the name of an image, making it first where it cannot be had otherwise.
#
#   docker/images.sh sample     something small with sh, httpd, nc and wget: the demo's and the tests' containers
#   docker/images.sh consul     Consul with its web UI
#
# The official image is answered (and pulled) if the engine has it or a registry can be reached. Else an
# image of our own name is made from the distribution's packages: remora-demo/busybox, remora-demo/consul. Their labels say
# what is in them; nothing takes the name of an official image. SAMPLE_IMAGE and CONSUL_IMAGE override.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# pack NAME CONTEXT TITLE: builds CONTEXT/Dockerfile quietly and prints the name.
pack() {
    local told
    told=$(docker build --tag "$1" --label "org.opencontainers.image.title=$3" \
        --label "org.opencontainers.image.description=Made on this machine by docker/images.sh; not an official image" \
        "$2" 2>&1) || die "the image $1 could not be built: $told"
    printf '%s\n' "$1"
}

# The file that holds a static busybox: the installed one, else out of the distribution's package.
static_busybox() {
    local fetched="$target/busybox/bin/busybox" installed
    # Debian's package `busybox` is linked to the C library and would not start in an empty image.
    if installed=$(command -v busybox) && ! ldd "$installed" >/dev/null 2>&1; then
        printf '%s\n' "$installed"
        return
    fi
    if [[ ! -x $fetched ]]; then
        say "images: fetching the package busybox-static…"
        apt_fetch busybox-static "$(own_suite)" "$target/busybox" ||
            die "no small image can be made: no registry answers, and the package busybox-static cannot be fetched" \
                "(Debian: apt-get install busybox-static), or set SAMPLE_IMAGE to an image with sh, httpd, nc and wget."
    fi
    [[ -x $fetched ]] || fetched="$target/busybox/usr/bin/busybox"
    printf '%s\n' "$fetched"
}

make_sample() {
    local busybox
    busybox=$(static_busybox)
    mkdir -p "$context/bin" "$context/tmp"
    chmod 1777 "$context/tmp"
    cp "$busybox" "$context/bin/busybox"
    printf '%s\n' 'FROM scratch' 'COPY . /' 'RUN ["/bin/busybox", "--install", "-s", "/bin"]' \
        'RUN rm /Dockerfile' 'CMD ["sh"]' >"$context/Dockerfile"
    pack remora-demo/busybox:local "$context" 'busybox-static of the distribution'
}

make_consul() {
    local binary library
    binary=$("$root/docker/consul.sh")
    mkdir -p "$context/bin" "$context/tmp"
    chmod 1777 "$context/tmp"
    cp "$binary" "$context/bin/consul"
    # A distribution's Consul is linked to the C library, which goes along, under the paths that the binary asks for.
    for library in $(ldd "$binary" 2>/dev/null | grep -o '/[^ ]*'); do
        mkdir -p "$context$(dirname "$library")"
        cp -L "$library" "$context$library"
    done
    printf '%s\n' 'FROM scratch' 'COPY . /' 'ENV PATH=/bin' 'ENTRYPOINT ["/bin/consul"]' 'CMD ["version"]' \
        >"$context/Dockerfile"
    pack remora-demo/consul:local "$context" "$("$binary" version | head -n 1) as found by docker/consul.sh"
}

need_engine
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

case ${1:-} in
    # 1.36 and 1.20: fixed lines, so that the demo of today is the demo of tomorrow.
    sample) wanted=${SAMPLE_IMAGE:-} official=busybox:1.36 ;;
    consul) wanted=${CONSUL_IMAGE:-} official=hashicorp/consul:1.20 ;;
    *) die "expected 'sample' or 'consul', got '${1:-}'" ;;
esac
if [[ -n $wanted ]]; then
    printf '%s\n' "$wanted"
elif image_available "$official"; then
    docker image inspect "$official" >/dev/null 2>&1 || docker pull "$official" >&2
    printf '%s\n' "$official"
else
    "make_$1"
fi

# What the scripts of this folder share. Sourced by them (bash), never run by itself.
# shellcheck shell=bash disable=SC2034

# The project's top folder, and the folder for everything that is fetched or made; both absolute.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target == /* ]] || target=$PWD/$target

# Progress and errors go to stderr: stdout belongs to the answer (a path, the name of an image).
say() { printf '%s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# The Debian keys that sign all suites, old and new. Where they are absent, apt falls back to the keys it trusts by itself.
debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The name of the Debian (or derived) release that runs here, empty elsewhere.
own_suite() { (. /etc/os-release 2>/dev/null && printf '%s' "${VERSION_CODENAME:-}"); }

# The archives that this machine's own package sources name for its own release, one `URI component` per line.
archives() {
    # shellcheck disable=SC2016 # the names are apt's
    apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
        awk -v own="$(own_suite)" '$3 == own || $3 ~ /^(old)*stable$/ { print $1, $2 }' | sort -u
}

# apt_of SUITE: prepares a private configuration of apt, which differs from the machine's own only in the name of the suite, in
# the folder `apt_private`; `apt_options` is what apt has to be told then. Needs no root, and nothing can be installed with it.
apt_of() {
    local suite=$1 signed=''
    have apt-get && have dpkg || return 1
    apt_private=$target/apt/$suite
    mkdir -p "$apt_private"/{state/lists/partial,cache/archives/partial,download}
    [[ -r $debian_keyring && $(. /etc/os-release && echo "$ID") == debian ]] && signed="[signed-by=$debian_keyring] "
    archives | while read -r uri component; do
        printf 'deb %s%s %s %s\n' "$signed" "$uri" "$suite" "$component"
    done >"$apt_private/sources.list"
    [[ -s $apt_private/sources.list ]] || return 1
    : >"$apt_private/status"
    apt_options=(
        -o "Dir::Etc::SourceList=$apt_private/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o "Dir::State=$apt_private/state" -o "Dir::State::status=$apt_private/status" -o "Dir::Cache=$apt_private/cache"
        # The folder may be one that apt's own unprivileged user cannot enter.
        -o APT::Sandbox::User="$(id -un)"
        -o Acquire::Languages=none -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20
    )
    # A source of another vendor may not have the suite: whether the package can be had is what counts. Lists of the last
    # day are good enough.
    if [[ -z $(find "$apt_private/state/lists" -name '*_Packages*' -mtime -1 2>/dev/null) ]]; then
        apt-get "${apt_options[@]}" -q update >"$apt_private/log" 2>&1 || true
    fi
}

# apt_fetch PACKAGE SUITE FOLDER: downloads the package from the suite and unpacks it into the folder. Nothing is installed.
apt_fetch() {
    local package=$1 suite=$2 folder=$3 apt_private apt_options
    apt_of "$suite" || return 1
    rm -f "$apt_private/download/${package}"_*.deb
    (cd "$apt_private/download" && apt-get "${apt_options[@]}" -q download "$package") >>"$apt_private/log" 2>&1 || return 1
    mkdir -p "$folder"
    dpkg -x "$apt_private/download/${package}"_*.deb "$folder"
}

# apt_tree SUITE FOLDER PACKAGE…: the same with all that they depend on, so that programs of the suite find their libraries in
# the folder. None of the packages' scripts runs.
apt_tree() {
    local suite=$1 folder=$2 file apt_private apt_options
    shift 2
    apt_of "$suite" || return 1
    apt-get "${apt_options[@]}" -q -y --no-install-recommends --download-only install "$@" >>"$apt_private/log" 2>&1 ||
        return 1
    mkdir -p "$folder"/usr/{bin,sbin,lib,lib64}
    # Where the packages still say /bin, they mean /usr/bin.
    for file in bin sbin lib lib64; do ln -s "usr/$file" "$folder/$file"; done
    for file in "$apt_private"/cache/archives/*.deb; do
        # Not `dpkg -x`, which puts a folder where the link is.
        dpkg --fsys-tarfile "$file" | tar -x -C "$folder" --keep-directory-symlink || return 1
    done
    rm -f "$apt_private"/cache/archives/*.deb
}

# Is a Docker Engine there? Says in one sentence what is missing if not.
need_engine() {
    local answer
    have docker || die "the docker command is missing. Install Docker Engine 20.10 or newer (Debian: apt-get install docker.io)."
    answer=$(docker version --format '{{.Server.Version}}' 2>&1) ||
        die "no Docker Engine answers (${answer##*$'\n'}). Start it, or point DOCKER_HOST at it, and see that you may use its socket."
}

# image_available IMAGE: the engine has it, or a registry that answers within 15 s does.
image_available() {
    docker image inspect "$1" >/dev/null 2>&1 || timeout 15 docker manifest inspect "$1" >/dev/null 2>&1
}

# The compose to use, as an array `compose`: the program that DOCKER_COMPOSE names, else the plugin, else the older stand-alone
# command.
find_compose() {
    if [[ -n ${DOCKER_COMPOSE:-} ]]; then
        have "$DOCKER_COMPOSE" || die "DOCKER_COMPOSE=$DOCKER_COMPOSE: expected the name or the path of a docker-compose."
        compose=("$DOCKER_COMPOSE")
    elif docker compose version >/dev/null 2>&1; then
        compose=(docker compose)
    elif have docker-compose; then
        compose=(docker-compose)
    else
        die "neither 'docker compose' nor 'docker-compose' is installed (Debian: apt-get install docker-compose)."
    fi
}

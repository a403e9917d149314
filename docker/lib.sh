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

# apt_fetch PACKAGE SUITE FOLDER: downloads the package from the suite and unpacks it into the folder. Nothing is installed:
# apt works on a private configuration, which differs from the machine's own only in the name of the suite, and needs no root.
apt_fetch() {
    local package=$1 suite=$2 folder=$3 private="$target/apt/$2" signed='' log
    have apt-get && have dpkg || return 1
    log="$private/log"
    mkdir -p "$private"/{state/lists/partial,cache/archives/partial,download}
    [[ -r $debian_keyring && $(. /etc/os-release && echo "$ID") == debian ]] && signed="[signed-by=$debian_keyring] "
    archives | while read -r uri component; do
        printf 'deb %s%s %s %s\n' "$signed" "$uri" "$suite" "$component"
    done >"$private/sources.list"
    [[ -s $private/sources.list ]] || return 1
    : >"$private/status"
    local options=(
        -o "Dir::Etc::SourceList=$private/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o "Dir::State=$private/state" -o "Dir::State::status=$private/status" -o "Dir::Cache=$private/cache"
        # The folder may be one that apt's own unprivileged user cannot enter.
        -o APT::Sandbox::User="$(id -un)"
        -o Acquire::Languages=none -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20
    )
    rm -f "$private/download/${package}"_*.deb
    # A source of another vendor may not have the suite: whether the package can be had is what counts. Lists of the last
    # day are good enough.
    if [[ -z $(find "$private/state/lists" -name '*_Packages*' -mtime -1 2>/dev/null) ]]; then
        apt-get "${options[@]}" -q update >"$log" 2>&1 || true
    fi
    (cd "$private/download" && apt-get "${options[@]}" -q download "$package") >>"$log" 2>&1 || return 1
    mkdir -p "$folder"
    dpkg -x "$private/download/${package}"_*.deb "$folder"
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

# The compose that is installed, as an array `compose`: the plugin, else the older stand-alone command.
find_compose() {
    if docker compose version >/dev/null 2>&1; then
        compose=(docker compose)
    elif have docker-compose; then
        compose=(docker-compose)
    else
        die "neither 'docker compose' nor 'docker-compose' is installed (Debian: apt-get install docker-compose)."
    fi
}

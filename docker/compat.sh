#!/usr/bin/env bash
# Runs Remora with every Docker Engine, Consul and Docker Compose that can be had here, and writes the tables of docs/compatibility.md:
#
#   docker/compat.sh [engines | compose]        both, if neither is named
#
# Engines: the machine's own (DOCKER_HOST), and those of ENGINE_SUITES (Debian suites, "trixie sid"; docker/engine.sh fetches them).
# Consul: the one of docker/consul.sh, and CONSUL_NEWEST=path if you have a newer one. Compose: the one that is installed, and those
# of COMPOSE_SUITES ("trixie sid"). COMPAT_TESTS names the test programs, each with an optional filter behind a colon.
#
# Needs root, cargo, iproute2, unshare, nsenter and apt; the rest comes as it does for docker/test.sh. The other engines live in network
# namespaces and folders of their own, and are gone at the end. What was fetched stays in target/ for the next run.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

page=$root/docs/compatibility.md
engine_suites=${ENGINE_SUITES-trixie sid}
compose_suites=${COMPOSE_SUITES-trixie sid}
tests=${COMPAT_TESTS:-compat docker_conformance clone heal:replaces:: faults:docker:: e2e external}
log=$target/compat
pids=() folders=()

[[ $(id -u) == 0 ]] || die 'another engine needs root.'
for program in ip unshare nsenter cargo; do have "$program" || die "$program is missing."; done

cleanup() {
    local status=$? pid folder
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
        # An engine stops its containers first.
        for _ in {1..150}; do
            grep -qs 'State:.[^Z]' "/proc/$pid/status" || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
    for folder in "${folders[@]}"; do
        grep -o "$folder[^ ]*" /proc/mounts | sort -r | xargs -r umount -l || true
        rm -rf --one-file-system "$folder"
    done
    exit "$status"
}
trap cleanup EXIT

# start_engine SUITE: the engine of this suite; `socket` is where it listens, `inside` how to run something on its host.
start_engine() {
    local bin folder sleeper
    bin=$("$root/docker/engine.sh" "$1")
    folder=$(mktemp -d /tmp/remora-compat.XXXXXX)
    folders+=("$folder")
    unshare --net sleep infinity &
    sleeper=$!
    until [[ $(readlink "/proc/$sleeper/ns/net") != "$(readlink /proc/self/ns/net)" ]]; do sleep 0.05; done
    inside=(nsenter "--net=/proc/$sleeper/ns/net" env "PATH=$bin:$PATH")
    # A host with an address by which others could reach it (of a range that is reserved for documentation).
    "${inside[@]}" sh -ec 'ip link set lo up; ip link add eth0 type veth peer name far; ip address add 192.0.2.2/24 dev eth0
        ip link set eth0 up; ip link set far up; ip route add default via 192.0.2.1'
    echo '{}' >"$folder/daemon.json"
    "${inside[@]}" dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
        --host "unix://$folder/docker.sock" --config-file "$folder/daemon.json" --shutdown-timeout 5 >"$folder/log" 2>&1 &
    # The engine first: what is in the namespace ends before it.
    pids=("$!" "$sleeper" "${pids[@]}")
    socket=$folder/docker.sock
    for _ in {1..120}; do
        if docker --host "unix://$socket" version >/dev/null 2>&1; then return; fi
        sleep 0.5
    done
    tail -n 20 "$folder/log" >&2
    die "the engine of $1 was started but does not answer."
}

# give IMAGE…: to the engine at `socket`, from the machine's own.
give() { docker save "$@" | docker --host "unix://$socket" load --quiet >&2; }

# on_engine SUITE: makes `socket` and `inside` mean the engine of this suite, or the machine's own ('').
declare -A sockets=() hosts=()
on_engine() {
    if [[ -z $1 ]]; then
        socket=/var/run/docker.sock inside=(env)
        if [[ ${DOCKER_HOST:-} == unix://* ]]; then socket=${DOCKER_HOST#unix://}; fi
        return
    fi
    if [[ -z ${sockets[$1]:-} ]]; then
        start_engine "$1"
        sockets[$1]=$socket hosts[$1]=$(printf '%q ' "${inside[@]}")
        give "$REMORA_TEST_IMAGE"
    fi
    socket=${sockets[$1]}
    eval "inside=(${hosts[$1]})"
}
about() { docker --host "unix://$socket" version --format '{{.Server.Version}} | {{.Server.APIVersion}}' | sed 's/+[^ ]*//'; }

# write NAME TABLE: puts the table between its two marks of the page.
write() {
    local new
    new=$(mktemp)
    TABLE=$2 awk -v begin="<!-- $1: begin -->" -v end="<!-- $1: end -->" '
        $0 == end { inside = 0 }
        !inside { print }
        $0 == begin { inside = found = 1; printf "\n%s\n\n", ENVIRON["TABLE"] }
        END { exit !found }' "$page" >"$new" || die "$page has no mark '$1: begin'"
    cat "$new" >"$page"
    rm "$new"
}

# ---- engines and Consul ----------------------------------------------------------------------------------

# built NAME: the test program that cargo has built.
built() {
    (cd "$root" && cargo test --locked --no-run --message-format json --test "$1" 2>>"$log/build.log") |
        sed -n 's/.*"kind":\["test"\].*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

run_engines() {
    local suite consul consuls=("$CONSUL_BIN") version table='' program name filter out words passed failed cell failures=0
    local -A programs=()
    [[ -z ${CONSUL_NEWEST:-} ]] || consuls+=("$(CONSUL_BIN=$CONSUL_NEWEST "$root/docker/consul.sh")")
    say 'compat: building the tests…'
    for name in $tests; do
        program=$(built "${name%%:*}")
        [[ -n $program ]] || die "the test program ${name%%:*} cannot be built; see $log/build.log"
        programs[$name]=$program
    done
    table='| Docker Engine | API | Consul |'
    for name in $tests; do table+=" \`$(tr -s : ' ' <<<"$name" | sed 's/ *$//')\` |"; done
    table+=$'\n''|---|---|---|'
    for name in $tests; do table+='---|'; done
    # The newest first: it is what nobody else has run.
    for suite in $(tac -s ' ' <<<"$engine_suites " | tr -d '\n') ''; do
        on_engine "$suite"
        for consul in "${consuls[@]}"; do
            version=$("$consul" version | sed -n '1s/Consul v//p')
            table+=$'\n'"| $(about) | $version |"
            for name in $tests; do
                filter=''
                [[ $name != *:* ]] || filter=${name#*:}
                out="$log/engine-${suite:-own}-consul-$version-${name%%:*}.log"
                say "compat: Docker Engine $(about), Consul $version: $name"
                # shellcheck disable=SC2086 # an empty filter is no argument
                (cd "$root" && DOCKER_HOST=unix://$socket CONSUL_BIN=$consul "${inside[@]}" timeout 1200 \
                    "${programs[$name]}" --test-threads 2 $filter) >"$out" 2>&1 || true
                words=$(grep '^test result' "$out" | tail -n 1)
                passed=$(grep -o '[0-9]* passed' <<<"$words" | cut -d ' ' -f 1 || true)
                failed=$(grep -o '[0-9]* failed' <<<"$words" | cut -d ' ' -f 1 || true)
                if [[ -z $words ]]; then
                    cell='did not end' failures=$((failures + 1))
                else
                    cell="$passed passed"
                    ((failed == 0)) || cell="**$failed failed**, $cell"
                    failures=$((failures + failed))
                fi
                say "        $cell"
                table+=" $cell |"
            done
            # Row by row: what was run stands there, whatever becomes of the rest.
            write engines "Measured on $(date -u +%F) with Remora $revision, by \`docker/compat.sh engines\`."$'\n\n'"$table"
        done
    done
    ((failures == 0)) || wrong+=("$failures of the tests failed: $log")
}

# ---- Compose ---------------------------------------------------------------------------------------------

run_compose() {
    local suite compose=() program folder table out name
    say 'compat: building the images of the demo…'
    # Made once, on the machine's own engine.
    REMORA_IMAGE=${REMORA_IMAGE:-$("$root/docker/build-image.sh" remora:compat)}
    CONSUL_IMAGE=$("$root/docker/images.sh" consul)
    SAMPLE_IMAGE=$REMORA_TEST_IMAGE
    export REMORA_IMAGE CONSUL_IMAGE SAMPLE_IMAGE
    # An image that was given may be of another revision than this folder.
    revision="${revision%% *} ($(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' \
        "$REMORA_IMAGE" | cut -c 1-12))"
    if have docker-compose; then compose=("$(command -v docker-compose)"); fi
    for suite in $compose_suites; do
        folder=$target/compose/$suite
        [[ -n $(find "$folder" -name docker-compose -type f -perm -1 2>/dev/null) ]] || apt_fetch docker-compose "$suite" "$folder" ||
            die "docker-compose of $suite cannot be fetched; see $target/apt/$suite/log"
        compose+=("$(find "$folder" -name docker-compose -type f -perm -1 | sort | head -n 1)")
    done
    table=$'| Docker Compose | Docker Engine | API | `docker/demo.sh smoke` |\n|---|---|---|---|'
    for suite in '' $engine_suites; do
        on_engine "$suite"
        [[ -z $suite ]] || give "$REMORA_IMAGE" "$CONSUL_IMAGE" "$SAMPLE_IMAGE"
        for program in "${compose[@]}"; do
            name=$("$program" version --short 2>/dev/null)
            out="$log/compose-$name-engine-${suite:-own}.log"
            say "compat: Docker Compose $name, Docker Engine $(about)"
            if DOCKER_HOST=unix://$socket DOCKER_COMPOSE=$program DOCKER_SOCKET=$socket "${inside[@]}" \
                timeout 600 "$root/docker/demo.sh" smoke >"$out" 2>&1; then
                table+=$'\n'"| $name | $(about) | passed, $(grep -c '^  ok ' "$out") steps |"
            else
                table+=$'\n'"| $name | $(about) | **failed** |"
                wrong+=("the demo with Docker Compose $name on $(about): $out")
                tail -n 5 "$out" >&2
            fi
        done
    done
    write compose "Measured on $(date -u +%F) with Remora $revision, by \`docker/compat.sh compose\`."$'\n\n'"$table"
}

need_engine
mkdir -p "$log"
wrong=()
CONSUL_BIN=$("$root/docker/consul.sh")
REMORA_TEST_IMAGE=${REMORA_TEST_IMAGE:-$("$root/docker/images.sh" sample)}
export CONSUL_BIN REMORA_TEST_IMAGE
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
revision="$version ($(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null || echo unknown))"

case ${1:-all} in
    all)
        run_engines
        run_compose
        ;;
    engines) run_engines ;;
    compose) run_compose ;;
    *) die "expected engines or compose, got '$1'" ;;
esac
if ((${#wrong[@]} > 0)); then
    printf 'compat: %s\n' "${wrong[@]}" >&2
    exit 1
fi
say "compat: all is right; see $page"

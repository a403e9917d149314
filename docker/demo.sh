#!/usr/bin/env bash
# The demo: Consul with its web UI, Remora, and sample containers, by docker-compose.yml.
#
#   docker/demo.sh up        build, start, wait until the catalog is right, tell where to look and what to try
#   docker/demo.sh status    what the catalog says
#   docker/demo.sh scale N   that many `web` containers
#   docker/demo.sh down      end it; nothing stays but the images
#   docker/demo.sh smoke     the same as a test, beside a demo that may be running: up, check, break, mend, scale, kill, down
#
# CONSUL_PORT (8500) moves the demo to other ports; REMORA_IMAGE, CONSUL_IMAGE and SAMPLE_IMAGE use images that you have;
# DOCKER_COMPOSE names another docker-compose than the one that is found.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Seconds that the catalog may take to become right. A sample starts in about one; the rest is for slow machines.
patience=90

# ---- ports -----------------------------------------------------------------------------------------

# use_ports P: Consul's API on port P of loopback, all else at the distances that the standard ports have.
use_ports() {
    if [[ ! $1 =~ ^[0-9]{4,5}$ ]] || (($1 < 2000 || $1 > 65000)); then
        die "CONSUL_PORT=$1: expected a port from 2000 to 65000."
    fi
    export CONSUL_PORT=$1 CONSUL_DNS_PORT=$(($1 + 100)) CONSUL_SERVER_PORT=$(($1 - 200)) CONSUL_SERF_PORT=$(($1 - 199))
    export REMORA_PORT=$(($1 - 521))
    ports=("$CONSUL_PORT" "$CONSUL_DNS_PORT" "$CONSUL_SERVER_PORT" "$CONSUL_SERF_PORT" "$REMORA_PORT")
    consul="http://127.0.0.1:$1"
}

# The first of our ports that somebody listens on; fails when all are free.
occupied_port() {
    local port
    for port in "${ports[@]}"; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            printf '%s\n' "$port"
            return
        fi
    done
    return 1
}

# The API port of the Consul of this project, if it runs.
running_port() {
    docker inspect --format '{{json .Config.Cmd}}' "$(container consul)" 2>/dev/null | grep -o 'http-port=[0-9]*' | cut -d = -f 2
}

# ---- containers ------------------------------------------------------------------------------------

# use_project NAME: all that follows is about this compose project. Exported because the compose file names the Consul node
# after it.
use_project() {
    project=$1
    export COMPOSE_PROJECT_NAME=$project
}

# Compose on our project. What it tells step by step is only of interest when it fails.
in_project() {
    local told
    told=$("${compose[@]}" --file "$root/docker-compose.yml" --project-name "$project" "$@" 2>&1) || {
        say "$told"
        die "'${compose[*]} $1' failed."
    }
}

# containers SERVICE: the names of its running containers.
containers() {
    docker ps --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1" \
        --format '{{.Names}}' | sort
}
container() { containers "$1" | head -n 1; }

# Finds or makes the images, and finds the socket and its group.
prepare() {
    prepare_sample
    CONSUL_IMAGE=$("$root/docker/images.sh" consul)
    REMORA_IMAGE=${REMORA_IMAGE:-$("$root/docker/build-image.sh")}
    DOCKER_SOCKET=${DOCKER_SOCKET:-/var/run/docker.sock}
    if [[ ${DOCKER_HOST:-} == unix://* ]]; then DOCKER_SOCKET=${DOCKER_HOST#unix://}; fi
    # Asked from inside a container: what counts is the group that the socket has there.
    DOCKER_GID=${DOCKER_GID:-$(docker run --rm --volume "$DOCKER_SOCKET:/socket" "$SAMPLE_IMAGE" stat -c %g /socket)}
    export CONSUL_IMAGE REMORA_IMAGE DOCKER_SOCKET DOCKER_GID
}
prepare_sample() {
    SAMPLE_IMAGE=$("$root/docker/images.sh" sample)
    export SAMPLE_IMAGE
}

# scale_web N: that many containers of web; the others are left as they are.
scale_web() { in_project up --detach --no-build --no-recreate --scale "web=$1" web; }

# up WEB_CONTAINERS: everything afresh, whatever has been done to the containers of a demo that is running.
up() {
    prepare
    say "demo: starting ($REMORA_IMAGE, $CONSUL_IMAGE, $SAMPLE_IMAGE)…"
    in_project up --detach --no-build --force-recreate --scale "web=$1"
}

down() { in_project down --volumes --timeout 15; }

# ---- catalog ---------------------------------------------------------------------------------------

# ask PATH: Consul's answer without white space (a development agent indents it), so that it can be searched by grep.
ask() { fetch "$1" | tr -d '[:space:]'; }
# fetch PATH: with whatever this machine has to speak HTTP with.
fetch() {
    if have curl; then
        curl --silent --fail --max-time 5 "$consul$1"
    elif have wget; then
        wget -q -T 5 -O - "$consul$1"
    else
        docker run --rm --network host "$SAMPLE_IMAGE" wget -q -T 5 -O - "$consul$1"
    fi
}
# Consul's own command line, out of its container.
consul_cli() { docker exec "$(container consul)" consul "$@"; }

count() { grep -o "$1" | wc -l | tr -d ' '; }
passing() { ask "/v1/health/service/$1?passing" | count '"Service":{' || true; }
instances() { ask "/v1/health/service/$1" | count '"Service":{' || true; }
tagged() { ask "/v1/catalog/service/$1?tag=$2" | count '"ServiceID":' || true; }
# The ids of a service's instances.
ids() { ask "/v1/catalog/service/$1" | grep -o '"ServiceID":"[^"]*"' | cut -d '"' -f 4; }
# The names in the catalog on one line, without Consul's own.
names() { ask '/v1/catalog/services' | grep -o '"[^"]*":\[' | tr -d '":[' | grep -vx consul | sort | tr '\n' ' ' || true; }
# The ports that the catalog has for a service, and those that Docker has published for it; sorted.
catalog_ports() { ask "/v1/catalog/service/$1" | grep -o '"ServicePort":[0-9]*' | cut -d : -f 2 | sort | tr '\n' ' '; }
docker_ports() {
    local name
    for name in $(containers "$1"); do docker port "$name" "$2" | head -n 1 | sed 's/.*://'; done | sort | tr '\n' ' '
}
leader() { ask /v1/status/leader | grep -c : || true; }

# expect WHAT WANTED COMMAND…: waits until the command prints what is wanted; ends with what it printed last if it never does.
expect() {
    local what=$1 wanted=$2 seen started=$SECONDS
    shift 2
    until seen=$("$@" 2>/dev/null) && [[ $seen == "$wanted" ]]; do
        if ((SECONDS - started >= patience)); then
            say "  FAILED  $what: expected '$wanted', saw '$seen' for $patience s. The last that Remora logged:"
            docker logs --tail 30 "$(container remora)" >&2 || true
            die 'the catalog is not right.'
        fi
        sleep 0.2
    done
    say "  ok  $what"
}

# What must be true once all is started, with $1 web containers.
expect_catalog() {
    expect 'Consul has a leader' 1 leader
    expect "web: $1 instances, passing" "$1" passing web
    expect 'web: the ports that Docker chose' "$(docker_ports web 8080/tcp)" catalog_ports web
    expect 'flaky: passing' 1 passing flaky
    expect 'shop-8080 and shop-admin: one container, two services' '1 1' two_services
    expect 'dns: passing, tagged udp' 1 tagged dns udp
    expect 'remora: watches itself' 1 passing remora
}
two_services() { printf '%s %s' "$(passing shop-8080)" "$(passing shop-admin)"; }

# ---- commands --------------------------------------------------------------------------------------

tell() {
    local web flaky remora
    web=$(container web) flaky=$(container flaky) remora=$(container remora)
    cat <<END

Look at   $consul/ui/   (from another machine first: ssh -L $CONSUL_PORT:127.0.0.1:$CONSUL_PORT <this machine>)

Try, and watch the page:

  docker exec $flaky rm /tmp/www/health
      flaky turns red: its HEALTHCHECK fails, and the check "docker" says why. Mend it with
      docker exec $flaky touch /tmp/www/health

  docker/demo.sh scale 5
      three more instances of web, each on a port of its own

  docker kill $web
      gone from the catalog at once; docker start $web brings it back

  docker exec $(container consul) consul services deregister -id "$(ids shop-admin | head -n 1)"
      the whole service shop-admin disappears, and is back seconds later

  docker stop $remora
      nothing is lost, but the service remora turns red; docker start $remora mends it

  docker exec $remora /remora explain $flaky
      what is registered for a container, and which label or rule says so

  docker exec $remora /remora doctor
      everything that Remora depends on, and the address it has chosen

End it with   docker/demo.sh down
END
}

status() {
    local name
    printf '%-24s %s\n' SERVICE PASSING
    for name in $(names); do printf '%-24s %s of %s\n' "$name" "$(passing "$name")" "$(instances "$name")"; done
}

smoke() {
    # A name of its own: several may run at once.
    use_project "remora-smoke-$$"
    # Nobody else's containers: the catalog can then be compared as a whole.
    export REMORA_INCLUDE=project:$project
    local base flaky id
    for base in 18500 20500 22500 24500; do
        use_ports "$base"
        if ! occupied_port >/dev/null; then break; fi
    done
    trap 'down' EXIT

    up 2
    expect_catalog 2
    expect 'nothing else is published' 'dns flaky remora shop-8080 shop-admin web ' names
    expect 'shop-admin: its own tag' 1 tagged shop-admin internal
    expect 'web: its Compose project and service' "$project web" compose_names web
    expect "'remora healthcheck' is content" 0 exit_status docker exec "$(container remora)" /remora healthcheck
    expect "'remora explain' knows web" 0 exit_status docker exec "$(container remora)" /remora explain "$(container web)"

    flaky=$(container flaky)
    docker exec "$flaky" rm /tmp/www/health
    expect 'flaky, broken: not passing' '0 of 1' passing_of flaky
    docker exec "$flaky" touch /tmp/www/health
    expect 'flaky, mended: passing' 1 passing flaky

    scale_web 3
    expect 'web, scaled: 3 instances, passing' 3 passing web
    docker kill "$(container web)" >/dev/null
    expect 'web, one killed: 2 instances' 2 instances web
    expect 'web, one killed: the ports that are left' "$(docker_ports web 8080/tcp)" catalog_ports web

    id=$(ids shop-admin)
    consul_cli services deregister -id "$id" >/dev/null
    expect 'shop-admin, deregistered by hand: back' "$id" ids shop-admin

    docker stop --time 15 "$(container remora)" >/dev/null
    expect 'Remora stopped by itself, with status 0' 0 remora_status
    expect 'Remora stopped: its registrations stay' 2 instances web

    down
    trap - EXIT
    [[ -z $(docker ps --all --quiet --filter "label=com.docker.compose.project=$project") ]] || die 'containers are left.'
    [[ -z $(docker network ls --quiet --filter "label=com.docker.compose.project=$project") ]] || die 'a network is left.'
    say 'smoke: all is right, nothing is left.'
}
# What the catalog says of a service's Compose project and service.
compose_names() {
    local meta
    meta=$(ask "/v1/catalog/service/$1")
    printf '%s %s' "$(grep -o '"project":"[^"]*"' <<<"$meta" | sort -u | cut -d '"' -f 4)" \
        "$(grep -o '"compose-service":"[^"]*"' <<<"$meta" | sort -u | cut -d '"' -f 4)"
}
passing_of() { printf '%s of %s' "$(passing "$1")" "$(instances "$1")"; }
exit_status() {
    local status=0
    "$@" >/dev/null 2>&1 || status=$?
    printf '%s' "$status"
}
remora_status() {
    docker ps --all --filter "label=com.docker.compose.project=$project" \
        --filter label=com.docker.compose.service=remora --filter status=exited --format '{{.Names}}' |
        xargs docker inspect --format '{{.State.ExitCode}}'
}

# A Consul that answers on our port is not always ours.
need_running() { [[ -n $(container consul) ]] || die "the demo does not run. Start it by 'docker/demo.sh up'."; }

need_engine
find_compose
use_project "${COMPOSE_PROJECT_NAME:-remora-demo}"
# A demo that is running keeps the port that it was started with.
use_ports "$(running_port || printf '%s' "${CONSUL_PORT:-8500}")"

case ${1:-} in
    up)
        if [[ -z $(container consul) ]] && busy=$(occupied_port); then
            die "port $busy of 127.0.0.1 is taken (is another Consul running here?)." \
                "Use other ports:  CONSUL_PORT=18500 docker/demo.sh up"
        fi
        up 2
        say 'demo: waiting for the catalog…'
        expect_catalog 2
        tell
        ;;
    status)
        need_running
        status
        ;;
    scale)
        [[ ${2:-} =~ ^[0-9]{1,2}$ ]] || die "scale: expected a number from 0 to 99, got '${2:-}'"
        need_running
        prepare_sample
        scale_web "$2"
        expect "web: $2 instances, passing" "$2" passing web
        ;;
    down) down ;;
    smoke) smoke ;;
    *) die "expected up, status, scale, down or smoke, got '${1:-}'" ;;
esac

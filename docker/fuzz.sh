#!/usr/bin/env bash
# Fuzzes everything that parses foreign bytes, one target after the other, keeps what was learned, and writes the table of
# docs/fuzzing.md:
#
#   docker/fuzz.sh [SECONDS [TARGET...]]     each target for so many seconds (600), or only these targets
#   docker/fuzz.sh keep [TARGET...]          only takes what earlier runs have learned into fuzz/corpus
#
# Needs cargo and a C++ compiler (libFuzzer is built from source); a stable toolchain is enough. cargo-fuzz is installed into
# target/tools where it is missing. What a run learns grows in target/fuzz; from there the smallest set that reaches as much goes
# into fuzz/corpus. A finding stops its target, and is in fuzz/artifacts. The status is 1 if there was one.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=${1:-600}
shift || true
cd "$root"
work=$target/fuzz
# As many inputs are kept of each target, and as many bytes: a corpus is read by every run of the tests.
most=300
bytes=150000

# target_names: in the order of fuzz/Cargo.toml.
target_names() { sed -n '/^\[\[bin\]\]/{n;s/^name = "\(.*\)"$/\1/p}' fuzz/Cargo.toml; }

# fuzz_bin TARGET: what cargo-fuzz has built. Without a sanitizer: the program has no unsafe code of its own.
fuzz_bin() { printf 'fuzz/target/%s/release/%s\n' "$(rustc -vV | sed -n 's/^host: //p')" "$1"; }

# alone COMMAND…: in a network of its own, so that ten thousand connections are nobody else's; without root in this one.
alone() {
    if [[ $(id -u) == 0 ]] && have unshare && have ip; then
        unshare --net sh -c 'ip link set lo up && exec "$@"' sh "$@"
    else
        "$@"
    fi
}

# run TARGET: fuzzes one target, and writes its row.
run() {
    local name=$1 log=$work/$1.log words=() bin found took status=0 began=$SECONDS
    # A stream of random steps has no words.
    [[ ! -f fuzz/dictionaries/$name.dict ]] || words=("-dict=fuzz/dictionaries/$name.dict")
    bin=$(fuzz_bin "$name")
    mkdir -p "$work/corpus/$name" "$work/rows" "fuzz/artifacts/$name"
    say "fuzz: $name for $seconds s"
    # A second is a thousand times what an input takes; ten are for a loaded machine.
    alone nice -n 19 "$bin" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=8192 -print_final_stats=1 \
        "${words[@]}" -artifact_prefix="fuzz/artifacts/$name/" \
        "$work/corpus/$name" "fuzz/corpus/$name" >"$log" 2>&1 || status=$?
    took=$((SECONDS - began))
    found=$(find "fuzz/artifacts/$name" -type f | wc -l)
    stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
    keep "$name"
    printf '| %s | %s | %s | %s | %s | %s | %s | %s |\n' "$name" "$took s" \
        "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" "$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | tr -dc 0-9)" \
        "$(find "fuzz/corpus/$name" -type f | wc -l)" "$found" "$(date -u +%F)" >"$work/rows/$name"
    if ((status != 0 || found != 0)); then
        say "fuzz: $name found something: $log, fuzz/artifacts/$name"
        return 1
    fi
}

# keep TARGET: of the smallest set of inputs that reaches what all of them reach the seeds, and as many of the rest as may be kept:
# small ones and long ones, since those that reach far are seldom small.
keep() {
    local name=$1 merged=$work/merged/$1 kept=fuzz/corpus/$1 seeds
    rm -rf "$merged"
    mkdir -p "$merged" "$work/corpus/$name"
    cp "$kept"/seed-* "$merged/" 2>/dev/null || true
    alone nice -n 19 "$(fuzz_bin "$name")" -merge=1 -timeout=10 -rss_limit_mb=1024 "$merged" "$kept" "$work/corpus/$name" \
        >"$work/$name.merge.log" 2>&1 || { say "fuzz: the inputs of $name cannot be merged: $work/$name.merge.log" && return 1; }
    find "$kept" -type f ! -name 'seed-*' -delete
    seeds=$(find "$merged" -name 'seed-*' | wc -l)
    find "$merged" -type f ! -name 'seed-*' -printf '%s %p\n' | sort -n |
        awk -v most="$((most - seeds))" -v bytes="$bytes" '
            { size[NR] = $1; name[NR] = $2 }
            END {
                # Every one, else every second one, every third…
                for (step = 1; step <= NR; step++) {
                    count = sum = 0
                    for (at = 1; at <= NR; at += step) { count++; sum += size[at] }
                    if (count <= most && sum <= bytes) break
                }
                for (at = 1; at <= NR; at += step) print name[at]
            }' | while read -r file; do cp "$file" "$kept/"; done
}

# table: what is known of all targets, between the marks of the page.
table() {
    local page=docs/fuzzing.md rows=$work/table name
    {
        printf 'Linux %s, %s cores, %s; without a sanitizer, beside other work.\n\n' "$(uname -m)" "$(nproc)" "$(rustc --version | cut -d' ' -f1,2)"
        printf '| Target | Time | Executions | per second | Coverage (edges) | Corpus (files) | Findings | Date |\n|---|---|---|---|---|---|---|---|\n'
        for name in $(target_names); do [[ ! -f $work/rows/$name ]] || cat "$work/rows/$name"; done
    } >"$rows"
    cat "$rows"
    sed -i -e "/^<!-- fuzzing: begin/,/^<!-- fuzzing: end/{/^<!-- fuzzing: begin/{p;r $rows" -e '};/^<!-- fuzzing: end/p;d}' "$page"
}

if ! have cargo-fuzz; then
    export PATH=$target/tools/bin:$PATH
    have cargo-fuzz || cargo install cargo-fuzz --locked --root "$target/tools"
fi
# Coverage is counted by a pass that only nightly toolchains offer without being asked like this.
# FUZZ_BUILT=1: what is built already is used, so that two of these can run side by side.
[[ ${FUZZ_BUILT:-} ]] || RUSTC_BOOTSTRAP=1 cargo fuzz build --sanitizer none >&2

status=0
names=("$@")
if ((${#names[@]} == 0)); then mapfile -t names < <(target_names); fi
for name in "${names[@]}"; do
    if [[ $seconds == keep ]]; then keep "$name"; else run "$name" || status=1; fi
done
[[ $seconds == keep ]] || table
exit "$status"

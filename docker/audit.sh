#!/usr/bin/env bash
# Looks at what is built into Remora: licences, sources, duplicates, and known vulnerabilities (deny.toml).
#
#   docker/audit.sh [--require-advisories]
#
# Fetches cargo-deny into target/ by cargo if it is not there (once, some minutes). Known vulnerabilities come from RustSec's
# database, which is a git repository: where that cannot be reached everything else is looked at, and a line that begins with
# NOT CHECKED says so. The exit code is 1 when something was found, with --require-advisories also when the database is away.
set -euo pipefail
# shellcheck source=docker/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=0.20.2
required=no
case ${1:-} in
--require-advisories) required=yes ;;
'') ;;
*) die "unknown argument $1: expected --require-advisories, or nothing" ;;
esac
have cargo || die "cargo is missing: https://rustup.rs"
cd "$root"

deny=$target/tools/bin/cargo-deny
if have cargo-deny; then
    deny=$(command -v cargo-deny)
elif [[ $("$deny" --version 2>/dev/null) != "cargo-deny $version" ]]; then
    say "audit: building cargo-deny $version"
    cargo install "cargo-deny@$version" --locked --quiet --root "$target/tools" --target-dir "$target/tools/build" >&2
    rm -rf "$target/tools/build"
fi

found=0
# `--locked`: what is looked at is what is built.
"$deny" --locked --log-level warn check bans licenses sources || found=1

database='https://github.com/RustSec/advisory-db'
if GIT_TERMINAL_PROMPT=0 timeout 30 git ls-remote --exit-code "$database" HEAD >/dev/null 2>&1; then
    "$deny" --locked --log-level warn check advisories || found=1
else
    say "NOT CHECKED: known vulnerabilities. $database cannot be reached from here; run docker/audit.sh where it can."
    [[ $required == no ]] || found=1
fi
exit "$found"

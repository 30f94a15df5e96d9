#!/usr/bin/env bash
# Lives through many simulated worlds, each drawn from its seed: a real server between simulated
# clients, on a simulated kernel, under a simulated clock. See docs/TESTING.md.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/simulate.sh [--seeds N] [--from SEED] [--jobs N]

  --seeds N    how many worlds (default: 100000)
  --from SEED  the first seed (default: 0)
  --jobs N     how many at a time (default: one for each processor)

Progress goes to standard error, what was wrong and a summary to standard output. A world that fails
is made as small as possible and shown as Rust, for src/testing/regressions.rs. Three are enough: then
it stops. Exit status: 0 if all is well, 1 if not.
TEXT
}

seeds=100000 from=0 jobs=$(nproc)
while (($#)); do
  case $1 in
    --seeds) seeds=${2:?--seeds needs a number}; shift ;;
    --from) from=${2:?--from needs a number}; shift ;;
    --jobs) jobs=${2:?--jobs needs a number}; shift ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

cd "$(dirname "$0")/.."
# The server and its admin listener alone, fast, but with debug assertions.
cargo build --quiet --profile simulate --no-default-features --features admin,testing --bin simulate
exec target/simulate/simulate "$from" "$seeds" "$jobs"

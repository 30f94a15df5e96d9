#!/usr/bin/env bash
# The fault campaign: what breaks, k-th call by k-th call, and what the server does. Prints a table.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/faults.sh [--quick] [--release] [--only CASE] [--out FILE]

  --quick      the short part, as cargo test runs it: within a minute instead of twenty
  --release    build with optimizations, for figures (latency, processor time)
  --only CASE  one case: sweep, controls, accept, descriptors, reload, resets, signals, network,
               memory, short-writes, slow-readers
  --out FILE   write the table there as well

Most cases want strace; network, memory, resets and signals want root, iproute2 and iptables. What
cannot be done here is named (SKIPPED) and passed over. Touches no network but loopback and
namespaces of its own. Installs nothing. docs/FAULTS.md explains it.

Exit status: 0 all was as it should be, 1 something was not, 2 wrong usage.
TEXT
}

root=$(cd "$(dirname "$0")/.." && pwd)
scale=--full only='' out=/dev/null profile=()
while (($#)); do
  case $1 in
    --quick) scale=--quick ;;
    --release) profile=(--release) ;;
    --only) only=${2:?--only needs a case}; shift ;;
    --out) out=$(realpath -m "${2:?--out needs a file}"); shift ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
cd "$root"

cargo test "${profile[@]}" --quiet --test faults --no-run
cargo test "${profile[@]}" --quiet --test faults -- "$scale" ${only:+"$only"} | tee "$out"

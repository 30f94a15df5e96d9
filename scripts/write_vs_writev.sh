#!/usr/bin/env bash
# The main experiment: builds, measures the seven write paths on this machine, prints the summary
# and opens the report.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/write_vs_writev.sh [--full] [--out DIR] [--no-open]

  --full     minutes rather than half a minute: what can be quoted
  --out DIR  where records and report go (default: target/lab/DATE). A run that was interrupted
             goes on if it is given the same directory again
  --no-open  do not open the report in a browser

Needs two processors that have nothing else to do. As root, or where user namespaces are
permitted, it measures on a loopback of its own with an MTU of 1500 bytes; otherwise the report
says what is distorted.
TEXT
}

root=$(cd "$(dirname "$0")/.." && pwd)
out=$root/target/lab/$(date -u +%Y-%m-%dT%H%M%SZ)
size=(--quick)
open=yes
while (($#)); do
  case $1 in
    --full) size=() ;;
    --out) out=$(realpath -m "${2:?--out needs a directory}"); shift ;;
    --no-open) open=no ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

cargo build --release --manifest-path "$root/Cargo.toml"
"$root/target/release/pushv" lab run write-vs-writev "${size[@]}" --out "$out"

# Where there is a desktop.
if [ "$open" = yes ] && [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] && command -v xdg-open >/dev/null; then
  xdg-open "$out/report.html"
fi

#!/usr/bin/env bash
# The marks: pushv beside the floor, and beside the servers of benches/peers that are installed
# here, measured in one run. Writes a table and all samples.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/marks.sh [--quick] [--out DIR]

  --quick    a tenth of the size: does it still run?
  --out DIR  where marks.md and marks.json go (default: target/marks)

Takes ten minutes, two processors that have nothing else to do, and 20,000 descriptors.
Installs nothing. A peer that is missing is named, with the Debian package that has it.

As root it runs in a network namespace of its own, where loopback uses the congestion control
cubic for everybody; otherwise those that cannot choose theirs have the system's.
TEXT
}

root=$(cd "$(dirname "$0")/.." && pwd)
out=$root/target/marks
quick=()
while (($#)); do
  case $1 in
    --quick) quick=(--quick) ;;
    --out) out=$(realpath -m "${2:?--out needs a directory}"); shift ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
cd "$root"

# In the namespace a route says it, because only the first namespace may make cubic the default.
# shellcheck disable=SC2016 # expanded in the namespace
in_a_namespace='
  ip link set lo up
  for destination in 127.0.0.0/8 127.0.0.1; do
    ip route replace local "$destination" dev lo table local proto kernel scope host \
      src 127.0.0.1 congctl cubic
  done
  exec "$@"'

# Builds while there is still a network.
cargo bench --bench fanout --no-run

run=(cargo bench --offline --bench fanout -- --peers "${quick[@]}" --json "$out/marks.json")
if [ "$(id -u)" = 0 ] && command -v ip >/dev/null && unshare --net true 2>/dev/null; then
  run=(unshare --net bash -euc "$in_a_namespace" marks "${run[@]}")
else
  default=$(cat /proc/sys/net/ipv4/tcp_congestion_control)
  echo "not in a network namespace: node and nchan use $default, everybody else cubic" >&2
fi

# In a process group of its own, which is ended as a whole, whatever way this ends.
mkdir -p "$out"
set -m
"${run[@]}" >"$out/marks.md" &
job=$!
set +m
trap 'kill -- "-$job" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM HUP
wait "$job"

cat "$out/marks.md"
echo "written: $out/marks.md, $out/marks.json" >&2

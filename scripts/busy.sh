#!/usr/bin/env bash
# The tests on a machine that is busy: none of them may depend on how fast it is.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/busy.sh [--beside N] [--loops N] [--alone N] [-- ARGUMENTS]

  --beside N  how often the tests run with busy loops beside them (default: 5)
  --loops N   how many loops that are (default: 3)
  --alone N   how often they run on one processor (default: 3)
  ARGUMENTS   what `cargo test` gets beside --no-fail-fast, for example `--test lifecycle`;
              without any it is the whole suite

Prints a table of the runs with what failed in them; what was said is in target/busy. The exit
status is 1 if anything failed. The loops end with the script, or after an hour.
TEXT
}

root=$(cd "$(dirname "$0")/.." && pwd)
beside=5 loops=3 alone=3
while (($#)); do
  case $1 in
    --beside) beside=${2:?--beside needs a number}; shift ;;
    --loops) loops=${2:?--loops needs a number}; shift ;;
    --alone) alone=${2:?--alone needs a number}; shift ;;
    --help | -h) usage; exit ;;
    --) shift; break ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
cd "$root"
command -v taskset >/dev/null || { echo 'not installed: taskset (Debian package util-linux)' >&2; exit 1; }

started=()
end_loops() {
  ((${#started[@]} == 0)) || kill "${started[@]}" 2>/dev/null || true
  started=()
}
trap end_loops EXIT
trap 'exit 130' INT TERM
begin_loops() {
  for ((nth = 0; nth < $1; nth++)); do
    timeout 3600 sh -c 'while :; do :; done' &
    started+=("$!")
  done
}

# What failed in a run, by its log: tests, and rows of the program that has a table instead.
failures() {
  sed -nE -e 's/^test (.*) \.\.\. FAILED$/\1/p' -e 's/^\| (.*) \| [0-9]+ \| \*\*NO\*\* \|.*/\1/p' "$1" |
    paste -sd';' | sed 's/;/; /g'
}

wrong=0
run() { # the surroundings, then the command
  local surroundings=$1 log begun=$SECONDS status=0 failed
  shift
  log=target/busy/run-$((++runs)).log
  "$@" >"$log" 2>&1 </dev/null || status=$?
  failed=$(failures "$log")
  ((status == 0)) || wrong=1
  ((status == 0)) || failed=${failed:-status $status, see $log}
  printf '| %d | %s | %d s | %s |\n' "$runs" "$surroundings" $((SECONDS - begun)) "${failed:-nothing}"
}

cargo test --quiet --no-run "$@"
mkdir -p target/busy
rm -f target/busy/*.log
first=$(sed -nE 's/^Cpus_allowed_list:\s*([0-9]+).*/\1/p' /proc/self/status)
runs=0
printf '| run | the machine | took | failed |\n|---:|---|---:|---|\n'
for ((nth = 0; nth < beside; nth++)); do
  begin_loops "$loops"
  run "$loops busy loops on $(nproc) processors" cargo test --no-fail-fast "$@"
  end_loops
done
for ((nth = 0; nth < alone; nth++)); do
  run 'one processor' taskset -c "$first" cargo test --no-fail-fast "$@"
done
exit "$wrong"

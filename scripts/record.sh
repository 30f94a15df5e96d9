#!/usr/bin/env bash
# A dated record: all experiments in full, with records, report and a page that says what it is,
# in a directory of docs/reports named after the day and the machine.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/record.sh [--quick] [--out DIR] [NAME...]

  --quick    a tenth of the size: does it still work? Not to be kept
  --out DIR  where it goes (default: docs/reports/DATE-KERNEL-PROCESSOR). A run that was
             interrupted goes on if it is given the same directory again
  NAME...    these experiments alone (default: all)

Takes half an hour and two processors that have nothing else to do: no browser, no build. The
working tree must be committed, so that the record says what was measured.
TEXT
}

root=$(cd "$(dirname "$0")/.." && pwd)
processor=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1 | tr -cs '[:alnum:]\n' - | tr '[:upper:]' '[:lower:]')
out=$root/docs/reports/$(date -u +%Y-%m-%d)-linux-$(uname -r | cut -d. -f1,2)-${processor%-}
size=() names=()
while (($#)); do
  case $1 in
    --quick) size=(--quick) ;;
    --out) out=$(realpath -m "${2:?--out needs a directory}"); shift ;;
    --help | -h) usage; exit ;;
    -*) usage >&2; exit 2 ;;
    *) names+=("$1") ;;
  esac
  shift
done

cd "$root"
# The directory of an interrupted record is not committed.
if [ -n "$(git status --porcelain -- . ':!docs/reports')" ]; then
  echo "the working tree has changes that are not committed" >&2
  exit 1
fi

features=()
[ "$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo 2)" = 2 ] || features=(--features uring)
cargo build --release "${features[@]}"
if ((${#names[@]})); then what=(run "${names[@]}"); else what=(all); fi
target/release/pushv lab "${what[@]}" "${size[@]}" --out "$out"

# What a reader finds who opens the directory.
cat >"$out/README.md" <<TEXT
# $(basename "$out")

Made by \`scripts/record.sh${size[*]:+ ${size[*]}}${names[*]:+ ${names[*]}}\` on one machine on one day: a virtual machine shares its
hardware with others, so the figures say what they say of this machine only. What the method is, and
why to distrust it: [METHODOLOGY.md](../../METHODOLOGY.md).

| | |
|---|---|
| \`records.jsonl\` | everything that was seen: all blocks, distributions, audits, the environment |
| \`report.html\` | the report with its charts, one page without outside resources |
| \`report.md\` | its summary |

\`pushv lab report DIR\` makes both again from the records, and
\`pushv lab compare DIR OTHER\` says what is different on another machine or another day.

$(target/release/pushv --version), $(uname -sr), $(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1), $(nproc) processors.
TEXT
echo "recorded: $out" >&2

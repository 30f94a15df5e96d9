#!/usr/bin/env bash
# The tests that touch unsafe code, under the tools that see what the compiler does not.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/sanitize.sh [valgrind|address]...

  valgrind  memcheck: reads of memory that was never written or is not ours, in our code, in the
            standard library's, and in what is handed to system calls
  address   AddressSanitizer, with a nightly toolchain: the same on the stack and in statics, where
            memcheck does not look; and leaks

Without a name it runs what is installed here, and says what is not. What it tests are the modules
under src/sys, and the allocator of the command (tests/allocations.rs).
TEXT
}

cd "$(dirname "$0")/.."
wanted=()
for argument; do
  case $argument in
    valgrind | address) wanted+=("$argument") ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
done
target=$(rustc -vV | sed -n 's/^host: //p')
ran=()

with_valgrind() {
  # It cannot run a test that starts itself again in another user namespace.
  local runner=CARGO_TARGET_${target//-/_}_RUNNER
  # One thread runs at a time, and one that spins may keep its turn for ever without fair-sched.
  local memcheck='valgrind --quiet --fair-sched=try --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite'
  env "${runner^^}=$memcheck" cargo test --features uring --lib -- sys:: \
    --test-threads 1 --skip a_user_gets_a_network_of_his_own
  # The other one counts what a server does in a second, which is more here.
  env "${runner^^}=$memcheck" cargo test --features uring --test allocations -- reading_an_event
  ran+=("$(valgrind --version)")
}

with_address() {
  # In a folder of its own: everything is compiled anew, and not for the other builds.
  local build=(cargo +nightly test --target "$target" --target-dir target/sanitize --features uring)
  RUSTFLAGS=-Zsanitizer=address "${build[@]}" --lib -- sys::
  RUSTFLAGS=-Zsanitizer=address "${build[@]}" --test allocations
  ran+=("AddressSanitizer of $(rustc +nightly --version)")
}

has_valgrind() { command -v valgrind >/dev/null; }
has_address() { rustc +nightly --version >/dev/null 2>&1; }

for tool in valgrind address; do
  [[ ${#wanted[@]} = 0 || " ${wanted[*]} " = *" $tool "* ]] || continue
  if "has_$tool"; then
    "with_$tool"
  else
    echo "SKIPPED: not installed: $tool" >&2
    [ ${#wanted[@]} = 0 ] || exit 1
  fi
done
printf 'no fault found by: %s\n' "${ran[@]:-nothing}"

# shellcheck shell=bash
# What the scripts that look at a running server have in common. They source this.

say() { echo "$*" >&2; }
die() { say "$*"; exit 1; }

# The program's name, and the Debian package that has it.
require() { command -v "$1" >/dev/null || die "not installed: $1 (Debian package $2)"; }

# What is started here is ended with the script, whatever way that ends.
scratch=$(mktemp -d)
started=()
end_all() {
  ((${#started[@]} == 0)) || kill "${started[@]}" 2>/dev/null || true
  wait
  rm -rf "$scratch"
}
trap end_all EXIT
trap 'exit 130' INT TERM HUP

# Becomes this program, which the kernel ends with the script if that is killed and can end nothing
# itself (setpriv is part of util-linux). To be started with & behind it.
become() {
  if command -v setpriv >/dev/null; then exec setpriv --pdeathsig KILL "$@"; fi
  exec "$@"
}

# Starts a server, with these arguments, and 200 subscribers who get 500 events a second until the
# script ends, and sets $pid. PUSHV names the program; otherwise it is built.
start_server_under_load() {
  local url load
  local pushv=${PUSHV:-$root/target/release/pushv}
  [ -n "${PUSHV:-}" ] || cargo build --release --quiet --manifest-path "$root/Cargo.toml"

  become "$pushv" serve --listen 127.0.0.1:0 --admin off "$@" >"$scratch/serve" 2>"$scratch/log" &
  pid=$!
  started+=("$pid")
  until url=$(grep -som1 'http://.*' "$scratch/serve"); do
    kill -0 "$pid" 2>/dev/null || die "the server did not start: $(cat "$scratch/log")"
    sleep 0.1
  done

  become "$pushv" load "$url/events/a" --publish self --rate 500 -n 200 --duration 3600s \
    >"$scratch/load" 2>&1 &
  load=$!
  started+=("$load")
  # Everybody is there when so many descriptors are open; a second later it runs steadily.
  until (($(find "/proc/$pid/fd" -mindepth 1 | wc -l) > 200)); do
    kill -0 "$load" 2>/dev/null || die "the load did not start: $(cat "$scratch/load")"
    sleep 0.1
  done
  sleep 1
  say "process $pid: pushv serve${*:+ $*} with 200 subscribers, 500 events per second"
}

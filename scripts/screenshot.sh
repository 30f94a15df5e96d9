#!/usr/bin/env bash
# Pictures of the live page: a real server under a real load, knobs flipped while it runs, and a
# browser that looks at it.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/screenshot.sh [--seconds N] [--out DIR]

  --seconds N  how long the load runs before the pictures are taken (default: 60, so that the
               charts are full)
  --out DIR    where live.png and live-dark-phone.png go (default: docs)

Needs Chromium. PUSHV=PROGRAM in the environment is used instead of building one.
TEXT
}

root=$(cd "$(dirname "$0")/.." && pwd)
seconds=60 out=$root/docs
while (($#)); do
  case $1 in
    --seconds) seconds=${2:?--seconds needs a number}; shift ;;
    --out) out=${2:?--out needs a directory}; shift ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
# shellcheck source=scripts/server_under_load.sh
. "$root/scripts/server_under_load.sh"
require chromium chromium
require curl curl
[ -d "$out" ] || die "there is no directory $out"
pushv=${PUSHV:-$root/target/release/pushv}
[ -n "${PUSHV:-}" ] || cargo build --release --quiet --manifest-path "$root/Cargo.toml"

# Runs with the script, and ends with it.
background() {
  "$@" >>"$scratch/log" 2>&1 &
  started+=("$!")
}

# Whoever has stopped reading is kept, or the pictures would miss it.
start_server() {
  : >"$scratch/serve"
  become "$pushv" serve --listen 127.0.0.1:0 --admin 127.0.0.1:0 --flush-policy linger:20ms \
    --stall-timeout-ms 0 --tcp-user-timeout-ms 0 --timestamp-one-in 100 >"$scratch/serve" 2>"$scratch/log" &
  started+=("$!")
  until admin=$(sed -n 's/^admin //p' "$scratch/serve") && [ -n "$admin" ]; do
    kill -0 "${started[0]}" 2>/dev/null || die "the server did not start: $(cat "$scratch/log")"
    sleep 0.1
  done
  events=$(sed -n 's/^listening //p' "$scratch/serve")/events/prices
}

# Most readers are prompt, some are slow, and two have stopped: what they do not read piles up.
start_load() {
  local load=("$pushv" load "$events" --duration "$((seconds + 120))s" --connections)
  background "${load[@]}" 2 --reader never --rcvbuf 4096
  background "${load[@]}" 3 --reader slow:40000 --rcvbuf 4096
  background "${load[@]}" 50 --publish self --rate 1000
}

flip() { curl -sf -X PATCH -d "$1" "$admin/knobs" >/dev/null || die "the server refused $1"; }

# The browser speaks its DevTools protocol on descriptors 3 and 4: JSON, each message with a NUL
# behind it. Whoever closes the pipe ends it.
start_browser() {
  coproc BROWSER {
    exec chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
      --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars \
      --user-data-dir="$scratch/profile" --remote-debugging-pipe \
      3<&0 4>&1 </dev/null >/dev/null 2>>"$scratch/log"
  }
  started+=("$BROWSER_PID")
}

# ask METHOD PARAMETERS [SESSION]: sets $answer.
asked=0
ask() {
  printf '{"id":%d,"method":"%s","params":%s%s}\0' $((++asked)) "$1" "$2" \
    "${3:+,\"sessionId\":\"$3\"}" >&"${BROWSER[1]}"
  until [[ ${answer:-} == "{\"id\":$asked,"* ]]; do
    IFS= read -r -t 120 -d '' answer <&"${BROWSER[0]}" || die "the browser does not answer to $1"
  done
}

# The value of a member of the answer that is a string.
member() {
  local behind=${answer#*\""$1"\":\"}
  printf %s "${behind%%\"*}"
}

# open WIDTH HEIGHT SCALE SCHEME: shows the page as that window would, and sets $session.
open() {
  ask Target.createTarget '{"url":"about:blank","newWindow":true}'
  ask Target.attachToTarget "{\"targetId\":\"$(member targetId)\",\"flatten\":true}"
  session=$(member sessionId)
  ask Emulation.setDeviceMetricsOverride \
    "{\"width\":$1,\"height\":$2,\"deviceScaleFactor\":$3,\"mobile\":false}" "$session"
  ask Emulation.setEmulatedMedia \
    "{\"features\":[{\"name\":\"prefers-color-scheme\",\"value\":\"$4\"}]}" "$session"
  ask Page.navigate "{\"url\":\"$admin/\"}" "$session"
  # It shows something when its stream has begun.
  until [ "$(member value)" = live ]; do
    sleep 0.1
    ask Runtime.evaluate '{"expression":"document.body?.dataset.feed"}' "$session"
  done
}

# picture SESSION FILE
picture() {
  ask Page.captureScreenshot '{}' "$1"
  member data | base64 -d >"$2"
  say "$2"
}

start_server
start_load
start_browser
open 1280 1480 1 light
desk=$session
open 360 1480 2 dark
phone=$session
say "$admin/ for $seconds s"
for path in write split writev span; do
  sleep "$(awk "BEGIN { print $seconds / 6 }")"
  flip "{\"write_path\":\"$path\"}"
done
sleep "$(awk "BEGIN { print $seconds / 3 }")"
picture "$desk" "$out/live.png"
picture "$phone" "$out/live-dark-phone.png"

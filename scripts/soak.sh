#!/usr/bin/env bash
# Hours under a mixed load, sampled and judged: does anything grow that should not?
# shellcheck disable=SC2317,SC2030,SC2031 # drivers are called by their names, in subshells
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/soak.sh [--hours H] [--out DIR] [--seed N] [--hold N]

  --hours H  how long the load lasts (default 1; 0.005 is the shortest that is a load)
  --out DIR  where the record goes (default docs/soak/DATE-linux-KERNEL)
  --seed N   from which the order of what is done follows (default 1)
  --hold N   connections that are held at once, three times (default 15000)

Runs a server, and on it, at the same time: readers whose every event is checked, on several topics;
readers that drop and resume; slow ones; ones that never read; ones that are stopped and killed;
publishers of single events, feeds and events with ids of their own; strangers that send nonsense;
an operator who turns knobs and reloads; three phases that hold many connections at once. It takes
about a third of a processor. At the end the record is judged; the exit status is 1 if anything is
not as it should be. PUSHV names the program; otherwise it is built.
TEXT
}

root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/server_under_load.sh
. "$root/scripts/server_under_load.sh"
require curl curl

hours=1 seed=1 hold=15000
out=$root/docs/soak/$(date -u +%Y-%m-%d)-linux-$(uname -r | cut -d. -f1,2)
given="$*"
while (($#)); do
  case $1 in
    --hours) hours=${2:?--hours needs a number}; shift ;;
    --out) out=${2:?--out needs a directory}; shift ;;
    --seed) seed=${2:?--seed needs a number}; shift ;;
    --hold) hold=${2:?--hold needs a number}; shift ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
seconds=$(awk -v hours="$hours" 'BEGIN { print int(hours * 3600) }')
((seconds >= 15)) || die "--hours $hours is too short"
# Some 500 samples at most, so that the record can be kept.
every=$(((seconds + 499) / 500))
((every >= 10)) || every=$((seconds >= 3600 ? 10 : 1))

pushv=${PUSHV:-$root/target/release/pushv}
[ -n "${PUSHV:-}" ] || cargo build --release --quiet --manifest-path "$root/Cargo.toml"
# What is built or committed meanwhile is not what is measured.
cp "$pushv" "$scratch/pushv"
pushv=$scratch/pushv
commit=$("$pushv" --version | sed 's/.*(\(.*\))$/\1/')
mkdir -p "$out/loads"
rm -f "$out"/loads/*.json
counts=$scratch/counts
mkdir "$counts"
count() { echo >>"$counts/$1"; }
counted() { if [ -e "$counts/$1" ]; then wc -l <"$counts/$1"; else echo 0; fi; }

# ---- the server ----

# Small logs, so that slow readers are overrun; short timeouts, so that the dead are found.
configure() { # the age of streams, the silence between heartbeats
  cat >"$scratch/next.toml" <<TEXT
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
log_bytes_max = 262144
event_bytes_max = 16384
stall_timeout_ms = 10000
head_timeout_ms = 3000
retry_ms = 500
topic_idle_ms = 60000
connection_age_ms = $1
heartbeat_ms = $2
# The time of a probe is to say something of the server, not of a policy that holds events back.
[topics.probe]
flush_policy = "turn"
[topics.hold]
flush_policy = "turn"
# Or the kernel would keep minutes of it for who does not read.
[topics.slow]
so_sndbuf_bytes = 16384
[topics.never]
so_sndbuf_bytes = 16384
TEXT
  mv "$scratch/next.toml" "$scratch/pushv.toml"
}
configure 0 5000
become "$pushv" serve --config "$scratch/pushv.toml" >"$scratch/serve" 2>"$scratch/log" &
server=$!
started=("$server")
until admin=$(grep -som1 '^admin http://.*' "$scratch/serve"); do
  kill -0 "$server" 2>/dev/null || die "the server did not start: $(cat "$scratch/log")"
  sleep 0.1
done
admin=${admin#admin }
url=$(sed -n 's/^listening //p' "$scratch/serve")/events

become "$pushv" soak sample --pid "$server" --admin "$admin" --probe "$url/probe" --every "$every" \
  >"$out/samples.jsonl" 2>"$scratch/sampler" &
sampler=$!
started+=("$sampler")
sleep $((3 * every))

# ---- those who do something again and again, until they are told to end ----

# Each in a process of its own, whose randomness follows from the seed.
ends=$((SECONDS + seconds))
drivers=()
drive() { # a function that does one thing, the seconds between two of them
  (
    RANDOM=$((seed + ${#drivers[@]}))
    victims=()
    trap '((${#victims[@]} == 0)) || kill -KILL "${victims[@]}"' EXIT
    while ((SECONDS < ends)) && kill -0 "$server"; do
      "$1" || true # some of it is meant to fail
      sleep "$2"
    done
  ) >/dev/null 2>&1 &
  drivers+=("$!")
  started+=("$!")
}
# Sets $picked. Not by its output: what a command substitution draws does not follow from the seed.
pick() {
  shift $((RANDOM % $#))
  picked=$1
}

knobs_of_a_topic=('"tcp_nodelay":true' '"tcp_nodelay":false' '"overrun":"skip"' '"overrun":"latest"')
for path in span write split writev copy more cork auto; do
  knobs_of_a_topic+=("\"write_path\":\"$path\"")
done
for policy in turn event size:2000 linger:5 size:4096,linger:20 adaptive; do
  knobs_of_a_topic+=("\"flush_policy\":\"$policy\"")
done
for bytes in 0 20000 100000; do
  knobs_of_a_topic+=("\"so_sndbuf_bytes\":$bytes" "\"tcp_notsent_lowat_bytes\":$bytes")
done
knobs=('"heartbeat":"comment"' '"heartbeat":"event"' '"accept_batch":1' '"accept_batch":256')
knobs+=('"flush_slice_us":200' '"flush_slice_us":20000' '"flush_budget_bytes":20000')
knobs+=('"log_events_max":4000' '"log_events_max":16384')

turn_a_topics_knob() {
  local query
  pick '' '?topic=steady' '?topic=churn' '?topic=several'
  query=$picked
  pick "${knobs_of_a_topic[@]}"
  curl -sf -m 5 -X PATCH -d "{$picked}" "$admin/knobs$query" && count knobs
}
turn_a_knob() {
  pick "${knobs[@]}"
  curl -sf -m 5 -X PATCH -d "{$picked}" "$admin/knobs" && count knobs
}
# What was turned is forgotten, and what the file says is in force.
reload() {
  local age
  pick 0 120000 300000
  age=$picked
  pick 3000 5000
  configure "$age" "$picked"
  kill -HUP "$server" && count reloads
}
publish_with_ids() {
  local target="$url/own?id=$RANDOM&event=tick"
  curl -sf -m 5 -d "one" "$target"
  curl -sf -m 5 -d "the same again" "$target"
}
publish_a_feed() {
  printf 'event: tick\ndata: %s\ndata: second line\n\n' {1..50} |
    curl -sf -m 5 -T - -X POST -H 'Content-Type: text/event-stream' "$url/feed"
}
publish_to_a_topic_of_its_own() { curl -sf -m 5 -d "here today" "$url/passing-$RANDOM"; }
# Heads that never end, heads that are none, bodies that are cut.
be_a_stranger() {
  local address=${url#http://}
  address=${address%/events}
  exec {peer}<>"/dev/tcp/${address%:*}/${address#*:}"
  pick $'GET /events/steady HTTP/1.1\r\nHost:' $'\x16\x03\x01\x02' $'GET / HTTP/9.9\r\n\r\n' \
    $'POST /events/own HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\ncut'
  printf %s "$picked" >&"$peer"
  pick 0 1 5
  sleep "$picked"
  exec {peer}>&-
}
# Long enough to be found dead, if there is time for it.
patience=$((seconds < 60 ? 5 : 30))
# A process that does not run reads nothing, and its kernel acknowledges all the same.
stop_and_kill() {
  "$pushv" load "$url/slow" -n 20 --rcvbuf 4096 --duration 600s &
  victims=("$!")
  sleep 3
  mapfile -tO 1 victims < <(pgrep -P "${victims[0]}")
  kill -STOP "${victims[@]}" && count stopped
  pick 1 "$patience"
  sleep "$picked"
  kill -KILL "${victims[@]}"
  wait "${victims[0]}"
  victims=()
}
never_read() {
  "$pushv" load "$url/never" -n 20 --publish self --rate 20 --size 600 --reader never \
    --rcvbuf 4096 --duration "${patience}s" --grace 1s
  count unread
}

# ---- the load ----

loads=()
load() { # a name, then what `pushv load` is told
  local name=$1
  shift
  "$pushv" load "$@" --warmup 0s --grace 20s --json >"$out/loads/$name.json" 2>"$scratch/load-$name" &
  loads+=("$!")
  started+=("$!")
}
# They end before the operator and the strangers do.
for_all=(--duration "$((seconds - (seconds < 150 ? seconds / 10 : 15)))s")
load steady "$url/steady" -n 300 --publish self --rate 40 "${for_all[@]}"
load churn "$url/churn" -n 100 --publish self --rate 20 --churn 10 "${for_all[@]}"
load several "${url}?topic=several&topic=own&topic=feed" -n 50 --publish "$url/several" --rate 10 "${for_all[@]}"
load slow "$url/slow" -n 20 --publish self --rate 50 --size 600 --reader slow:10000 --rcvbuf 4096 "${for_all[@]}"

drive turn_a_topics_knob 5
drive turn_a_knob 17
drive reload 41
drive publish_with_ids 2
drive publish_a_feed 7
drive publish_to_a_topic_of_its_own 11
drive be_a_stranger 3
drive stop_and_kill 2
drive never_read 2

# Once while everything warms up, then twice more: what a connection leaves behind would add up.
held() { # its number, the second of the run at which it begins
  local wait_s=$(($2 + ends - seconds - SECONDS))
  ((wait_s <= 0)) || sleep "$wait_s"
  load "hold-$1" "$url/hold" -n "$hold" --processes 2 --connect-rate 1000 --publish self --rate 2 \
    --duration "$((seconds / 60 + 3))s" --connect-timeout 60s
  wait "${loads[-1]}" || true
}
held 1 $((seconds / 20))
held 2 $((seconds / 2))
held 3 $((seconds * 3 / 4))

for process in "${loads[@]}" "${drivers[@]}"; do wait "$process" || true; done

# ---- the end ----

sleep $((4 * every))
kill -TERM "$server"
status=0
wait "$server" || status=$?
wait "$sampler" || say "the sampler failed: $(cat "$scratch/sampler")"
started=()
printf '{"exit_status":%s,"log_errors":%s,"held":%s,"knobs":%s,"reloads":%s,"stopped":%s,"unread":%s}\n' \
  "$status" "$(grep -cE ' ERROR |panicked' "$scratch/log" || true)" "$hold" \
  "$(counted knobs)" "$(counted reloads)" "$(counted stopped)" "$(counted unread)" >"$out/end.json"

verdict=0
"$pushv" soak judge "$out" >"$scratch/judged" || verdict=$?
{
  cat <<TEXT
# $(basename "$out")

Made by \`scripts/soak.sh${given:+ $given}\` on one machine that others use as well; what it does is in
its \`--help\`. \`samples.jsonl\` has a sample every $every s, \`loads\` the reports of \`pushv load\`;
\`pushv soak judge DIR\` makes these tables again. A probe is an event that is published to a topic of
its own and read by a stream that stays. That stream too reaches its age (\`connection_age_ms\`) and comes
back after \`retry_ms\`, half a second to one: the slowest probes are those that were published meanwhile.

TEXT
  cat "$scratch/judged"
  cat <<TEXT

Commit $commit, $(uname -sr), $(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1), $(nproc) processors.
TEXT
} >"$out/README.md"
cat "$scratch/judged"
say "recorded: $out"
exit "$verdict"

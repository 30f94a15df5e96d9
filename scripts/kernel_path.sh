#!/usr/bin/env bash
# Where the time of a write goes: samples of the server's stack under load, as a table of the
# layers that they are in, and as a flame graph.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/kernel_path.sh [--pid PID] [--seconds N] [--out FILE.svg] [--write-path PATH]

  --pid PID          look at this process; otherwise a server and a load for it are started,
                     and ended
  --seconds N        how long to look (default: 5)
  --out FILE.svg     where the flame graph goes (default: target/kernel_path.svg). The folded
                     stacks go beside it, for programs such as inferno-flamegraph.
  --write-path PATH  the write path of the server that is started, see docs/WRITE-PATH.md

Needs perf, and the right to see the kernel's symbols, which mostly is root's. Samples by a timer
(cpu-clock), which works in a virtual machine too; what runs with interrupts off is sampled where
they are switched on again. PUSHV=PROGRAM in the environment is used instead of building one.
TEXT
}

root=$(cd "$(dirname "$0")/.." && pwd)
pid='' seconds=5 out=$root/target/kernel_path.svg options=()
while (($#)); do
  case $1 in
    --pid) pid=${2:?--pid needs a number}; shift ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift ;;
    --out) out=$(realpath -m "${2:?--out needs a file}"); shift ;;
    --write-path) options=(--write-path "${2:?--write-path needs a name}"); shift ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
# shellcheck source=scripts/server_under_load.sh
. "$root/scripts/server_under_load.sh"

# The layers, outermost last: a sample belongs to the first that any function of its stack is of.
# On loopback they are nested in this order, because the receiver's half of the kernel's work runs
# inside the sender's call.
# shellcheck disable=SC2016 # awk's dollars
layers='
  BEGIN {
    add("interrupts (others'\'' work)", "asm_sysvec_ asm_common_interrupt asm_exc_nmi")
    add("wake-up of the reader", "sock_def_readable tcp_data_ready ep_poll_callback try_to_wake_up")
    add("acknowledgement", "tcp_ack tcp_send_ack __tcp_send_ack __tcp_ack_snd_check")
    add("receive (softirq)", "handle_softirqs __do_softirq net_rx_action process_backlog")
    add("IP and device, transmit", "__ip_queue_xmit ip_queue_xmit ip_output __dev_queue_xmit")
    add("TCP, transmit", "__tcp_push tcp_push tcp_write_xmit __tcp_transmit_skb")
    add("TCP, sendmsg: copy, buffers", "tcp_sendmsg tcp_stream_alloc_skb")
    add("TCP, recvmsg", "tcp_recvmsg inet_recvmsg")
    add("epoll", "do_epoll_ ep_poll ep_send_events")
    add("scheduler", "schedule __schedule finish_task_switch")
    add("entry, exit, sockets, rest of the kernel", "_[k]")
    add("user space", "")
  }
  function add(title, begins) { titles[++count] = title; prefixes[count] = begins }
  # The layer of a function, by how its name begins; the last but one is of the kernel, which is
  # marked behind the name.
  function layer_of(name,    i, j, n, parts) {
    if (name in known) return known[name]
    for (i = 1; i < count - 1; i++) {
      n = split(prefixes[i], parts, " ")
      for (j = 1; j <= n; j++) if (index(name, parts[j]) == 1) return known[name] = i
    }
    return known[name] = name ~ /_\[k\]$/ ? count - 1 : count
  }'

# One line for each stack: its functions from the outermost, and how often it was seen.
# perf gives a header, then a line for each function from the innermost, then an empty line.
# shellcheck disable=SC2016
fold='
  /^[^ \t]/ { stack = ""; inside = 1; next }
  NF == 0 { if (inside && stack != "") seen[stack]++; inside = 0; next }
  {
    kernel = $NF ~ /kernel|\.ko/
    $1 = ""; $NF = ""
    gsub(/^ +| +$|;/, "")
    stack = ($0 == "" ? "[unknown]" : $0) (kernel ? "_[k]" : "") (stack == "" ? "" : ";" stack)
  }
  END { if (inside && stack != "") seen[stack]++; for (s in seen) print s, seen[s] }'

# shellcheck disable=SC2016
table='
  {
    samples = $NF; sub(/ [0-9]+$/, "")
    best = count; n = split($0, frames, ";")
    for (i = 1; i <= n; i++) if (layer_of(frames[i]) < best) best = layer_of(frames[i])
    in_layer[best] += samples; all += samples
  }
  END {
    if (!all) exit 1
    printf "%7s  %-42s %s\n", "share", "layer", "some function of the stack begins with"
    for (i = 1; i <= count; i++)
      printf "%5.1f %%  %-42s %s\n", 100 * in_layer[i] / all, titles[i], prefixes[i]
    printf "%d samples\n", all
  }'

require perf linux-perf
awk '$1 !~ /^0+$/ { found = 1; exit } END { exit !found }' /proc/kallsyms ||
  die 'not permitted: the kernel hides its symbols (/proc/kallsyms) from all but root'

[ -n "$pid" ] || start_server_under_load "${options[@]}"
[ -d "/proc/$pid" ] || die "there is no process $pid"
folded=${out%.svg}.folded
mkdir -p "$(dirname "$out")"
perf record -q -g -e cpu-clock -F 2999 -p "$pid" -o "$scratch/perf" -- sleep "$seconds"
perf script -i "$scratch/perf" -F comm,ip,sym,dso 2>/dev/null | awk "$fold" |
  LC_ALL=C sort >"$folded"
awk "$layers $table" "$folded" || die 'no samples: was the process asleep?'
awk "$layers $(cat "$root/scripts/flame.awk")" "$folded" "$folded" >"$out"
say "written: $out, $folded"

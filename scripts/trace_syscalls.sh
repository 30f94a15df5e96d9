#!/usr/bin/env bash
# The system calls of a running server: which, how many, how large.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/trace_syscalls.sh [--strace | --perf | --bpftrace] [--pid PID] [--seconds N]
                                 [--write-path PATH]

  --strace           strace -c: stops the server twice at each call; the counts are right, the
                     times are mostly strace's own
  --perf             perf stat counts at tracepoints, which costs little; then perf trace times
                     each call, which costs more than the call (as root)
  --bpftrace         counts, and a histogram of the bytes per write, in the kernel (as root)
                     Without one of these, the first that is installed.
  --pid PID          look at this process; otherwise a server and a load for it are started,
                     and ended
  --seconds N        how long to look (default: 5)
  --write-path PATH  the write path of the server that is started, see docs/WRITE-PATH.md

PUSHV=PROGRAM in the environment is used instead of building one. Installs nothing.
TEXT
}

root=$(cd "$(dirname "$0")/.." && pwd)
tool='' pid='' seconds=5 options=()
while (($#)); do
  case $1 in
    --strace | --perf | --bpftrace) tool=${1#--} ;;
    --pid) pid=${2:?--pid needs a number}; shift ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift ;;
    --write-path) options=(--write-path "${2:?--write-path needs a name}"); shift ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
# shellcheck source=scripts/server_under_load.sh
. "$root/scripts/server_under_load.sh"

for candidate in strace perf bpftrace; do
  [ -n "$tool" ] || ! command -v "$candidate" >/dev/null || tool=$candidate
done

with_strace() {
  # It prints its table when it is interrupted, which is how this ends well.
  timeout --signal=INT "$seconds" strace -c -f -p "$pid" 2>&1 || (($? == 124))
}

with_perf() {
  perf stat -p "$pid" -e 'syscalls:sys_enter_*' -x , -o "$scratch/counts" -- sleep "$seconds"
  # Value, unit, event, and more; there is a line for each call that there is.
  awk -F, '$1 + 0 > 0 { sub(/.*sys_enter_/, "", $3); printf "%10d %s\n", $1, $3 }' "$scratch/counts"
  perf trace -s -p "$pid" -- sleep "$seconds" 2>&1 ||
    say 'perf trace does not work here; the counts above do not need it'
}

with_bpftrace() {
  local name known writes='' others=''
  known=$(bpftrace -l 'tracepoint:syscalls:sys_exit_*')
  # Not every processor has all of these, and to attach to every call there is takes a minute.
  for name in sendto sendmsg write writev recvfrom recvmsg read readv accept4 close shutdown \
    setsockopt getsockopt epoll_wait epoll_pwait epoll_ctl; do
    grep -qx "tracepoint:syscalls:sys_exit_$name" <<<"$known" || continue
    case $name in
      sendto | sendmsg | write | writev) writes+=,tracepoint:syscalls:sys_exit_$name ;;
      *) others+=,tracepoint:syscalls:sys_exit_$name ;;
    esac
  done
  # The probes come one after the other, which takes a second or two: they count from the third on.
  bpftrace -e "
    ${others#,} /pid == $pid && @on/ { @calls[probe] = count(); }
    ${writes#,} /pid == $pid && @on/ {
      @calls[probe] = count();
      if (args->ret > 0) { @bytes_per_write[probe] = hist(args->ret); }
    }
    interval:s:1 {
      @second++;
      @on = @second > 2;
      if (@second == 3 + $seconds) { @on = 0; exit(); }
    }
    END { clear(@second); clear(@on); }"
}

may_trace() {
  [ "$(id -u)" = 0 ] || die "not permitted: $tool, which needs the kernel's tracepoints, as root only"
}

case $tool in
  strace) require strace strace ;;
  perf) require perf linux-perf; may_trace ;;
  bpftrace) require bpftrace bpftrace; may_trace ;;
  *) die 'not installed: strace, perf, bpftrace (Debian packages strace, linux-perf, bpftrace)' ;;
esac
[ -n "$pid" ] || start_server_under_load "${options[@]}"
[ -d "/proc/$pid" ] || die "there is no process $pid"
say "$tool, $seconds s:"
"with_$tool"

//! What the kernel counts of another process: its events, and its processor time.

use super::check;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

/// A counter that the kernel keeps of one thread (`perf_event_open(2)`). What it counts it counts
/// exactly, and without stopping anybody.
#[derive(Debug)]
pub struct Counter(File);

impl Counter {
    /// How often a thread passes a tracepoint, by the tracepoint's number
    /// (`/sys/kernel/tracing/events/GROUP/EVENT/id`). The thread 0 is the one that calls. Threads
    /// and processes that it starts are not counted. The counter stands still until it is
    /// [enabled](Counter::enable).
    ///
    /// # Errors
    /// As `perf_event_open(2)`: `PermissionDenied` unless `kernel.perf_event_paranoid` or a
    /// capability permits it, `NotFound` if there is no such tracepoint.
    pub fn open(tracepoint_id: u64, tid: u32) -> io::Result<Counter> {
        Counter::of_kind(PERF_TYPE_TRACEPOINT, tracepoint_id, 0, tid)
    }

    /// How long a thread has been on a processor, in nanoseconds, to which the moment of reading
    /// is exact, although the thread is running: its processor is interrupted and asked.
    /// Compare [`process_cpu_ns`]. Anybody may ask it of his own processes.
    ///
    /// # Errors
    /// As `perf_event_open(2)`.
    pub fn task_clock(tid: u32) -> io::Result<Counter> {
        Counter::of_kind(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, EXCLUDE_KERNEL, tid)
    }

    fn of_kind(kind: u32, config: u64, flags: u64, tid: u32) -> io::Result<Counter> {
        let size = size_of::<perf_event_attr>() as u32;
        let attributes =
            perf_event_attr { kind, size, config, flags: DISABLED | flags, ..Default::default() };
        let tid = i32::try_from(tid).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (any_cpu, no_group, flags) = (-1, -1, PERF_FLAG_FD_CLOEXEC);
        // SAFETY: `attributes` is as large as its field `size` says and is only read; the other
        // arguments are numbers of the types of the call.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                tid,
                any_cpu,
                no_group,
                flags,
            )
        };
        let Ok(descriptor @ 0..) = i32::try_from(descriptor) else {
            return Err(io::Error::last_os_error());
        };
        // SAFETY: the descriptor is new and open, and nobody else has it.
        Ok(Counter(unsafe { OwnedFd::from_raw_fd(descriptor) }.into()))
    }

    /// Lets it count from now on.
    ///
    /// # Errors
    /// As `ioctl(2)`.
    pub fn enable(&self) -> io::Result<()> {
        self.control(PERF_EVENT_IOC_ENABLE)
    }

    /// Stops it. What it has counted stays.
    ///
    /// # Errors
    /// As `ioctl(2)`.
    pub fn disable(&self) -> io::Result<()> {
        self.control(PERF_EVENT_IOC_DISABLE)
    }

    fn control(&self, what: libc::Ioctl) -> io::Result<()> {
        let this_counter_only = 0;
        // SAFETY: these requests take a number and touch no memory of ours.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), what, this_counter_only) })
    }

    /// What it has counted, while it was enabled.
    ///
    /// # Errors
    /// As `read(2)`.
    pub fn read(&self) -> io::Result<u64> {
        let mut value = [0; 8];
        (&self.0).read_exact(&mut value)?;
        Ok(u64::from_ne_bytes(value))
    }
}

/// The processor time of all threads of another process, in nanoseconds (`clock_getcpuclockid(3)`).
///
/// Of a thread that is on a processor at this moment, the kernel adds what it had when it was last
/// looked at, which may be as long ago as a tick (4 ms at 250 Hz): the value is exact for a
/// process that sleeps. [`Counter::task_clock`] is exact always.
///
/// # Errors
/// `ESRCH` if there is no such process.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    // A clock's number has 29 bits for that of the process, and a larger one would silently stand
    // for another process. The kernel gives no number above 22 bits.
    let pid = libc::pid_t::try_from(pid).ok().filter(|pid| pid >> 22 == 0);
    let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    let mut clock = 0;
    // SAFETY: `clock` is a valid `clockid_t` that the call fills in.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid `timespec` that the call fills in.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32).as_nanos() as u64)
}

/// Asks a child to end as one does at a terminal (`SIGINT`, kill(2)), which `std` cannot.
///
/// # Errors
/// As the call. A child that has ended but was not waited for is no error.
pub fn interrupt(child: &std::process::Child) -> io::Result<()> {
    let pid = libc::pid_t::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes numbers. Whoever waits for a child needs it mutable, so that nobody
    // has, in the meantime: its number is still its own, unless somebody did before.
    check(unsafe { libc::kill(pid, libc::SIGINT) })
}

/// What is to be counted, as the kernel's first version of it had it (`PERF_ATTR_SIZE_VER0`),
/// which every later one understands. The libc crate has none.
#[allow(non_camel_case_types)] // its name in the manual
#[repr(C)]
#[derive(Default)]
struct perf_event_attr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

const _: () = assert!(size_of::<perf_event_attr>() == 64);

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_COUNT_SW_TASK_CLOCK: u64 = 1;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = libc::_IO(b'$' as u32, 0);
const PERF_EVENT_IOC_DISABLE: libc::Ioctl = libc::_IO(b'$' as u32, 1);

const DISABLED: u64 = flag(0);
/// Without it only a privileged process may count, and a clock does not care.
const EXCLUDE_KERNEL: u64 = flag(5);

/// A field of one bit, which compilers place from the other end on big-endian machines.
const fn flag(bit: u32) -> u64 {
    if cfg!(target_endian = "big") { 1 << (63 - bit) } else { 1 << bit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::mpsc::channel;

    #[test]
    fn a_tracepoint_is_counted_while_it_is_enabled() {
        let id = std::fs::read_to_string("/sys/kernel/tracing/events/syscalls/sys_enter_getpid/id");
        let Ok(counter) = id.and_then(|id| Counter::open(id.trim().parse().unwrap(), 0)) else {
            return writeln!(io::stderr(), "SKIPPED: tracepoints are not permitted").unwrap();
        };
        let getpid = || std::hint::black_box(std::process::id());
        getpid();
        assert_eq!(counter.read().unwrap(), 0);
        counter.enable().unwrap();
        for _ in 0..7 {
            getpid();
        }
        counter.disable().unwrap();
        getpid();
        assert_eq!(counter.read().unwrap(), 7);
    }

    #[test]
    fn what_does_not_exist_is_not_counted() {
        assert!(Counter::open(u64::MAX, 0).is_err());
        assert!(Counter::task_clock(u32::MAX).is_err());
        for pid in [u32::MAX, i32::MAX as u32, (1 << 22) - 1] {
            assert_eq!(process_cpu_ns(pid).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        }
    }

    /// The value keeps up with the thread, although nothing stops that one: in less than a tick it
    /// grows by what the thread itself has used in the meantime.
    ///
    /// The thread says its own time over and over. What it said last before a look it has used by
    /// then, and what it says first after a look it may have used since, so this holds wherever
    /// and whenever the two are on a processor.
    #[test]
    fn the_clock_of_a_running_thread_is_exact() {
        let (said_ns, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let (tell, told) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tell.send(gettid()).unwrap();
                while !over.load(Ordering::Relaxed) {
                    let own = super::super::thread_cpu_time().unwrap();
                    said_ns.store(own.as_nanos() as u64, Ordering::SeqCst);
                }
            });
            let outcome = Counter::task_clock(told.recv().unwrap()).map(|clock| {
                clock.enable().unwrap();
                (0..100).find_map(|_| falls_behind(&clock, &said_ns))
            });
            over.store(true, Ordering::Relaxed);
            match outcome {
                Ok(behind) => assert_eq!(behind, None, "grown by, although the thread used"),
                Err(_) => {
                    writeln!(io::stderr(), "SKIPPED: perf_event_open is not permitted").unwrap();
                }
            }
        });
    }

    /// By how much a clock grows while a thread uses a quarter of a tick, and how much it used at
    /// least, if these differ by more than the work of some switches between threads.
    fn falls_behind(clock: &Counter, said_ns: &AtomicU64) -> Option<(u64, u64)> {
        const QUARTER_OF_A_TICK_NS: u64 = 1_000_000;
        let before = clock.read().unwrap();
        let said_before = said_ns.load(Ordering::SeqCst);
        let mut said = said_before;
        while said < said_before + QUARTER_OF_A_TICK_NS {
            std::thread::yield_now();
            said = said_ns.load(Ordering::SeqCst);
        }
        let grown_ns = clock.read().unwrap() - before;
        let used_ns = said - said_before;
        (grown_ns < used_ns / 2).then_some((grown_ns, used_ns))
    }

    fn gettid() -> u32 {
        // SAFETY: the call has no preconditions and cannot fail.
        unsafe { libc::gettid() }.cast_unsigned()
    }

    #[test]
    fn the_processor_time_of_a_sleeping_child_is_known() {
        let mut child =
            shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; read x");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        // What it has said is known before it sleeps (the letter behind its name, proc_pid_stat(5)).
        let stat = format!("/proc/{}/stat", child.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
            std::thread::yield_now();
        }
        let used = process_cpu_ns(child.id()).unwrap();
        assert!(used > 1_000_000, "{used} ns");
        interrupt(&child).unwrap();
        assert!(!child.wait().unwrap().success());
    }

    fn shell(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().unwrap()
    }
}

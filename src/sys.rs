//! Every unsafe block of the crate, each one a single call behind a safe function.
//!
//! What the standard library, mio or socket2 offers is used from there instead.

#![allow(unsafe_code)]

pub mod allocator;
#[cfg(feature = "lab")]
pub mod network;
#[cfg(feature = "load")]
pub mod process;
pub mod stamps;
pub mod tcp;
#[cfg(feature = "lab")]
pub mod trace;
#[cfg(feature = "uring")]
pub mod uring;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// How many descriptors the process may have open (`RLIMIT_NOFILE`, getrlimit(2)): the limit in
/// force, and the one up to which it may be raised.
///
/// # Errors
/// As the call.
pub fn descriptor_limits() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid `rlimit` that the call fills in.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the limit on descriptors that is in force (setrlimit(2)), up to the one that it may be
/// raised to, and gives the new one.
///
/// # Errors
/// As the calls.
pub fn set_descriptor_limit(wanted: u64) -> io::Result<u64> {
    let (_, max) = descriptor_limits()?;
    let limit = libc::rlimit { rlim_cur: wanted.min(max), rlim_max: max };
    // SAFETY: `limit` is a valid `rlimit` that the call only reads.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Binds the calling thread to one processor (`sched_setaffinity(2)`).
///
/// # Errors
/// `InvalidInput` if there is no such processor or it is not permitted.
pub fn bind_to_cpu(cpu: usize) -> io::Result<()> {
    const BITS: usize = u64::BITS as usize;
    // A `cpu_set_t` is an array of machine words, bit n of which stands for processor n.
    let mut set = [0u64; 16];
    let Some(word) = set.get_mut(cpu / BITS) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    *word = 1 << (cpu % BITS);
    let this_thread = 0;
    // SAFETY: `set` is `size_of_val(&set)` bytes of readable memory, as the call is told.
    check(unsafe { libc::sched_setaffinity(this_thread, size_of_val(&set), set.as_ptr().cast()) })
}

/// Whether a thread of this process may be bound to a processor of that number. A thread that ends at
/// once tries it: the present binding does not tell, because it may be changed to any processor that
/// the cpuset has (cpuset(7)), also by a process that was started by one with another binding.
pub fn is_permitted_cpu(cpu: usize) -> bool {
    // Who cannot start a thread has other worries; then binding itself will tell.
    let tried = std::thread::Builder::new().spawn(move || bind_to_cpu(cpu).is_ok());
    tried.map_or(true, |thread| thread.join().unwrap_or(true))
}

/// Nanoseconds of the clock that never goes back (`CLOCK_MONOTONIC`, `clock_gettime(2)`), which the
/// kernel serves without a system call (vdso(7)).
///
/// The server reads it after every write; an [`Instant`](std::time::Instant) would be checked and
/// converted each time.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid `timespec` that the call fills in.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    debug_assert_eq!(result, 0, "every Linux has this clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The processor time of the calling thread (`CLOCK_THREAD_CPUTIME_ID`, `clock_gettime(2)`).
///
/// On loopback this contains the receiver's half of the kernel's work as well, because it runs
/// inside the sender's call.
///
/// # Errors
/// As the call.
pub fn thread_cpu_time() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid `timespec` that the call fills in.
    check(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Lets `bind` fix a socket's source address without taking a port, which `connect` then chooses
/// (`IP_BIND_ADDRESS_NO_PORT`, ip(7)). With the destination known, a port can be in use towards
/// other destinations; without this, one source address has some 28,000 connections in all.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_bind_address_no_port(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of_val(&on) as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    // SAFETY: the call reads `size` bytes of `on`, which lives across it; that the descriptor is
    // a socket is checked by the kernel.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), size)
    })
}

/// A new descriptor for what `descriptor` stands for, which a program that is started later does
/// not inherit (`F_DUPFD_CLOEXEC`, fcntl(2)). So a number that somebody has told can be used without
/// taking it from whoever has it.
///
/// # Errors
/// As the call: there is no such descriptor, or no other one is free.
pub fn duplicate(descriptor: RawFd) -> io::Result<OwnedFd> {
    let at_least = 3;
    // SAFETY: the call takes numbers; one that is no open descriptor is refused by the kernel.
    let new = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, at_least) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and open, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Whether a write to `descriptor` would not wait now, or would fail at once (`poll(2)`).
///
/// # Errors
/// As the call.
pub fn is_writable(descriptor: &impl AsRawFd) -> io::Result<bool> {
    let (wanted, at_once) = (libc::POLLOUT, 0);
    let mut poll = libc::pollfd { fd: descriptor.as_raw_fd(), events: wanted, revents: 0 };
    // SAFETY: `poll` is one valid `pollfd`, as the call is told, which it fills in.
    match unsafe { libc::poll(&raw mut poll, 1, at_once) } {
        -1 => Err(io::Error::last_os_error()),
        // An error or a hangup of the other side is told by the write.
        _ => Ok(poll.revents != 0),
    }
}

/// The size of a page of memory, in bytes (`_SC_PAGESIZE`, sysconf(3)).
pub fn page_bytes() -> u64 {
    // SAFETY: the call has no preconditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

/// Ticks per second in which the kernel tells a process's times (`_SC_CLK_TCK`, sysconf(3)).
pub fn ticks_per_s() -> u64 {
    // SAFETY: the call has no preconditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100).max(1)
}

/// A clock that makes a descriptor readable at a given moment (`timerfd_create(2)`).
///
/// The timeout of `epoll_wait` is in milliseconds; this is exact to some tens of microseconds.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// As the call.
    pub fn new() -> io::Result<Timer> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: the call has no preconditions.
        let descriptor = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and open, and nobody else has it.
        Ok(Timer(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Sets it to `at_ns` of [`monotonic_ns`], once. A moment that has passed counts as now.
    ///
    /// # Errors
    /// As `timerfd_settime(2)`.
    pub fn set(&self, at_ns: u64) -> io::Result<()> {
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would switch it off.
        let at_ns = at_ns.max(1);
        let at = libc::timespec {
            tv_sec: (at_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (at_ns % 1_000_000_000) as libc::c_long,
        };
        let setting = libc::itimerspec { it_interval: never, it_value: at };
        let (descriptor, before) = (self.0.as_raw_fd(), std::ptr::null_mut());
        // SAFETY: `setting` is only read, and a null pointer asks for no former setting.
        check(unsafe {
            libc::timerfd_settime(descriptor, libc::TFD_TIMER_ABSTIME, &raw const setting, before)
        })
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// How much later than asked the calling thread may be woken, which lets the kernel join wake-ups
/// (`PR_SET_TIMERSLACK`, prctl(2)); 50 µs unless set.
///
/// # Errors
/// As the call.
pub fn set_timer_slack(slack: Duration) -> io::Result<()> {
    let slack_ns = slack.as_nanos().clamp(1, 1_000_000_000) as libc::c_ulong;
    // SAFETY: the call takes a number and has no preconditions.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack_ns) })
}

/// Has the processor load the first two cache lines of `value` while it does something else: a
/// system call, say, at whose end `value` will be needed. Where the processor is of another kind,
/// this does nothing.
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(value).cast::<i8>();
        // SAFETY: a prefetch is a hint that reads nothing, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(first) };
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(64)) };
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_limit_is_read_and_set() {
        let (now, max) = descriptor_limits().unwrap();
        assert!(now > 0 && now <= max);
        assert_eq!(set_descriptor_limit(now).unwrap(), now);
        assert_eq!(set_descriptor_limit(u64::MAX).unwrap(), max);
        assert_eq!(descriptor_limits().unwrap(), (max, max));
    }

    #[test]
    fn a_thread_is_bound_to_a_processor() {
        // In a thread of its own, since the binding stays.
        std::thread::spawn(|| {
            let allowed = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let list =
                allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
            let first: usize = list.trim().split([',', '-']).next().unwrap().parse().unwrap();
            bind_to_cpu(first).unwrap();
            assert!(is_permitted_cpu(first));
            assert!(!is_permitted_cpu(8191) && !is_permitted_cpu(usize::MAX));
            let allowed = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(allowed.contains(&format!("Cpus_allowed_list:\t{first}\n")));
            // It can be bound to another one again, if there is one.
            let last: usize = list.trim().rsplit([',', '-']).next().unwrap().parse().unwrap();
            assert!(is_permitted_cpu(last), "{list}");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_processor_that_does_not_exist_is_refused() {
        assert_eq!(bind_to_cpu(1000).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(bind_to_cpu(100_000).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_source_address_is_bound_without_a_port() {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        set_bind_address_no_port(&socket).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 9], 0)).into()).unwrap();
        let bound = socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!((bound.ip().to_string().as_str(), bound.port()), ("127.0.0.9", 0));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(set_bind_address_no_port(&file).is_err());
    }

    #[test]
    fn a_duplicate_is_a_descriptor_of_its_own() {
        use std::io::Read as _;
        let original = std::fs::File::open("/proc/self/comm").unwrap();
        let copy = duplicate(original.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), original.as_raw_fd());
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", copy.as_raw_fd()));
        let info = info.unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = i32::from_str_radix(flags, 8).unwrap();
        assert!(flags & libc::O_CLOEXEC != 0, "{info}");
        drop(original);
        let mut text = String::new();
        std::fs::File::from(copy).read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
        assert_eq!(duplicate(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_full_pipe_is_not_writable() {
        use std::io::{Read as _, Write as _};
        let (mut reader, mut writer) = io::pipe().unwrap();
        assert!(is_writable(&writer).unwrap());
        // All that a pipe holds unless it was resized (pipe(7)).
        writer.write_all(&[0; 65_536]).unwrap();
        assert!(!is_writable(&writer).unwrap());
        reader.read_exact(&mut [0; 65_536]).unwrap();
        assert!(is_writable(&writer).unwrap());
        drop(reader);
        assert!(is_writable(&writer).unwrap(), "the write fails at once");
    }

    #[test]
    fn pages_have_a_size() {
        assert!(page_bytes().is_power_of_two() && page_bytes() >= 4096);
        assert!(ticks_per_s() >= 100);
    }

    #[test]
    fn the_clock_goes_on() {
        let before = monotonic_ns();
        while monotonic_ns() == before {}
        assert!(monotonic_ns() > before);
    }

    /// Each setting is a new edge, although nobody reads the descriptor.
    #[cfg(feature = "load")]
    #[test]
    fn a_timer_goes_off_each_time_it_is_set() {
        let timer = Timer::new().unwrap();
        let mut poll = mio::Poll::new().unwrap();
        let descriptor = timer.as_raw_fd();
        let mut source = mio::unix::SourceFd(&descriptor);
        poll.registry().register(&mut source, mio::Token(1), mio::Interest::READABLE).unwrap();
        let mut events = mio::Events::with_capacity(4);
        for wait_ns in [1_000_000, 0, 300_000] {
            let at_ns = monotonic_ns() + wait_ns;
            timer.set(at_ns).unwrap();
            poll.poll(&mut events, None).unwrap();
            assert!(monotonic_ns() >= at_ns && !events.is_empty());
        }
        timer.set(u64::MAX).unwrap();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
    }

    #[test]
    fn timer_slack_is_set() {
        // In a thread of its own, since the setting stays.
        let slack = std::thread::spawn(|| {
            set_timer_slack(Duration::from_nanos(1234)).unwrap();
            // SAFETY: the call takes a number and has no preconditions.
            unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }
        });
        assert_eq!(slack.join().unwrap(), 1234);
    }

    #[test]
    fn a_prefetch_leaves_things_as_they_are() {
        let value = [7u8; 192];
        prefetch(&value);
        prefetch(&value[191]); // what follows belongs to somebody else, and is not read
        assert_eq!(value, [7; 192]);
    }

    #[test]
    fn processor_time_grows_with_work() {
        let before = thread_cpu_time().unwrap();
        let mut state = 1u64;
        while thread_cpu_time().unwrap() < before + Duration::from_millis(1) {
            state = std::hint::black_box(state.wrapping_mul(3));
        }
    }
}

//! Network namespaces (`network_namespaces(7)`) and the loopback interface.

use super::check;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;

/// Moves the calling thread into a new network namespace, and with it what it starts from now on.
///
/// Who may not do that does it inside a new user namespace (`user_namespaces(7)`), in which he still
/// is who he was. That is for processes of one thread only.
///
/// # Errors
/// As `unshare(2)`: `PermissionDenied` where the system does not let users have namespaces,
/// `InvalidInput` if there are other threads and it takes a user namespace. As `write(2)` if the
/// new user namespace does not accept the user.
pub fn unshare_network() -> io::Result<()> {
    match unshare(libc::CLONE_NEWNET) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        done => return done,
    }
    // They are asked before the new namespace, in which nobody is anybody yet.
    let (user, group) = (effective_user(), effective_group());
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
    // Without the first, the kernel does not let a user map a group.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// Gives the loopback interface a maximum transmission unit, in bytes, and brings it up
/// (`SIOCSIFMTU` and `SIOCSIFFLAGS`, netdevice(7)).
///
/// # Errors
/// As `ioctl(2)`: `PermissionDenied` without the right to administer this network namespace.
pub fn set_loopback(mtu_bytes: u32) -> io::Result<()> {
    let mtu = i32::try_from(mtu_bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    interface_request(libc::SIOCSIFMTU, &mut InterfaceRequest::loopback(mtu.to_ne_bytes()))?;
    let [low, high] = (libc::IFF_UP as libc::c_short).to_ne_bytes();
    interface_request(libc::SIOCSIFFLAGS, &mut InterfaceRequest::loopback([low, high, 0, 0]))
}

/// The maximum transmission unit of the loopback interface, in bytes (`SIOCGIFMTU`, netdevice(7)).
/// `/sys/class/net` would tell that of the namespace in which it was mounted.
///
/// # Errors
/// As `ioctl(2)`.
pub fn loopback_mtu() -> io::Result<u32> {
    let mut request = InterfaceRequest::loopback([0; 4]);
    interface_request(libc::SIOCGIFMTU, &mut request)?;
    u32::try_from(i32::from_ne_bytes(request.value)).map_err(io::Error::other)
}

/// The part of a `struct ifreq` that is used here: its union begins with the value, whatever its
/// type is, and is never larger than `rest` allows for.
#[repr(C, align(8))]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    value: [u8; 4],
    rest: [u8; 20],
}

const _: () = assert!(size_of::<InterfaceRequest>() >= size_of::<libc::ifreq>());

impl InterfaceRequest {
    fn loopback(value: [u8; 4]) -> InterfaceRequest {
        let mut name = [0; libc::IFNAMSIZ];
        name[..2].copy_from_slice(b"lo");
        InterfaceRequest { name, value, rest: [0; 20] }
    }
}

fn interface_request(what: libc::Ioctl, request: &mut InterfaceRequest) -> io::Result<()> {
    // Any socket will do: it stands for the namespace.
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: these requests read and write one `struct ifreq`, than which `request` is not
    // smaller, and which holds no pointers for them.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut *request) })
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes a number; these flags separate no memory and no descriptors.
    check(unsafe { libc::unshare(flags) })
}

fn effective_user() -> libc::uid_t {
    // SAFETY: the call has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

fn effective_group() -> libc::gid_t {
    // SAFETY: the call has no preconditions and cannot fail.
    unsafe { libc::getegid() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn loopback_has_a_size() {
        assert!(loopback_mtu().unwrap() >= 1280);
    }

    /// In a thread of its own, since the thread stays there.
    #[test]
    fn a_thread_gets_a_network_of_its_own() {
        let outside = loopback_mtu().unwrap();
        let inside = std::thread::spawn(|| {
            unshare_network()?;
            assert!(std::net::TcpListener::bind("127.0.0.1:0").is_ok());
            set_loopback(1400)?;
            loopback_mtu()
        });
        match inside.join().unwrap() {
            Ok(mtu_bytes) => assert_eq!(mtu_bytes, 1400),
            Err(why) => skip(&why.to_string()),
        }
        assert_eq!(loopback_mtu().unwrap(), outside);
    }

    /// In a process of one thread, as whom a root user becomes nobody.
    #[test]
    fn a_user_gets_a_network_of_his_own_and_stays_who_he_is() {
        // SAFETY: the child calls what needs no other thread, and ends by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let status = as_a_user();
            // SAFETY: the call ends the process, and nothing of it is needed any more.
            unsafe { libc::_exit(status) };
        }
        let mut status = 0;
        // SAFETY: `status` is a valid integer that the call fills in.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        match libc::WEXITSTATUS(status) {
            0 => {}
            NOT_PERMITTED => skip("users may not have namespaces"),
            other => panic!("exit status {other}"),
        }
    }

    const NOT_PERMITTED: i32 = 77;

    fn as_a_user() -> i32 {
        const NOBODY: u32 = 65534;
        if effective_user() == 0 {
            // SAFETY: the call takes numbers and has no preconditions.
            unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) };
            // SAFETY: as above.
            unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) };
            // What root has started belongs to root until it is declared harmless.
            // SAFETY: as above.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
        }
        let before = (effective_user(), effective_group());
        match unshare_network().and_then(|()| set_loopback(1400)).and_then(|()| loopback_mtu()) {
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied => NOT_PERMITTED,
            Err(why) => why.raw_os_error().unwrap_or(1),
            Ok(1400) if before == (effective_user(), effective_group()) && before.0 != 0 => 0,
            Ok(_) => 2,
        }
    }

    fn skip(why: &str) {
        writeln!(io::stderr(), "SKIPPED: {why}").unwrap();
    }
}

//! What a service manager hands over, and what it is told: sockets that it has opened already
//! (`sd_listen_fds(3)`), and when the server is ready, reloads and stops (`sd_notify(3)`).
//!
//! Both protocols are a few environment variables, so this needs no library of systemd's, and
//! whatever else speaks them (s6, a shell, a test) does as well.

use pushv::sys;
use socket2::{SockRef, Type};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::RawFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};

/// Listening sockets that were handed over.
#[derive(Debug, Default)]
pub struct Inherited {
    /// All of them.
    pub sockets: Vec<TcpListener>,
    /// Where those are bound that are for the public.
    pub public: Vec<SocketAddr>,
    /// Where the one is bound that is named `admin`.
    pub admin: Option<SocketAddr>,
}

/// Takes over the sockets that this process was started with. They are listening, so whoever
/// connects while the server starts again waits, and is not refused.
///
/// # Errors
/// What is wrong with what was handed over.
pub fn inherited() -> Result<Inherited, String> {
    let mut inherited = Inherited::default();
    for (descriptor, name) in handed_over(std::process::id(), |name| std::env::var(name).ok())? {
        let socket = take(descriptor)
            .map_err(|why| format!("descriptor {descriptor}, handed over as {name:?}: {why}"))?;
        let address = socket.local_addr().map_err(|error| error.to_string())?;
        match name.as_str() {
            "admin" if inherited.admin.replace(address).is_some() => {
                return Err("two sockets named admin were handed over".into());
            }
            "admin" => {}
            _ => inherited.public.push(address),
        }
        inherited.sockets.push(socket);
    }
    Ok(inherited)
}

/// The descriptors that are meant for process `pid`, with their names: from 3 on, as many as
/// `LISTEN_FDS` says, named by `LISTEN_FDNAMES`.
fn handed_over(
    pid: u32,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(RawFd, String)>, String> {
    // A process that this one's parent started may have the variables without having the sockets.
    if variable("LISTEN_PID").is_none_or(|meant| meant != pid.to_string()) {
        return Ok(Vec::new());
    }
    let count = variable("LISTEN_FDS").unwrap_or_default();
    let count: RawFd = match count.parse() {
        Ok(count) if (0..=SOCKETS_MAX).contains(&count) => count,
        _ => return Err(format!("LISTEN_FDS wants a number up to {SOCKETS_MAX}, not {count:?}")),
    };
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(String::from);
    Ok((FIRST..FIRST + count).map(|fd| (fd, names.next().unwrap_or_default())).collect())
}

fn take(descriptor: RawFd) -> Result<TcpListener, String> {
    // A descriptor of our own. The one that was handed over stays open, as it does in the service
    // manager: the queue behind it is there as long as somebody may come back to it.
    let own = sys::duplicate(descriptor).map_err(|error| error.to_string())?;
    let socket = SockRef::from(&own);
    let listens =
        matches!(socket.r#type(), Ok(Type::STREAM)) && socket.is_listener().unwrap_or(false);
    let over_ip = socket.local_addr().is_ok_and(|address| address.as_socket().is_some());
    if !listens || !over_ip {
        return Err("it is no listening TCP socket".into());
    }
    socket.set_nonblocking(true).map_err(|error| error.to_string())?;
    Ok(TcpListener::from(own))
}

/// Tells the service manager something, if there is one. It is not waited for.
pub fn notify(state: &str) {
    let Some(name) = std::env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty()) else {
        return;
    };
    let address = match name.strip_prefix('@') {
        Some(name) => UnixAddress::from_abstract_name(name),
        None => UnixAddress::from_pathname(&name),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = sent {
        log::warn!("the service manager cannot be told {state:?}: {error}");
    }
}

/// The configuration is about to be read again.
pub fn notify_reloading() {
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic_ns() / 1000));
}

/// `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;
const SOCKETS_MAX: RawFd = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], expected: Result<&[(RawFd, &str)], &str>) {
        let value = |name: &str| {
            variables.iter().find(|(found, _)| *found == name).map(|(_, value)| value.to_string())
        };
        let found = handed_over(7, value);
        match (&found, expected) {
            (Ok(found), Ok(expected)) => {
                let found: Vec<(RawFd, &str)> =
                    found.iter().map(|(descriptor, name)| (*descriptor, name.as_str())).collect();
                assert_eq!(found, expected, "{variables:?}");
            }
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
            _ => panic!("{variables:?}: {found:?}"),
        }
    }

    #[test]
    fn what_is_handed_over() {
        check(&[], Ok(&[]));
        check(&[("LISTEN_FDS", "1")], Ok(&[]));
        check(&[("LISTEN_PID", "8"), ("LISTEN_FDS", "1")], Ok(&[]));
        let pid = ("LISTEN_PID", "7");
        check(&[pid, ("LISTEN_FDS", "0")], Ok(&[]));
        check(&[pid, ("LISTEN_FDS", "2")], Ok(&[(3, ""), (4, "")]));
        let names = ("LISTEN_FDNAMES", "public:admin");
        check(&[pid, ("LISTEN_FDS", "2"), names], Ok(&[(3, "public"), (4, "admin")]));
        check(&[pid, ("LISTEN_FDS", "3"), names], Ok(&[(3, "public"), (4, "admin"), (5, "")]));
        for count in ["", "x", "-1", "65"] {
            check(&[pid, ("LISTEN_FDS", count)], Err("LISTEN_FDS"));
        }
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        use std::os::fd::AsRawFd as _;
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(take(file.as_raw_fd()).is_err());
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(take(datagrams.as_raw_fd()).unwrap_err().contains("no listening TCP socket"));
        let silent = socket2::Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(take(silent.as_raw_fd()).is_err());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = take(listener.as_raw_fd()).unwrap();
        assert_eq!(taken.local_addr().unwrap(), listener.local_addr().unwrap());
        assert!(take(-1).is_err());
    }
}

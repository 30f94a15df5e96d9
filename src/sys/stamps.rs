//! The kernel's own times of what a socket sends (`SO_TIMESTAMPING`,
//! Documentation/networking/timestamping.rst).
//!
//! A socket is prepared once, by [`enable`]; from then on single calls ask to be stamped, with a
//! control message ([`send`]). The stamps come back through the socket's error queue, from which
//! [`next`] takes them. A message there makes epoll report an error (`EPOLLERR`) on a connection
//! that is perfectly well.

use super::check;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;

/// How far a byte had come when its stamp was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Station {
    /// It was handed to the packet scheduler.
    Scheduled,
    /// It was handed to the device's driver. Loopback has none worth the name.
    Sent,
    /// The peer's kernel has acknowledged it, and everything before it.
    Acknowledged,
}

/// A stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Where it was made.
    pub station: Station,
    /// Which byte it is of: the last one of the call, counted from 0 at [`enable`], modulo 2³².
    pub byte: u32,
    /// When, in nanoseconds since 1970 (`CLOCK_REALTIME`, which can be set).
    pub unix_ns: u64,
}

/// Prepares a socket: bytes written from now on are counted from 0, and stamps are delivered
/// without the bytes they are of.
///
/// # Errors
/// As `setsockopt(2)`; `EINVAL` on kernels before 6.2, which lack `SOF_TIMESTAMPING_OPT_ID_TCP`.
pub fn enable(socket: &impl AsRawFd) -> io::Result<()> {
    let flags: libc::c_uint = libc::SOF_TIMESTAMPING_SOFTWARE
        | libc::SOF_TIMESTAMPING_OPT_ID
        | libc::SOF_TIMESTAMPING_OPT_ID_TCP
        | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    let size = size_of_val(&flags) as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_TIMESTAMPING);
    let (descriptor, value) = (socket.as_raw_fd(), &raw const flags);
    // SAFETY: the call reads `size` bytes of `flags`, which lives across it.
    check(unsafe { libc::setsockopt(descriptor, level, option, value.cast(), size) })
}

/// `sendmsg(2)` of some buffers that asks for all three stamps of the last byte it takes.
///
/// # Errors
/// As the call. A broken pipe raises no signal.
pub fn send(socket: &impl AsRawFd, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    let wanted: u32 = libc::SOF_TIMESTAMPING_TX_SCHED
        | libc::SOF_TIMESTAMPING_TX_SOFTWARE
        | libc::SOF_TIMESTAMPING_TX_ACK;
    let header = libc::cmsghdr {
        cmsg_len: size_of::<libc::cmsghdr>() + size_of::<u32>(),
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SO_TIMESTAMPING,
    };
    let mut control = Request { header, wanted, padding: 0 };
    let message = libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        // An `IoSlice` is an `iovec` (std::io::IoSlice), and the call does not write through it.
        msg_iov: buffers.as_ptr().cast_mut().cast(),
        msg_iovlen: buffers.len(),
        msg_control: (&raw mut control).cast(),
        msg_controllen: size_of::<Request>(),
        msg_flags: 0,
    };
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: `message` names buffers and a control message that live across the call.
    let taken = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}

/// The control message that asks for stamps, padded as `CMSG_SPACE(4)` demands (cmsg(3)).
#[repr(C, align(8))]
struct Request {
    header: libc::cmsghdr,
    wanted: u32,
    /// Written, because the call reads it.
    padding: u32,
}

/// Takes the next stamp off the error queue; `None` if there is none. What else stands there is
/// thrown away.
///
/// # Errors
/// As `recvmsg(2)`.
pub fn next(socket: &impl AsRawFd) -> io::Result<Option<Stamp>> {
    loop {
        let mut control = [0u64; CONTROL_BYTES / 8];
        match receive_control(socket, &mut control) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(bytes) => {
                let mut message = [0; CONTROL_BYTES];
                for (place, word) in message.chunks_exact_mut(8).zip(control) {
                    place.copy_from_slice(&word.to_ne_bytes());
                }
                if let Some(stamp) = parse(&message[..bytes.min(CONTROL_BYTES)]) {
                    return Ok(Some(stamp));
                }
            }
        }
    }
}

/// Takes one message off the error queue and gives the length of its control part. Its data part
/// is empty.
fn receive_control(socket: &impl AsRawFd, control: &mut [u64]) -> io::Result<usize> {
    let mut message = libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: std::ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: control.as_mut_ptr().cast(),
        msg_controllen: size_of_val(control),
        msg_flags: 0,
    };
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: `message` names a control buffer of the size it says, and no other memory.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(message.msg_controllen)
}

/// Reads the control messages of a stamp: its times, and what they are of.
fn parse(mut control: &[u8]) -> Option<Stamp> {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let (mut unix_ns, mut of) = (None, None);
    while control.len() >= HEADER {
        let number =
            |at: usize| Some(u32::from_ne_bytes(control.get(at..at + 4)?.try_into().ok()?));
        let length = usize::from_ne_bytes(control[..8].try_into().ok()?);
        let (level, kind) = (number(8)? as i32, number(12)? as i32);
        let data = control.get(HEADER..length)?;
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => unix_ns = software_time(data),
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
                of = station_and_byte(data);
            }
            _ => {}
        }
        // The next one is aligned (`CMSG_NXTHDR`, cmsg(3)).
        control = control.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    let (station, byte) = of?;
    Some(Stamp { station, byte, unix_ns: unix_ns? })
}

/// The first of the three times of a `scm_timestamping`: the one that software made.
fn software_time(data: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u64::from_ne_bytes(data.get(at..at + 8)?.try_into().ok()?));
    Some(word(0)? * 1_000_000_000 + word(8)?)
}

/// What a `sock_extended_err` says: `ee_info` is the station, `ee_data` the byte.
fn station_and_byte(data: &[u8]) -> Option<(Station, u32)> {
    let number = |at: usize| Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?));
    let (origin, info, byte) = (*data.get(4)?, number(8)?, number(12)?);
    if number(0)? != libc::ENOMSG as u32 || origin != libc::SO_EE_ORIGIN_TIMESTAMPING {
        return None;
    }
    // include/uapi/linux/errqueue.h: SCM_TSTAMP_SND, _SCHED, _ACK.
    let station = match info {
        0 => Station::Sent,
        1 => Station::Scheduled,
        2 => Station::Acknowledged,
        _ => return None,
    };
    Some((station, byte))
}

/// Room for a `scm_timestamping` (48 bytes), a `sock_extended_err` with an address behind it, and
/// their headers.
const CONTROL_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_call_is_stamped_at_each_station() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _theirs = listener.accept().unwrap();
        assert_eq!(next(&ours).unwrap(), None);
        enable(&ours).unwrap();
        let unix_ns = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        for call in 1..4 {
            let before_ns = unix_ns();
            let buffers = [IoSlice::new(b"hello "), IoSlice::new(b"world")];
            assert_eq!(send(&ours, &buffers).unwrap(), 11);
            let mut stamps = Vec::new();
            while stamps.len() < 3 {
                stamps.extend(next(&ours).unwrap());
            }
            stamps.sort_by_key(|stamp| stamp.station);
            let stations = stamps.iter().map(|stamp| stamp.station).collect::<Vec<_>>();
            assert_eq!(stations, [Station::Scheduled, Station::Sent, Station::Acknowledged]);
            assert!(stamps.iter().all(|stamp| stamp.byte == 11 * call - 1), "{stamps:?}");
            assert!(stamps.iter().all(|stamp| stamp.unix_ns >= before_ns), "{stamps:?}");
            assert!(stamps.iter().all(|stamp| stamp.unix_ns <= unix_ns()), "{stamps:?}");
        }
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(enable(&file).is_err() && send(&file, &[]).is_err() && next(&file).is_err());
    }

    #[test]
    fn nonsense_is_no_stamp() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0; 64]), None);
        assert_eq!(parse(&[255; 64]), None);
        for length in 0..64u8 {
            assert_eq!(parse(&[[length, 0, 0, 0, 0, 0, 0, 0]; 8].concat()), None);
        }
    }
}

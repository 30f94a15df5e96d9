//! A connection in memory.
//!
//! The server's end behaves as a kernel's socket does. Its send buffer has a size, a call takes what
//! fits, and once a call has found too little room, room becomes news again when a third of the
//! buffer is free (`sk_stream_write_space`, net/core/stream.c). What the client sends is under way
//! for a while and may arrive in pieces, each of which is news. Closing an end while input is unread
//! resets the connection, which destroys what the client has not read yet (RFC 9112 §9.6).
//!
//! The server reads what arrived before a reset, then gets `ECONNRESET` once, from `read` or from
//! `write`. After that `read` gives the end of the stream and `write` gives `EPIPE`. If the client had
//! closed its side before, `write` gives `EPIPE` at once and `read` no error (`tcp_reset` in
//! `net/ipv4/tcp_input.c`).

use super::Dice;
use super::faults::Faults;
use super::flow::Flow;
use crate::observe::tcp_info::TcpInfo;
use crate::send::socket_knobs::SocketKnobs;
use crate::send::transport::Transport;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

/// What both ends share: the wire.
#[derive(Debug)]
struct Wire {
    /// Sent by the client, not arrived yet.
    under_way: VecDeque<u8>,
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// The size of the server's send buffer.
    window_bytes: usize,
    /// What the kernel knows of `to_client`.
    flow: Flow,
    /// The port from which the server has accepted it.
    accepted: Option<u16>,
    /// A call found too little room.
    wants_room: bool,
    /// One ever did.
    was_full: bool,
    /// Since when the server's latest call wants room, and has taken nothing.
    wanted_ns: Option<u64>,
    /// Something has happened since the server was last told.
    news: bool,
    client_closed: bool,
    /// The client is not there any more to read what it is sent.
    client_gone: bool,
    reset: bool,
    /// What the next call on the server's end fails with.
    error: Option<i32>,
    server_shut: bool,
    server_closed: bool,
    /// The connection is reset when so many more bytes have gone through it.
    doom: Option<usize>,
    dice: Dice,
    faults: Faults,
}

/// The server's end.
#[derive(Debug)]
pub struct ServerEnd(Rc<RefCell<Wire>>);

/// The client's end, and what a kernel knows of the other one.
#[derive(Debug, Clone)]
pub struct ClientEnd(Rc<RefCell<Wire>>);

/// What a kernel would report of the server's end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// There is something to read, or an end to see.
    pub readable: bool,
    /// There is room.
    pub writable: bool,
    /// The client has closed its side, or the connection is reset.
    pub hangup: bool,
    /// The connection is reset, and no call has said so yet.
    pub error: bool,
}

/// A connection whose server has a send buffer of `window_bytes`.
pub fn pipe(
    window_bytes: usize,
    dice: Dice,
    faults: Faults,
    clock: Rc<Cell<u64>>,
) -> (ServerEnd, ClientEnd) {
    let wire = Rc::new(RefCell::new(Wire {
        under_way: VecDeque::new(),
        to_server: VecDeque::new(),
        to_client: VecDeque::new(),
        window_bytes,
        flow: Flow::new(Rc::clone(&clock)),
        accepted: None,
        wants_room: false,
        was_full: false,
        wanted_ns: None,
        news: true,
        client_closed: false,
        client_gone: false,
        reset: false,
        error: None,
        server_shut: false,
        server_closed: false,
        doom: None,
        dice,
        faults,
    }));
    (ServerEnd(Rc::clone(&wire)), ClientEnd(wire))
}

impl ServerEnd {
    /// The other end.
    pub fn other(&self) -> ClientEnd {
        ClientEnd(Rc::clone(&self.0))
    }
}

impl ClientEnd {
    /// Sends bytes to the server.
    pub fn send(&self, bytes: &[u8]) {
        let mut wire = self.0.borrow_mut();
        if !wire.reset {
            wire.under_way.extend(bytes);
        }
    }

    /// Receives up to `count` bytes.
    pub fn receive(&self, count: usize) -> Vec<u8> {
        let mut wire = self.0.borrow_mut();
        let count = count.min(wire.to_client.len());
        let bytes = take(&mut wire.to_client, count);
        wire.note_received();
        wire.note_room();
        bytes
    }

    /// Closes this side by half: what was sent is still read by the server, and what it answers
    /// can be received.
    pub fn close_half(&self) {
        let mut wire = self.0.borrow_mut();
        (wire.client_closed, wire.news) = (true, true);
    }

    /// Closes: the server may still send, and learns then that nobody is there.
    pub fn close(&self) {
        let mut wire = self.0.borrow_mut();
        (wire.client_closed, wire.client_gone, wire.news) = (true, true, true);
        wire.to_client.clear();
        wire.note_received();
        wire.note_room();
    }

    /// Resets the connection: what is under way is lost.
    pub fn reset(&self) {
        self.0.borrow_mut().reset();
    }

    /// Has the connection reset when `bytes` more bytes have gone through it, either way.
    pub fn doom(&self, bytes: usize) {
        self.0.borrow_mut().doom = Some(bytes);
    }

    /// Whether everything that the server ever sent has been received, and there will be no more.
    pub fn is_over(&self) -> bool {
        let wire = self.0.borrow();
        wire.reset || ((wire.server_shut || wire.server_closed) && wire.to_client.is_empty())
    }

    /// Whether something has come that was not received.
    pub fn has_unread(&self) -> bool {
        !self.0.borrow().to_client.is_empty()
    }

    /// Whether everything that was sent has reached the server, which has accepted the connection.
    pub fn has_arrived(&self) -> bool {
        let wire = self.0.borrow();
        wire.accepted.is_some() && wire.under_way.is_empty()
    }

    /// Whether the server ever found less room than it wanted.
    pub fn was_full(&self) -> bool {
        self.0.borrow().was_full
    }

    /// For how long the server has wanted room in vain, in nanoseconds.
    pub fn stalled_ns(&self, now_ns: u64) -> u64 {
        let wire = self.0.borrow();
        let wanted_ns = wire.wanted_ns.filter(|_| wire.wants_room);
        wanted_ns.filter(|_| !wire.reset && !wire.server_closed).map_or(0, |ns| now_ns - ns)
    }

    /// Whether the server has given its end up.
    pub fn is_abandoned(&self) -> bool {
        self.0.borrow().server_closed
    }

    pub(super) fn note_accepted(&self, port: u16) {
        self.0.borrow_mut().accepted = Some(port);
    }

    /// The port from which the server has accepted it; 0 if it has not.
    #[cfg(feature = "admin")]
    pub(super) fn port(&self) -> u16 {
        self.0.borrow().accepted.unwrap_or(0)
    }

    /// What the kernel knows of what the server has sent, unless it does not tell.
    #[cfg(feature = "admin")]
    pub(super) fn glimpse(&self) -> Option<super::flow::Glimpse> {
        let wire = self.0.borrow();
        (wire.faults.mute == 0).then(|| wire.flow.glimpse())
    }

    /// Lets time pass for what is under way.
    pub(super) fn deliver(&self) {
        let mut guard = self.0.borrow_mut();
        let wire = &mut *guard;
        if wire.under_way.is_empty() {
            return;
        }
        let all = wire.under_way.len();
        let pieces = usize::from(wire.faults.pieces);
        let count = if wire.dice.once_in(pieces) { 1 + wire.dice.roll(all) } else { all };
        let arrived = take(&mut wire.under_way, count);
        wire.news = true;
        wire.pass(count);
        match wire.server_closed {
            // Nobody is there to read it: the answer is a reset.
            true => wire.reset(),
            false => wire.to_server.extend(&arrived),
        }
    }

    /// Whether the server is to be told something.
    pub(super) fn has_news(&self) -> bool {
        let wire = self.0.borrow();
        wire.news || !wire.under_way.is_empty()
    }

    /// What there is to tell.
    pub(super) fn take_news(&self) -> Option<State> {
        let mut wire = self.0.borrow_mut();
        std::mem::take(&mut wire.news).then(|| State {
            readable: !wire.to_server.is_empty() || wire.has_ended() || wire.reset,
            writable: wire.has_room() || wire.reset,
            hangup: wire.has_ended() || wire.reset,
            error: wire.error.is_some(),
        })
    }
}

impl Wire {
    fn has_ended(&self) -> bool {
        self.client_closed && self.under_way.is_empty()
    }

    fn has_room(&self) -> bool {
        self.client_gone || self.to_client.len() <= self.window_bytes * 2 / 3
    }

    fn note_received(&mut self) {
        self.flow.note_received(self.to_client.len());
    }

    fn note_room(&mut self) {
        if self.wants_room && self.has_room() {
            (self.wants_room, self.news) = (false, true);
        }
    }

    fn reset(&mut self) {
        if self.reset {
            return;
        }
        (self.reset, self.news) = (true, true);
        // An end that has not arrived yet is lost with what precedes it.
        self.client_closed = self.has_ended();
        self.error = Some(match self.client_closed && !self.server_shut {
            true => libc::EPIPE,
            false => libc::ECONNRESET,
        });
        self.under_way.clear();
        self.to_client.clear();
        self.note_received();
    }

    /// Bytes have gone through.
    fn pass(&mut self, bytes: usize) {
        if let Some(doom) = &mut self.doom {
            *doom = doom.saturating_sub(bytes);
            if *doom == 0 {
                self.reset();
            }
        }
    }

    fn told(&self) -> io::Result<&Flow> {
        match self.faults.mute {
            0 => Ok(&self.flow),
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }

    fn interrupted(&mut self) -> bool {
        let times = usize::from(self.faults.interrupts);
        self.dice.once_in(times)
    }

    fn take<'p>(&mut self, pieces: impl Iterator<Item = &'p [u8]>) -> io::Result<usize> {
        if self.reset || self.server_shut {
            return Err(failure(self.error.take().unwrap_or(libc::EPIPE)));
        }
        if self.interrupted() {
            return Err(failure(libc::EINTR));
        }
        if self.client_gone {
            self.reset();
            return Ok(pieces.map(<[u8]>::len).sum());
        }
        let mut room = self.window_bytes.saturating_sub(self.to_client.len());
        let pinched = self.dice.once_in(usize::from(self.faults.pinches));
        if pinched {
            room = room.min(self.dice.roll(200));
        }
        // Bytes up to the one at which the connection is doomed still arrive.
        let mut taken = 0;
        let mut short = false;
        for piece in pieces {
            let count = piece.len().min(room - taken);
            self.to_client.extend(&piece[..count]);
            taken += count;
            short = count < piece.len();
            if short {
                break;
            }
        }
        let earlier_ns = self.wanted_ns.filter(|_| taken == 0);
        self.wanted_ns = short.then(|| earlier_ns.unwrap_or(self.flow.now_ns()));
        if short {
            (self.wants_room, self.was_full) = (true, true);
            if pinched {
                self.note_room();
            }
        }
        let lost = self.dice.once_in(usize::from(self.faults.losses));
        self.flow.note_sent(taken, lost);
        self.pass(taken);
        if short && taken == 0 { Err(failure(libc::EAGAIN)) } else { Ok(taken) }
    }
}

impl Transport for ServerEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.interrupted() {
            return Err(failure(libc::EINTR));
        }
        if wire.to_server.is_empty() {
            return match wire.reset {
                _ if wire.has_ended() => Ok(0),
                true => wire.error.take().map_or(Ok(0), |error| Err(failure(error))),
                false => Err(failure(libc::EAGAIN)),
            };
        }
        let count = buffer.len().min(wire.to_server.len());
        buffer[..count].copy_from_slice(&take(&mut wire.to_server, count));
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().take(std::iter::once(bytes))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.borrow_mut().take(buffers.iter().map(|buffer| &**buffer))
    }

    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().take(std::iter::once(bytes))
    }

    fn set_cork(&mut self, _: bool) -> io::Result<()> {
        Ok(()) // on a connection that is reset, too
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut wire = self.0.borrow_mut();
        if wire.reset {
            return Err(failure(libc::ENOTCONN));
        }
        wire.server_shut = true;
        Ok(())
    }

    fn apply(&mut self, knobs: &SocketKnobs, _: Option<&SocketKnobs>) -> io::Result<()> {
        self.0.borrow_mut().flow.nodelay = knobs.nodelay;
        Ok(())
    }

    fn outstanding_bytes(&self) -> io::Result<u64> {
        self.0.borrow().told().map(Flow::outstanding_bytes)
    }

    fn tcp_info(&self) -> io::Result<TcpInfo> {
        let wire = self.0.borrow();
        wire.told().map(|flow| flow.tcp_info(wire.window_bytes as u32 / 2))
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut wire = self.0.borrow_mut();
        wire.server_closed = true;
        if !wire.to_server.is_empty() {
            wire.reset();
        }
    }
}

/// An error as the kernel gives it.
fn failure(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// Takes `count` bytes off the front.
fn take(queue: &mut VecDeque<u8>, count: usize) -> Vec<u8> {
    let (front, back) = queue.as_slices();
    let of_front = count.min(front.len());
    let taken = [&front[..of_front], &back[..count - of_front]].concat();
    queue.drain(..count);
    taken
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    /// What happens on a connection.
    #[derive(Debug, Clone, Copy)]
    enum Act {
        /// The client sends a byte,
        Send,
        /// closes its side,
        Half,
        /// closes both,
        Close,
        /// or resets the connection.
        Reset,
        /// The server calls.
        Read,
        Write,
        Shut,
        Cork,
        Apply,
    }
    use Act::*;

    type Outcome = Result<usize, Option<i32>>;

    fn call(socket: &mut impl Transport, act: Act) -> Outcome {
        let unit = |done: io::Result<()>| done.map(|()| 0);
        let outcome = match act {
            Read => socket.read(&mut [0]),
            Write => socket.write(b"x"),
            Shut => unit(socket.shutdown_write()),
            Cork => unit(socket.set_cork(true)),
            _ => unit(socket.apply(&SocketKnobs::default(), None)),
        };
        outcome.map_err(|error| error.raw_os_error())
    }

    fn simulated(acts: &[Act]) -> Vec<Outcome> {
        let clock = Rc::new(Cell::new(1));
        let (mut server, client) = pipe(1000, Dice::new(0), Faults::default(), clock);
        let mut outcomes = Vec::new();
        for &act in acts {
            match act {
                Send => client.send(b"x"),
                Half => client.close_half(),
                Close => client.close(),
                Reset => client.reset(),
                _ => outcomes.push(call(&mut server, act)),
            }
            client.deliver();
        }
        outcomes
    }

    /// A server's socket, of which readiness is awaited.
    struct Kernel {
        server: mio::net::TcpStream,
        poll: mio::Poll,
    }

    impl Kernel {
        fn wait(&mut self, happened: impl Fn(&mio::event::Event) -> bool) {
            let mut events = mio::Events::with_capacity(8);
            loop {
                self.poll.poll(&mut events, None).unwrap();
                if events.iter().any(&happened) {
                    return;
                }
            }
        }
    }

    fn real(acts: &[Act]) -> Vec<Outcome> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Some(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let (mut server, poll) = (mio::net::TcpStream::from_std(server), mio::Poll::new().unwrap());
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
        poll.registry().register(&mut server, mio::Token(0), interest).unwrap();
        let mut kernel = Kernel { server, poll };
        let mut outcomes = Vec::new();
        let is_down = |event: &mio::event::Event| event.is_read_closed() && event.is_write_closed();
        for &act in acts {
            match (act, &client) {
                (Send, Some(client)) => {
                    io::Write::write_all(&mut &*client, b"x").unwrap();
                    kernel.wait(mio::event::Event::is_readable);
                }
                (Half, Some(client)) => {
                    client.shutdown(std::net::Shutdown::Write).unwrap();
                    kernel.wait(mio::event::Event::is_read_closed);
                }
                (Close, Some(_)) => {
                    client = None;
                    kernel.wait(mio::event::Event::is_read_closed);
                }
                (Reset, Some(open)) => {
                    socket2::SockRef::from(open).set_linger(Some(Default::default())).unwrap();
                    client = None;
                    kernel.wait(is_down);
                }
                // What is written to a client that is gone is answered with a reset.
                (Write, None) => {
                    outcomes.push(call(&mut kernel.server, act));
                    if outcomes.last() == Some(&Ok(1)) {
                        kernel.wait(is_down);
                    }
                }
                _ => outcomes.push(call(&mut kernel.server, act)),
            }
        }
        outcomes
    }

    /// A simulated connection that is reset fails as the kernel's does.
    #[test]
    fn a_reset_is_told_as_the_kernel_tells_it() {
        const RESET: Outcome = Err(Some(libc::ECONNRESET));
        const PIPE: Outcome = Err(Some(libc::EPIPE));
        const WAIT: Outcome = Err(Some(libc::EAGAIN));
        const GONE: Outcome = Err(Some(libc::ENOTCONN));
        let cases: [(&[Act], &[Outcome]); 10] = [
            (&[Read, Reset, Write], &[WAIT, RESET]),
            (&[Reset, Read, Read, Write, Write], &[RESET, Ok(0), PIPE, PIPE]),
            (&[Reset, Write, Write, Read], &[RESET, PIPE, Ok(0)]),
            (&[Send, Reset, Read, Read, Read, Write], &[Ok(1), RESET, Ok(0), PIPE]),
            (&[Send, Reset, Write, Read, Read, Write], &[RESET, Ok(1), Ok(0), PIPE]),
            (&[Send, Half, Reset, Read, Read, Write, Write], &[Ok(1), Ok(0), PIPE, PIPE]),
            (&[Close, Write, Write, Read, Write], &[Ok(1), PIPE, Ok(0), PIPE]),
            (&[Shut, Reset, Read, Read, Write], &[Ok(0), RESET, Ok(0), PIPE]),
            (&[Shut, Half, Read, Write], &[Ok(0), Ok(0), PIPE]),
            (&[Reset, Cork, Apply, Shut, Read, Shut], &[Ok(0), Ok(0), GONE, RESET, GONE]),
        ];
        for (acts, outcomes) in cases {
            assert_eq!(real(acts), outcomes, "the kernel: {acts:?}");
            assert_eq!(simulated(acts), outcomes, "the simulation: {acts:?}");
        }
    }
}

//! What a kernel does for a server: a queue of connections for each listener, and the readiness of
//! sockets.
//!
//! Readiness is edge-triggered, as epoll's is: something is reported of a socket when something has
//! happened to it, and then everything that is true of it at that moment. So what happens between
//! two polls is merged. Beyond that it may be late, for nothing, or for a socket that is closed.

use super::Dice;
use super::faults::Faults;
use super::pipe::{ClientEnd, ServerEnd};
use crate::reactor::acceptor::Queue;
use crate::reactor::turn::{ACCEPTORS_FROM, Readiness};
use crate::server::Door;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// The simulated kernel, which several hold.
#[derive(Debug, Clone)]
pub(crate) struct Kernel(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    dice: Dice,
    faults: Faults,
    listeners: [Listener; 2],
    /// No descriptor is left but those in reserve.
    starved: bool,
    /// So many connections will fail between their announcement and accept.
    aborts: usize,
    /// So many registrations will fail.
    registrations_refused: usize,
    registered: BTreeMap<usize, Registered>,
    /// Numbers that were registered and are not any more.
    gone: VecDeque<usize>,
    accept_calls: usize,
    /// The port of the connection that was accepted last.
    accepted: u16,
    stale_reports: u64,
}

/// A listening socket.
#[derive(Debug, Default)]
struct Listener {
    /// Who waits to be accepted.
    queue: VecDeque<ServerEnd>,
    /// A connection has come since that was last reported.
    knocked: bool,
    /// The descriptor in reserve was given up.
    reserve_used: bool,
}

/// The queue of one listener, to accept from.
#[derive(Debug)]
pub(crate) struct Entrance {
    kernel: Kernel,
    nth: usize,
}

#[derive(Debug)]
struct Registered {
    end: ClientEnd,
    /// For how many polls its readiness has been held back.
    held_polls: usize,
}

impl Kernel {
    pub(crate) fn new(dice: Dice, faults: Faults) -> Kernel {
        Kernel(Rc::new(RefCell::new(State {
            dice,
            faults,
            listeners: Default::default(),
            starved: false,
            aborts: 0,
            registrations_refused: 0,
            registered: BTreeMap::new(),
            gone: VecDeque::new(),
            accept_calls: 0,
            accepted: 0,
            stale_reports: 0,
        })))
    }

    /// The queue of the listener behind `door`.
    pub(crate) fn entrance(&self, door: Door) -> Entrance {
        Entrance { kernel: self.clone(), nth: nth_of(door) }
    }

    /// A client connects.
    pub(crate) fn connect(&self, end: ServerEnd, door: Door) {
        let listener = &mut self.0.borrow_mut().listeners[nth_of(door)];
        listener.queue.push_back(end);
        listener.knocked = true;
    }

    pub(crate) fn set_starved(&self, starved: bool) {
        self.0.borrow_mut().starved = starved;
    }

    pub(crate) fn abort_next(&self) {
        self.0.borrow_mut().aborts += 1;
    }

    pub(crate) fn refuse_next_registration(&self) {
        self.0.borrow_mut().registrations_refused += 1;
    }

    /// How often `accept` was called.
    pub(crate) fn accept_calls(&self) -> usize {
        self.0.borrow().accept_calls
    }

    /// How often readiness was reported for a connection that was closed.
    pub(crate) fn stale_reports(&self) -> u64 {
        self.0.borrow().stale_reports
    }

    /// The public listener is closed: who waits is turned away.
    pub(crate) fn close_public_queue(&self) {
        self.0.borrow_mut().listeners[nth_of(Door::Public)].queue.clear();
    }

    /// How many wait to be accepted.
    pub(crate) fn queue_len(&self) -> usize {
        self.0.borrow().listeners.iter().map(|listener| listener.queue.len()).sum()
    }

    pub(crate) fn register(&self, socket: &mut ServerEnd, number: usize) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.registrations_refused > 0 {
            state.registrations_refused -= 1;
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        state.registered.insert(number, Registered { end: socket.other(), held_polls: 0 });
        Ok(())
    }

    /// Whether a poll would return at once.
    pub(crate) fn is_pending(&self) -> bool {
        let state = self.0.borrow();
        let live =
            |registered: &Registered| !registered.end.is_abandoned() && registered.end.has_news();
        let knocked = |listener: &Listener| listener.knocked;
        state.listeners.iter().any(knocked) || state.registered.values().any(live)
    }

    /// What has happened since the last poll.
    pub(crate) fn poll(&self) -> Vec<Readiness> {
        let mut guard = self.0.borrow_mut();
        let state = &mut *guard;
        state.forget_closed();
        let mut reports = Vec::new();
        for (nth, listener) in state.listeners.iter_mut().enumerate() {
            if std::mem::take(&mut listener.knocked) {
                reports.push(readiness(ACCEPTORS_FROM + nth, true, false, false));
            }
        }
        for (&number, registered) in &mut state.registered {
            registered.end.deliver();
            let delayed = state.dice.once_in(usize::from(state.faults.delays));
            if delayed && registered.held_polls < HELD_POLLS_MAX {
                registered.held_polls += 1;
                continue;
            }
            registered.held_polls = 0;
            if let Some(news) = registered.end.take_news() {
                let report = readiness(number, news.readable, news.writable, news.hangup);
                reports.push(Readiness { error: news.error, ..report });
            }
        }
        state.add_nonsense(&mut reports);
        // The order is the kernel's own business.
        for at in (1..reports.len()).rev() {
            reports.swap(at, state.dice.roll(at + 1));
        }
        reports
    }
}

impl State {
    fn forget_closed(&mut self) {
        let gone = &mut self.gone;
        self.registered.retain(|&number, registered| {
            let closed = registered.end.is_abandoned();
            if closed {
                gone.push_back(number);
                // What is still under way is answered with a reset.
                registered.end.deliver();
            }
            !closed
        });
        while self.gone.len() > GONE_MAX {
            self.gone.pop_front();
        }
    }

    /// Readiness that is none, and readiness of those that are gone.
    fn add_nonsense(&mut self, reports: &mut Vec<Readiness>) {
        let State { dice, faults, registered, gone, stale_reports, .. } = self;
        for &number in registered.keys() {
            if dice.once_in(usize::from(faults.spurious)) {
                let [readable, writable, hangup] = [(); 3].map(|()| dice.once_in(2));
                reports.push(readiness(number, readable, writable, hangup));
            }
        }
        if !gone.is_empty() && dice.once_in(usize::from(faults.stale)) {
            let number = gone[dice.roll(gone.len())];
            reports.push(readiness(number, true, true, true));
            *stale_reports += 1;
        }
    }
}

fn readiness(token: usize, readable: bool, writable: bool, hangup: bool) -> Readiness {
    Readiness { token, readable, writable, hangup, error: false }
}

impl Queue for Entrance {
    type Socket = ServerEnd;

    fn accept(&mut self) -> io::Result<(ServerEnd, SocketAddr)> {
        let state = &mut *self.kernel.0.borrow_mut();
        state.accept_calls += 1;
        let listener = &mut state.listeners[self.nth];
        // The descriptor is looked for first, whether anybody waits or not (do_accept,
        // net/socket.c).
        if state.starved && !listener.reserve_used {
            let error =
                *state.dice.pick(&[libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM]);
            return Err(io::Error::from_raw_os_error(error));
        }
        let Some(end) = listener.queue.pop_front() else {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        };
        if state.aborts > 0 {
            state.aborts -= 1;
            // Linux accepts a connection that is reset in the queue; accept(2) permits an error, too.
            end.other().reset();
            if state.dice.once_in(2) {
                return Err(io::Error::from_raw_os_error(libc::ECONNABORTED));
            }
        }
        state.accepted = state.accepted % u16::MAX + 1;
        end.other().note_accepted(state.accepted);
        Ok((end, SocketAddr::from(([127, 0, 0, 1], state.accepted))))
    }

    fn release_reserve(&mut self) {
        self.kernel.0.borrow_mut().listeners[self.nth].reserve_used = true;
    }

    fn renew_reserve(&mut self) {
        self.kernel.0.borrow_mut().listeners[self.nth].reserve_used = false;
    }
}

/// The place of a door's listener among those of the server: the public ones come first.
fn nth_of(door: Door) -> usize {
    match door {
        Door::Public => 0,
        Door::Admin => 1,
    }
}

const HELD_POLLS_MAX: usize = 3;
const GONE_MAX: usize = 8;

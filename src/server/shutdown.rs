//! Going down without losing what was acknowledged, and without a storm of reconnections.
//!
//! 1. Nothing new is begun: the listeners are closed, `/readyz` says 503, a publish that arrives
//!    on an open connection is answered with 503, a subscriber is told to come again.
//! 2. Publishes under way are finished and answered. A publisher's endless event stream is
//!    answered at its next event border.
//! 3. The streams end one by one, each behind its last event, with a `retry:` of its own and the
//!    last chunk. Ending all at once would bring all of them to the next server at once.
//! 4. At the deadline, whatever is still open is cut.
//!
//! The admin listener serves until no subscriber and no publisher is left, so that all of this can be
//! watched. Its own connections never hold the server up: a viewer of `/live` reconnects whenever its
//! stream ends.

use super::body::Sink;
use super::connection::{Connection, ConnectionKey, Door, Phase};
use super::{Platform, Server};
use crate::observe::counters::CloseReason;

/// Whether the server is going down, and how far that has come.
#[derive(Debug)]
pub(super) enum Shutdown {
    Running,
    Draining(Draining),
    Over,
}

#[derive(Debug)]
pub(super) struct Draining {
    begun_ns: u64,
    deadline_ns: u64,
    next_ns: u64,
    /// When the first stream was ended: after the publishes under way, or without them when they
    /// take too long.
    streams: Option<Streams>,
    /// When the last answers of the admin listener are cut. Set when only its connections are left.
    parting_ns: Option<u64>,
}

/// The pace at which streams end.
#[derive(Debug)]
struct Streams {
    begun_ns: u64,
    window_ns: u64,
    count: u64,
    ended: u64,
    hand: u32,
}

impl Shutdown {
    pub fn is_under_way(&self) -> bool {
        !matches!(self, Shutdown::Running)
    }

    pub fn next_ns(&self) -> Option<u64> {
        match self {
            Shutdown::Draining(draining) => Some(draining.next_ns),
            Shutdown::Running | Shutdown::Over => None,
        }
    }
}

impl<P: Platform> Server<P> {
    /// Begins to go down. Once begun, it is not begun again.
    pub fn drain(&mut self) {
        if self.shutdown.is_under_way() {
            return;
        }
        let drain_ns = self.config.times.drain_ms * 1_000_000;
        self.shutdown = Shutdown::Draining(Draining {
            begun_ns: self.now_ns,
            deadline_ns: self.now_ns + drain_ns,
            next_ns: self.now_ns,
            streams: None,
            parting_ns: None,
        });
        log::info!(
            "draining connections={} drain_ms={}",
            self.connections.len(),
            self.config.times.drain_ms
        );
    }

    /// Goes down at once.
    pub fn stop(&mut self) {
        if self.connections.len() > 0 {
            log::warn!("stopped with connections={} open", self.connections.len());
        }
        self.shutdown = Shutdown::Over;
    }

    /// Whether new connections are to be accepted.
    pub fn accepts(&self) -> bool {
        !self.shutdown.is_under_way()
    }

    /// Whether the server is down.
    pub fn is_over(&self) -> bool {
        matches!(self.shutdown, Shutdown::Over)
    }

    pub(super) fn advance_shutdown(&mut self) {
        let Shutdown::Draining(draining) = &self.shutdown else { return };
        if self.now_ns >= draining.deadline_ns {
            return self.cut();
        }
        if self.connections.len() == 0 {
            log::info!("drained took_ms={}", (self.now_ns - draining.begun_ns) / 1_000_000);
            self.shutdown = Shutdown::Over;
            return;
        }
        if self.now_ns < draining.next_ns {
            return;
        }
        if self.admission.public() > 0 {
            let publishing = self.end_requests();
            self.end_streams(publishing);
        } else {
            self.end_looking();
        }
    }

    /// Ends the connections of the admin listener, the only ones that are left. Answers and the ends of
    /// streams may take [`PARTING_NS`].
    fn end_looking(&mut self) {
        let Shutdown::Draining(draining) = &mut self.shutdown else { return };
        draining.next_ns = self.now_ns + TICK_NS;
        let parting_ns = *draining.parting_ns.get_or_insert(self.now_ns + PARTING_NS);
        if self.now_ns >= parting_ns {
            draining.deadline_ns = self.now_ns;
            return;
        }
        let (mut waiting, mut streams) = (Vec::new(), Vec::new());
        for (key, connection) in self.connections.iter() {
            match connection.phase {
                Phase::Head if connection.private.is_empty() => waiting.push(key),
                Phase::Stream => streams.push(key),
                _ => {}
            }
        }
        waiting.into_iter().for_each(|key| self.close(key, CloseReason::Done));
        streams.into_iter().for_each(|key| self.end_stream(key, CloseReason::Drained));
    }

    /// Closes connections that wait for a request and answers event streams at a border; gives
    /// the number of publishes that are still under way.
    fn end_requests(&mut self) -> usize {
        let (mut idle, mut feeds, mut publishing) = (Vec::new(), Vec::new(), 0);
        let public = self.connections.iter().filter(|(_, one)| one.door == Door::Public);
        for (key, connection) in public {
            match &connection.phase {
                Phase::Head if !connection.has_begun_request() && connection.private.is_empty() => {
                    idle.push(key)
                }
                Phase::Body(body) => match &body.sink {
                    Sink::Feed(feed) if feed.decoder.at_boundary() => feeds.push(key),
                    _ => publishing += 1,
                },
                _ => {}
            }
        }
        for key in idle {
            self.close(key, CloseReason::Done);
        }
        for key in feeds {
            let phase = std::mem::replace(&mut self.connections[key].phase, Phase::Head);
            if let Phase::Body(body) = phase {
                let why = "the server is going down";
                self.refuse_body(key, *body, 503, why, CloseReason::Drained);
                self.flush_connection(key);
            }
        }
        publishing
    }

    /// Ends as many streams as the pace demands.
    fn end_streams(&mut self, publishing: usize) {
        let now_ns = self.now_ns;
        let slots = self.connections.slots();
        let of_subscriber =
            |connection: &Connection<_>| connection.door == Door::Public && connection.is_stream();
        let count = self.connections.iter().filter(|(_, one)| of_subscriber(one)).count();
        let Shutdown::Draining(draining) = &mut self.shutdown else { return };
        draining.next_ns = now_ns + TICK_NS;
        let drain_ns = draining.deadline_ns - draining.begun_ns;
        let patience_over = now_ns - draining.begun_ns >= drain_ns / 4;
        if draining.streams.is_none() && (publishing == 0 || patience_over) {
            // A quarter of the time is left to those that are slow to take their last bytes.
            let time_left_ns = draining.deadline_ns - now_ns;
            let window_ns = (time_left_ns / 4 * 3).min(count as u64 * TICK_NS).max(1);
            draining.streams = Some(Streams {
                begun_ns: now_ns,
                window_ns,
                count: count as u64,
                ended: 0,
                hand: 0,
            });
        }
        let Some(streams) = &mut draining.streams else { return };
        let elapsed_ns = (now_ns - streams.begun_ns + TICK_NS).min(streams.window_ns);
        let target = (u128::from(streams.count) * u128::from(elapsed_ns))
            .div_ceil(u128::from(streams.window_ns)) as u64;
        let mut due = Vec::new();
        while streams.ended < target && streams.hand < slots {
            let found = self.connections.at(streams.hand);
            streams.hand += 1;
            if let Some((key, connection)) = found
                && connection.door == Door::Public
                && matches!(connection.phase, Phase::Stream)
            {
                streams.ended += 1;
                due.push(key);
            }
        }
        for key in due {
            self.end_stream(key, CloseReason::Drained);
        }
    }

    /// The deadline: everything that is still open is cut.
    fn cut(&mut self) {
        let open: Vec<ConnectionKey> = self.connections.iter().map(|(key, _)| key).collect();
        if self.admission.public() > 0 {
            log::warn!("the drain's deadline has come: connections={} are cut", open.len());
        }
        for key in open {
            let reason = match self.connections[key].phase {
                Phase::Lingering(reason) => reason,
                _ => CloseReason::Cut,
            };
            self.close(key, reason);
        }
        self.shutdown = Shutdown::Over;
    }
}

const TICK_NS: u64 = 10_000_000;
const PARTING_NS: u64 = 1_000_000_000;

//! Looks at a simulated world from the admin listener, held against what its kernel knows.

use super::callers::WAITED_TURNS_MAX;
use super::{Checked, World};
use crate::observe::counters::{CloseReason, Counters};
use crate::server::Door;
use crate::testing::answer::Answer;
use crate::testing::caller::{Ask, Caller};

impl World {
    /// Somebody looks at all streams several times at once. That changes nothing that is counted, and
    /// what is seen is so.
    pub(super) fn look(&mut self) -> Checked {
        let admin = self.turns.acceptors().any(|acceptor| acceptor.door() == Door::Admin);
        self.rest()?;
        // A listener that had no descriptor may pause.
        let pauses = self.clock.get() < self.starved_until_ns + PAUSE_NS;
        if !admin || pauses || self.turns.server.is_over() || self.kernel.queue_len() > 0 {
            return Ok(());
        }
        let before = self.turns.server.counters().clone();
        let streams = self.turns.server.load().streams as u64;
        let answers = self.answers_to_look()?;
        check_counters(&before, self.turns.server.counters(), streams)?;
        answers.iter().try_for_each(|answer| self.check_rows(answer))
    }

    /// The answers; fewer than there should be if the connection was not accepted.
    fn answers_to_look(&mut self) -> Result<Vec<Answer>, String> {
        let line = self.connect(1 << 20, Door::Admin);
        line.send(&Caller::default().ask(Ask::Connections("sort=lag&limit=200"), LOOKS));
        let (mut answers, mut bytes) = (Vec::new(), Vec::new());
        let mut waited_turns = 0;
        while waited_turns < WAITED_TURNS_MAX {
            if answers.len() == LOOKS || line.is_over() || self.turns.server.is_over() {
                line.close();
                return Ok(answers);
            }
            self.turn()?;
            let received = line.receive(usize::MAX);
            waited_turns = if received.is_empty() { waited_turns + 1 } else { 0 };
            bytes.extend(received);
            while let Some((answer, len)) = Answer::read(&bytes, false)? {
                bytes.drain(..len);
                answers.push(answer);
            }
        }
        line.close();
        Err(format!("{} of {LOOKS} looks are answered", answers.len()))
    }

    #[cfg(not(feature = "admin"))]
    fn check_rows(&self, _: &Answer) -> Checked {
        Ok(())
    }

    /// No stream that is well stands in front of one that is stuck, and none is said to suffer from
    /// losses that are long past.
    #[cfg(feature = "admin")]
    fn check_rows(&self, answer: &Answer) -> Checked {
        let json: serde_json::Value =
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        let mut well = None;
        for row in json["connections"].as_array().into_iter().flatten() {
            let peer = row["peer"].as_str().unwrap_or_default();
            let of_peer = |port: u16| peer.ends_with(&format!(":{port}"));
            let mut lines = self.subscribers.iter().filter_map(|party| party.line.as_ref());
            let Some(line) = lines.find(|line| of_peer(line.port())) else { continue };
            let Some(glimpse) = line.glimpse() else { continue };
            let ago_ns = |then_ns: u64| self.clock.get().saturating_sub(then_ns);
            let lost_lately = glimpse.lost_ns.is_some_and(|lost| ago_ns(lost) < LOSS_LASTS_NS);
            if row["verdict"] == "network" && !lost_lately {
                return Err(format!("nothing was lost lately of {row}"));
            }
            let settled = ago_ns(glimpse.since_ns) > SETTLED_NS;
            let ladder = &row["ladder"];
            let waiting = ladder["behind"]["bytes"] != 0 || ladder["private"]["bytes"] != 0;
            match glimpse.outstanding {
                true if settled && well.is_some() => {
                    return Err(format!("{row} is stuck, and stands behind {well:?}"));
                }
                false if settled && !waiting => well = Some(peer.to_string()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What is counted stays as it is, unless something else has happened in the meantime. A stall may be
/// seen for the first time by the sweep: once for each stream.
fn check_counters(before: &Counters, after: &Counters, streams: u64) -> Checked {
    if after.nagle_stalls - before.nagle_stalls > streams {
        let count = after.nagle_stalls - before.nagle_stalls;
        return Err(format!("{count} stalls of {streams} streams in {LOOKS} looks"));
    }
    let quiet = |of: &Counters| {
        let closes = CloseReason::ALL.map(|reason| of.closes_of(reason));
        (of.heartbeats, closes, of.write, of.topics_forgotten)
    };
    let counted = |of: &Counters| {
        let events = [of.published, of.duplicates, of.publishes_refused, of.gaps, of.events_lost];
        let connections = [of.subscribed, of.accepted, of.over_limit, of.requests];
        (events, connections, of.refusals)
    };
    let (was, is) = (counted(before), counted(after));
    match quiet(before) == quiet(after) && was != is {
        true => Err(format!("a look has changed {was:?} to {is:?}")),
        false => Ok(()),
    }
}

const LOOKS: usize = 4;
const PAUSE_NS: u64 = 50_000_000;
/// A loss counts against the network for as long as it can be among what two looks are compared by.
#[cfg(feature = "admin")]
const LOSS_LASTS_NS: u64 = 13_000_000_000;
/// Longer than the sweep takes to come by, and to look.
#[cfg(feature = "admin")]
const SETTLED_NS: u64 = 4_000_000_000;

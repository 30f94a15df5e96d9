//! A topic's subscribers, and how far the current pass over them has come.
//!
//! A flush visits every subscriber once. With many of them it is cut into slices, between which
//! the loop polls, subscribers come and go, and further events are published. The pass is
//! therefore circular: it has a position and a number of visits that are still owed. An event
//! published in mid-pass owes every subscriber one more visit from wherever the pass stands, so
//! those that were not visited yet take it with the same call as the events before it.

/// A subscriber, by the number that its owner has given it. It means nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberKey(pub u32);

/// A subscriber's place in the list of one topic's subscribers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot(u32);

/// The subscribers of one topic, in an order that changes.
#[derive(Debug, Default)]
pub struct Fanout {
    subscribers: Vec<SubscriberKey>,
    /// The next subscriber to visit. Invariant: within the list unless the list is empty.
    position: u32,
    /// Visits owed. Invariant: at most the number of subscribers.
    owed: u32,
    pending: Pending,
    /// What was published since the pass last came round to the first subscriber,
    since_round: Amount,
    /// and in the round before that.
    round_before: Amount,
    /// When the pass was begun, or begun again while it lasted.
    pass_began_ns: u64,
    /// Its flush is due at a time that somebody keeps.
    pub lingering: bool,
}

/// A number of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub events: u64,
    /// Their bytes, framing included.
    pub bytes: u64,
}

/// Events that no pass has taken up yet, because the flush policy is waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// How many.
    pub amount: Amount,
    /// When the oldest of them was published, in nanoseconds of the server's clock; meaningless
    /// while there are none.
    pub since_ns: u64,
}

impl Fanout {
    /// Adds a subscriber and gives its slot. It is not owed a visit itself: whoever adds it also
    /// sends it what it has missed.
    pub fn add(&mut self, subscriber: SubscriberKey) -> Slot {
        self.subscribers.push(subscriber);
        // It may stand between the pass and the last one that is owed a visit.
        self.owed += u32::from(self.owed > 0);
        Slot((self.subscribers.len() - 1) as u32)
    }

    /// Removes the subscriber in `slot`. Gives the subscriber that now stands in that slot, if
    /// the last one had to move there.
    pub fn remove(&mut self, slot: Slot) -> Option<SubscriberKey> {
        self.subscribers.swap_remove(slot.0 as usize);
        // A crowd that has left leaves no memory behind: topics stay longer than their subscribers.
        if self.subscribers.capacity() > 4 * self.subscribers.len() + SUBSCRIBERS_MIN {
            self.subscribers.shrink_to(2 * self.subscribers.len());
        }
        let count = self.subscribers.len() as u32;
        if self.owed > 0 {
            // The one that moved may have gone from a place still to be visited to one that is
            // behind. Owing everybody a visit again is right whichever it was, and cheap: those
            // that are up to date are passed over.
            self.owed = count;
        }
        if self.position >= count {
            self.position = 0;
        }
        self.subscribers.get(slot.0 as usize).copied()
    }

    /// Notes that an event of `bytes` was published at `now_ns`.
    pub fn note_published(&mut self, bytes: u64, now_ns: u64) {
        if self.pending.amount.events == 0 {
            self.pending.since_ns = now_ns;
        }
        self.pending.amount.add(bytes);
        self.since_round.add(bytes);
    }

    /// Owes every subscriber a visit, and considers what is pending taken up.
    pub fn begin_pass(&mut self, now_ns: u64) {
        self.pass_began_ns = now_ns;
        self.owed = self.subscribers.len() as u32;
        self.pending = Pending::default();
        if self.owed == 0 {
            self.end_pass();
        }
    }

    /// The next subscriber to visit, while any visit is owed.
    pub fn next_visit(&mut self) -> Option<SubscriberKey> {
        if self.owed == 0 {
            return None;
        }
        let subscriber = self.subscribers.get(self.position as usize).copied();
        debug_assert!(subscriber.is_some(), "the position is within the list");
        self.owed -= 1;
        self.position += 1;
        if self.position as usize == self.subscribers.len() {
            self.position = 0;
            self.round_before = std::mem::take(&mut self.since_round);
        }
        if self.owed == 0 {
            self.end_pass();
        }
        subscriber
    }

    /// Everybody has what was published before the last pass was begun.
    fn end_pass(&mut self) {
        self.round_before = Amount::default();
        self.since_round = self.pending.amount;
    }

    /// What is waiting for a pass.
    pub fn pending(&self) -> Pending {
        self.pending
    }

    /// At least what was published and not every subscriber has been offered yet. The log must not
    /// evict any of it: a reader that loses events because it was never offered them is not slow.
    pub fn unserved(&self) -> Amount {
        Amount {
            events: self.since_round.events + self.round_before.events,
            bytes: self.since_round.bytes + self.round_before.bytes,
        }
    }

    /// The subscriber that a further call of [`Fanout::next_visit`] would give.
    pub fn upcoming(&self) -> Option<SubscriberKey> {
        let next = self.subscribers.get(self.position as usize).copied();
        next.filter(|_| self.owed > 0)
    }

    /// When the latest pass was begun, in nanoseconds of the server's clock. If it was begun while
    /// an earlier one lasted, that is the later of the two times.
    pub fn pass_began_ns(&self) -> u64 {
        self.pass_began_ns
    }

    /// Whether visits are owed.
    pub fn in_pass(&self) -> bool {
        self.owed > 0
    }

    /// The number of subscribers.
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether nobody is subscribed.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// The subscriber in `slot`.
    pub fn in_slot(&self, slot: Slot) -> Option<SubscriberKey> {
        self.subscribers.get(slot.0 as usize).copied()
    }

    /// The subscribers, in no particular order.
    pub fn subscribers(&self) -> &[SubscriberKey] {
        &self.subscribers
    }
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.events += 1;
        self.bytes += bytes;
    }
}

/// Room for so many is kept.
const SUBSCRIBERS_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn memory_follows_the_number_of_subscribers() {
        let mut fanout = with(10_000);
        for left in (0..10_000).rev() {
            fanout.remove(Slot(left / 2));
            let capacity = fanout.subscribers.capacity();
            assert!(capacity <= 4 * left as usize + SUBSCRIBERS_MIN, "{capacity} for {left}");
        }
    }

    fn with(count: u32) -> Fanout {
        let mut fanout = Fanout::default();
        for connection in 0..count {
            assert_eq!(fanout.add(SubscriberKey(connection)), Slot(connection));
        }
        fanout
    }

    fn visit(fanout: &mut Fanout, count: usize) -> Vec<u32> {
        (0..count).map_while(|_| fanout.next_visit()).map(|next| next.0).collect()
    }

    #[test]
    fn a_pass_visits_everybody_once_and_the_next_starts_where_it_ended() {
        let mut fanout = with(3);
        assert_eq!(fanout.next_visit(), None);
        fanout.begin_pass(0);
        assert_eq!(visit(&mut fanout, 2), [0, 1]);
        assert_eq!(fanout.upcoming(), Some(SubscriberKey(2)));
        fanout.begin_pass(0);
        assert_eq!(visit(&mut fanout, 9), [2, 0, 1]);
        assert_eq!(fanout.upcoming(), None);
        assert!(!fanout.in_pass());
    }

    /// Whoever is removed at whatever point of a pass: all others are visited.
    #[test]
    fn removal_in_mid_pass_skips_nobody() {
        for count in 1..=6 {
            for visited in 0..=count {
                for slot in 0..count {
                    let mut fanout = with(count);
                    fanout.begin_pass(0);
                    let mut seen: BTreeSet<u32> =
                        visit(&mut fanout, visited as usize).into_iter().collect();
                    let moved = fanout.remove(Slot(slot));
                    assert_eq!(moved, (slot + 1 < count).then_some(SubscriberKey(count - 1)));
                    seen.extend(visit(&mut fanout, 100));
                    seen.insert(slot);
                    assert_eq!(seen, (0..count).collect(), "{count} {visited} {slot}");
                    assert!(!fanout.in_pass());
                }
            }
        }
    }

    /// Whoever comes at whatever point of a pass that began anywhere: all others are visited.
    #[test]
    fn addition_in_mid_pass_skips_nobody() {
        for count in 1..=6 {
            for start in 0..count {
                for visited in 0..count {
                    let mut fanout = with(count);
                    fanout.begin_pass(0);
                    visit(&mut fanout, start as usize);
                    fanout.begin_pass(0);
                    let mut seen: BTreeSet<u32> =
                        visit(&mut fanout, visited as usize).into_iter().collect();
                    fanout.add(SubscriberKey(100));
                    seen.extend(visit(&mut fanout, 100));
                    seen.remove(&100);
                    assert_eq!(seen, (0..count).collect(), "{count} {start} {visited}");
                }
            }
        }
    }

    #[test]
    fn pending_remembers_the_oldest() {
        let mut fanout = with(2);
        fanout.note_published(10, 5);
        fanout.note_published(20, 9);
        let amount = Amount { events: 2, bytes: 30 };
        assert_eq!(fanout.pending(), Pending { amount, since_ns: 5 });
        fanout.begin_pass(0);
        assert_eq!(fanout.pending(), Pending::default());
    }

    /// Under a steady stream of events a pass never ends, but what everybody has been offered is
    /// not counted for ever.
    #[test]
    fn what_is_unserved() {
        let mut fanout = with(10);
        for round in 1..100 {
            for _ in 0..5 {
                fanout.note_published(1, 0);
                fanout.begin_pass(0);
                visit(&mut fanout, 2);
            }
            assert!(fanout.in_pass());
            let events = fanout.unserved().events;
            assert!((5..=10).contains(&events), "{events} in round {round}");
        }
        fanout.note_published(1, 0);
        visit(&mut fanout, 100);
        assert_eq!(fanout.unserved().events, 1, "the one that no pass has taken up");
        fanout.begin_pass(0);
        visit(&mut fanout, 100);
        assert_eq!(fanout.unserved(), Amount::default());
    }

    #[test]
    fn without_subscribers_nothing_is_unserved() {
        let mut fanout = with(0);
        fanout.note_published(1, 0);
        fanout.begin_pass(0);
        assert_eq!(fanout.unserved(), Amount::default());
    }
}

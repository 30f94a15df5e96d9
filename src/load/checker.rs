//! What one subscriber has seen of a run, and what is wrong with it.
//!
//! Events are numbered from 0 in the order of their publication, so whoever subscribed before the
//! first must see 0, 1, 2, …. A number that is skipped is missing, until it turns up after all:
//! then it was out of order. A number that comes again is repeated.
//!
//! A server may say that events are lost. One notice pays for one loss, the next one that follows,
//! and for no more events than it says; what it says is itself held against what was skipped.

use super::notice::Notice;
use super::payload::Stamp;
use serde::{Deserialize, Serialize};

/// What is wrong, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offences {
    /// Events that a subscriber never got.
    pub missing: u64,
    /// Events that it got once more.
    pub repeated: u64,
    /// Events that it got behind later ones.
    pub reordered: u64,
    /// Events that are not as they were published.
    pub altered: u64,
    /// Streams that broke the rules of HTTP or of event streams.
    pub malformed: u64,
    /// Notices of a loss that say something else than what was lost.
    pub misreported: u64,
}

impl Offences {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.missing + self.besides_missing()
    }

    /// How many there are that no refusal to publish or to serve a stream explains.
    pub fn besides_missing(&self) -> u64 {
        self.repeated + self.reordered + self.altered + self.malformed + self.misreported
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Offences) {
        self.missing += other.missing;
        self.repeated += other.repeated;
        self.reordered += other.reordered;
        self.altered += other.altered;
        self.malformed += other.malformed;
        self.misreported += other.misreported;
    }
}

/// What an event is to the subscriber that got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The one that had to come.
    Next,
    /// A later one: so many before it have not come.
    Skipped(u64),
    /// A later one, and the notice before it had told of another loss than this.
    Misreported {
        /// Events that it may have told of.
        told: u64,
        /// Events before this one that have not come.
        skipped: u64,
    },
    /// One that was missing.
    Late,
    /// One that it has already.
    Repeated,
}

/// One subscriber's place in the run.
#[derive(Debug, Default)]
pub struct Checker {
    /// The number that must come next; `None` if that cannot be known, as after a reconnection
    /// without an id.
    next: Option<u64>,
    /// What had to come next when that was last known.
    forgotten: Option<u64>,
    /// Numbers that were skipped, as ranges in ascending order. Invariant: below `next`.
    holes: Vec<Hole>,
    /// What the server has said of a loss that is to follow.
    notice: Option<Box<Pending>>,
    /// Events that were lost as the server has said.
    pub told_lost: u64,
    /// Notices that told of more events than were lost of this run. They are wrong, unless events
    /// of somebody else were lost with them.
    pub overtold: u64,
    /// Events that it may have missed without a fault of the server's: it had no stream, or had come
    /// back without an id.
    pub unchecked: u64,
}

/// A notice whose loss has not been seen yet.
#[derive(Debug)]
struct Pending {
    notice: Notice,
    /// The event that the stream was to go on with has come.
    to_seen: bool,
}

#[derive(Debug, Clone, Copy)]
struct Hole {
    from: u64,
    to: u64,
    told: bool,
}

impl Checker {
    /// Of a subscriber whose first event must be number `next`, if that is known.
    pub fn new(next: Option<u64>) -> Checker {
        Checker { next, ..Checker::default() }
    }

    /// The number that must come next, if that can be known.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// It comes back with its last id. A notice that came last is told again, since it has none.
    pub fn come_back(&mut self) {
        self.notice = None;
    }

    /// It comes back without an id: what it missed meanwhile, nobody can say.
    pub fn forget_place(&mut self) {
        self.notice = None;
        self.forgotten = self.next.take().or(self.forgotten);
    }

    /// The server has said that events are lost to this subscriber, who has last seen `position`,
    /// if events have ids. That is a loss, but an honest one.
    ///
    /// # Errors
    /// How the notice contradicts that. Then it pays for nothing.
    pub fn note_notice(&mut self, mut notice: Notice, position: &[u8]) -> Result<(), String> {
        if let Some(before) = self.notice.take() {
            // The reader was overrun once more before it got anything.
            let both = before.notice.lost.zip(notice.lost);
            notice.lost = both.map(|(before, now)| before.saturating_add(now));
        } else if let Some(from) = notice.from.as_ref().filter(|_| !position.is_empty())
            && from.as_bytes() != position
        {
            let position = position.escape_ascii();
            return Err(format!(
                "a loss behind {from:?} to a reader that stands at \"{position}\""
            ));
        }
        self.notice = Some(Box::new(Pending { notice, to_seen: false }));
        Ok(())
    }

    /// Notes that an event with this id has come, whosever it is.
    pub fn note_id(&mut self, id: &[u8]) {
        if let Some(pending) = &mut self.notice {
            pending.to_seen |= pending.notice.to.as_ref().is_some_and(|to| to.as_bytes() == id);
        }
    }

    /// Notes an event of this run; `has_id` says whether it has an id, which was noted before.
    pub fn note(&mut self, stamp: Stamp, has_id: bool, offences: &mut Offences) -> Verdict {
        let seq = stamp.seq;
        let Some(next) = self.next else {
            let known = self.forgotten.take().unwrap_or(seq);
            self.unchecked += seq.saturating_sub(known);
            self.next = Some(seq + 1);
            self.notice = None;
            return Verdict::Next;
        };
        if seq < next {
            return self.note_old(seq, offences);
        }
        self.next = Some(seq + 1);
        match (self.notice.take(), seq - next) {
            (Some(pending), _) => {
                let elsewhere = has_id && pending.notice.to.is_some() && !pending.to_seen;
                let told = if elsewhere { Some(0) } else { pending.notice.lost };
                self.settle(told, elsewhere, next, seq, offences)
            }
            (None, 0) => Verdict::Next,
            (None, skipped) => {
                offences.missing += skipped;
                self.dig(next, seq, false);
                Verdict::Skipped(skipped)
            }
        }
    }

    /// What was skipped, from `from` up to `to`, is held against a notice of `told` events; `None`
    /// believes the server. If the notice is `wrong`, that is so whatever was skipped.
    fn settle(
        &mut self,
        told: Option<u64>,
        wrong: bool,
        from: u64,
        to: u64,
        offences: &mut Offences,
    ) -> Verdict {
        let skipped = to - from;
        let told = told.unwrap_or(skipped);
        let paid = told.min(skipped);
        self.told_lost += paid;
        self.dig(from, from + paid, true);
        offences.missing += skipped - paid;
        self.dig(from + paid, to, false);
        if wrong || told < skipped {
            offences.misreported += 1;
            return Verdict::Misreported { told, skipped };
        }
        self.overtold += u64::from(told > skipped);
        Verdict::Next
    }

    /// An event before the one that had to come.
    fn note_old(&mut self, seq: u64, offences: &mut Offences) -> Verdict {
        match self.fill(seq) {
            Some(Hole { told, .. }) => {
                if told {
                    self.told_lost -= 1;
                } else {
                    offences.missing -= 1;
                }
                offences.reordered += 1;
                Verdict::Late
            }
            None => {
                offences.repeated += 1;
                Verdict::Repeated
            }
        }
    }

    /// Whether all of the run's `events` have come or are counted as missing.
    pub fn has_all(&self, events: u64) -> bool {
        self.next.is_none_or(|next| next >= events)
    }

    /// The run is over, and has had so many `events`: what has not come by now is missing, unless
    /// the subscriber has no stream on which it could have come.
    pub fn finish(&mut self, events: u64, has_stream: bool, offences: &mut Offences) {
        let notice = self.notice.take();
        let Some(next) = self.next.replace(events) else {
            let known = self.forgotten.take().unwrap_or(events);
            self.unchecked += events.saturating_sub(known);
            return;
        };
        let outstanding = events.saturating_sub(next);
        if !has_stream {
            self.unchecked += outstanding;
            return;
        }
        let told = notice.map_or(0, |pending| pending.notice.lost.unwrap_or(outstanding));
        let paid = told.min(outstanding);
        self.told_lost += paid;
        self.overtold += u64::from(told > outstanding);
        offences.missing += outstanding - paid;
    }

    fn dig(&mut self, from: u64, to: u64, told: bool) {
        if from == to {
            return;
        }
        if self.holes.len() == HOLES_MAX {
            self.holes.remove(0); // so old that it would be called a repetition
        }
        self.holes.push(Hole { from, to, told });
    }

    /// Takes `seq` out of the hole that it is in, if there is one.
    fn fill(&mut self, seq: u64) -> Option<Hole> {
        let at = self.holes.iter().position(|hole| (hole.from..hole.to).contains(&seq))?;
        let hole = self.holes.remove(at);
        let rest = [Hole { to: seq, ..hole }, Hole { from: seq + 1, ..hole }];
        self.holes.splice(at..at, rest.into_iter().filter(|rest| rest.from < rest.to));
        Some(hole)
    }
}

const HOLES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(seq: u64) -> Stamp {
        Stamp { run: 1, seq, intended_ns: 0 }
    }

    fn check(next: Option<u64>, seqs: &[u64], expected: Offences) -> Checker {
        let (mut checker, mut offences) = (Checker::new(next), Offences::default());
        for &seq in seqs {
            checker.note(stamp(seq), true, &mut offences);
        }
        assert_eq!(offences, expected, "{seqs:?}");
        checker
    }

    #[test]
    fn offences() {
        let none = Offences::default();
        check(Some(0), &[0, 1, 2], none);
        check(None, &[7, 8], none);
        check(Some(0), &[1], Offences { missing: 1, ..none });
        check(Some(0), &[0, 3], Offences { missing: 2, ..none });
        check(Some(0), &[0, 0, 1], Offences { repeated: 1, ..none });
        check(Some(0), &[0, 2, 1, 3], Offences { reordered: 1, ..none });
        check(Some(0), &[0, 4, 2, 2], Offences { missing: 2, reordered: 1, repeated: 1, ..none });
    }

    /// Every order of every choice, with repetitions, of the numbers 0 to 3, five of them long: what
    /// came is accounted for.
    #[test]
    fn every_short_history_adds_up() {
        for history in 0..4u64.pow(5) {
            let seqs: Vec<u64> = (0..5).map(|place| history / 4u64.pow(place) % 4).collect();
            let (mut checker, mut offences) = (Checker::new(Some(0)), Offences::default());
            for &seq in &seqs {
                checker.note(stamp(seq), true, &mut offences);
            }
            checker.finish(4, true, &mut offences);
            let distinct = (0..4).filter(|seq| seqs.contains(seq)).count() as u64;
            assert_eq!(offences.repeated, 5 - distinct, "{seqs:?}");
            assert_eq!(offences.missing, 4 - distinct, "{seqs:?}");
            assert_eq!(offences.reordered > 0, has_inversion(&seqs), "{seqs:?}");
        }
    }

    /// Whether a number comes for the first time behind a larger one.
    fn has_inversion(seqs: &[u64]) -> bool {
        (0..seqs.len()).any(|at| {
            let first = !seqs[..at].contains(&seqs[at]);
            first && seqs[..at].iter().any(|&before| before > seqs[at])
        })
    }

    /// Any number of events skipped after any notice: what was told is paid for, and no more, and
    /// the next loss is not.
    #[test]
    fn one_notice_pays_for_one_loss() {
        for skipped in 0..6 {
            for lost in [None, Some(0), Some(1), Some(3), Some(5), Some(u64::MAX)] {
                let (mut checker, mut offences) = (Checker::new(Some(0)), Offences::default());
                checker.note(stamp(0), true, &mut offences);
                checker.note_notice(Notice { lost, ..Notice::default() }, b"").unwrap();
                let verdict = checker.note(stamp(1 + skipped), true, &mut offences);
                let told = lost.unwrap_or(skipped);
                let under = told < skipped;
                let context = format!("{skipped} skipped, {lost:?} told");
                assert_eq!(checker.told_lost, told.min(skipped), "{context}");
                assert_eq!(offences.missing, skipped.saturating_sub(told), "{context}");
                assert_eq!(offences.misreported, u64::from(under), "{context}");
                assert_eq!(checker.overtold, u64::from(told > skipped), "{context}");
                assert_eq!(verdict == Verdict::Next, !under, "{context}");
                let missing = offences.missing;
                checker.note(stamp(4 + skipped), true, &mut offences);
                assert_eq!(offences.missing, missing + 2, "{context}: told once, and once only");
            }
        }
    }

    fn between(from: &str, to: &str, lost: Option<u64>) -> Notice {
        Notice { from: Some(from.into()), to: Some(to.into()), lost, ..Notice::default() }
    }

    #[test]
    fn a_notice_says_where_the_loss_is() {
        let run = |notice: Notice, position: &str, ids: &[&str]| {
            let (mut checker, mut offences) = (Checker::new(Some(0)), Offences::default());
            checker.note(stamp(0), true, &mut offences);
            let noted = checker.note_notice(notice, position.as_bytes());
            ids.iter().for_each(|id| checker.note_id(id.as_bytes()));
            checker.note(stamp(3), !ids.is_empty(), &mut offences);
            (noted.is_ok(), checker.told_lost, offences.missing, offences.misreported)
        };
        assert_eq!(run(between("0", "3", None), "0", &["3"]), (true, 2, 0, 0));
        assert_eq!(run(between("0", "f", Some(3)), "0", &["f", "3"]), (true, 2, 0, 0), "foreign");
        assert_eq!(run(between("9", "3", None), "", &[]), (true, 2, 0, 0), "no ids to judge by");
        assert_eq!(run(between("0", "4", Some(2)), "0", &["3"]), (true, 0, 2, 1), "goes on before");
        // The caller counts what is wrong with the notice itself.
        assert_eq!(run(between("1", "3", Some(2)), "0", &["3"]), (false, 0, 2, 0), "stale");
    }

    /// A reader that is overrun twice before it gets anything is told twice.
    #[test]
    fn notices_in_a_row_are_added_up() {
        let (mut checker, mut offences) = (Checker::new(Some(0)), Offences::default());
        checker.note(stamp(0), true, &mut offences);
        checker.note_notice(between("0", "3", Some(2)), b"0").unwrap();
        checker.note_notice(between("0", "6", Some(3)), b"0").unwrap();
        checker.note_id(b"6");
        assert_eq!(checker.note(stamp(6), true, &mut offences), Verdict::Next);
        assert_eq!((checker.told_lost, checker.overtold, offences.count()), (5, 0, 0));
    }

    #[test]
    fn what_was_told_lost_and_comes_after_all_is_out_of_order() {
        let (mut checker, mut offences) = (Checker::new(Some(0)), Offences::default());
        checker.note_notice(Notice { lost: Some(2), ..Notice::default() }, b"").unwrap();
        checker.note(stamp(2), true, &mut offences);
        assert_eq!(checker.note(stamp(1), true, &mut offences), Verdict::Late);
        assert_eq!((checker.told_lost, offences.reordered, offences.count()), (1, 1, 1));
    }

    #[test]
    fn what_nobody_can_be_blamed_for() {
        let mut offences = Offences::default();
        let mut checker = check(Some(0), &[0, 1], Offences::default());
        checker.forget_place();
        checker.forget_place();
        assert!(checker.has_all(9));
        assert_eq!(checker.note(stamp(5), true, &mut offences), Verdict::Next);
        assert_eq!(checker.unchecked, 3);
        checker.forget_place();
        checker.finish(9, true, &mut offences);
        assert_eq!(checker.unchecked, 6);
        let mut checker = check(Some(0), &[0], Offences::default());
        checker.finish(4, false, &mut offences);
        assert_eq!((checker.unchecked, offences.count()), (3, 0));
    }

    /// A notice whose loss is the last there is.
    #[test]
    fn a_notice_at_the_end() {
        for (lost, expected) in [(Some(3), (3, 0, 0)), (Some(2), (2, 1, 0)), (Some(4), (3, 0, 1))] {
            let (mut checker, mut offences) = (Checker::new(Some(0)), Offences::default());
            checker.note_notice(Notice { lost, ..Notice::default() }, b"").unwrap();
            checker.finish(3, true, &mut offences);
            assert_eq!((checker.told_lost, offences.missing, checker.overtold), expected);
        }
        let (mut checker, mut offences) = (Checker::new(Some(0)), Offences::default());
        checker.note_notice(Notice::default(), b"").unwrap();
        checker.come_back();
        checker.finish(3, true, &mut offences);
        assert_eq!(offences.missing, 3, "a notice is told again to a reader that comes back");
    }

    #[test]
    fn what_has_not_come_at_the_end() {
        let mut checker = check(Some(0), &[0, 1], Offences::default());
        assert!(checker.has_all(2) && !checker.has_all(3));
        let mut offences = Offences::default();
        checker.finish(5, true, &mut offences);
        assert_eq!(offences.missing, 3);
        Checker::new(None).finish(5, true, &mut offences);
        assert_eq!(offences.missing, 3, "nobody can say what it should have seen");
    }
}

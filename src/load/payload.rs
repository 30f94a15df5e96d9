//! An event that proves itself.
//!
//! ```text
//! pushv1.5f3a9c01.000000000000002a.00000f3b5c2d8e10.…padding….9ae07c44.
//!        run      sequence number  intended, ns              CRC-32 of all before it
//! ```
//!
//! Only letters, digits and dots, so that it survives in a form's field, in JSON and in a URL as it
//! is. A subscriber looks for it anywhere in an event's data, since some servers wrap what they
//! are given.

use std::ops::Range;

/// What an event says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The run that it belongs to.
    pub run: u32,
    /// Its place among the run's events, from 0.
    pub seq: u64,
    /// When it was meant to be published, in nanoseconds of the machine's monotonic clock.
    pub intended_ns: u64,
}

/// What is found in an event's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// An event of this run, as it was published.
    Whole(Stamp),
    /// Something that was an event of some run.
    Altered,
    /// Something else, also a whole event of another run.
    Foreign,
}

/// Appends the event of `bytes` bytes, at least [`BYTES_MIN`], to `out`.
pub fn write(stamp: Stamp, bytes: usize, out: &mut Vec<u8>) {
    debug_assert!(bytes >= BYTES_MIN);
    let begin = out.len();
    out.extend_from_slice(MARK);
    hex(u64::from(stamp.run), &RUN, out);
    hex(stamp.seq, &SEQ, out);
    hex(stamp.intended_ns, &INTENDED, out);
    // Padding that differs from event to event, so that one cannot pass for another.
    let padding = bytes - BYTES_MIN;
    out.extend((0..padding).map(|at| PADDING[(at + stamp.seq as usize) % PADDING.len()]));
    out.push(b'.');
    let crc = crc32fast::hash(&out[begin..]);
    hex(u64::from(crc), &(0..8), out);
    debug_assert_eq!(out.len() - begin, bytes);
}

/// Looks in `data` for an event of run `run`, whose events have `bytes` bytes.
pub fn find(data: &[u8], run: u32, bytes: usize) -> Found {
    // Nearly always it is all there is.
    let begin = match data.starts_with(MARK) {
        true => 0,
        false => match data.windows(MARK.len()).position(|window| window == MARK) {
            Some(begin) => begin,
            None => return Found::Foreign,
        },
    };
    let data = &data[begin..];
    match data.get(..bytes).and_then(read) {
        Some(stamp) if stamp.run == run => Found::Whole(stamp),
        Some(_) => Found::Foreign,
        None => match read(without_wrapping(data)) {
            Some(stamp) if stamp.run != run => Found::Foreign,
            _ => Found::Altered,
        },
    }
}

/// The stamp of an event, if it is whole.
fn read(event: &[u8]) -> Option<Stamp> {
    if event.len() < BYTES_MIN {
        return None;
    }
    let (stamped, crc) = event.split_at(event.len() - CRC_BYTES);
    let read = |field: Range<usize>| number(&event[field]);
    let (run, seq, intended_ns) = (read(RUN)?, read(SEQ)?, read(INTENDED)?);
    let whole = number(&crc[..CRC_BYTES - 1])? == u64::from(crc32fast::hash(stamped));
    whole.then_some(Stamp { run: run as u32, seq, intended_ns })
}

/// The front of `data` up to the last dot before what no event has in it: what an event of unknown
/// length is, if it is one.
fn without_wrapping(data: &[u8]) -> &[u8] {
    let of_an_event = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
    let front = &data[..data.iter().position(|byte| !of_an_event(byte)).unwrap_or(data.len())];
    &front[..front.iter().rposition(|&byte| byte == b'.').map_or(0, |dot| dot + 1)]
}

/// Events that have been found whole, so that the same bytes need not be proven once more for every
/// subscriber that receives them.
#[derive(Debug)]
pub struct Known {
    bytes: usize,
    /// The events, one behind the other; number n stands in slot n modulo their count.
    events: Vec<u8>,
    stamps: Vec<Option<Stamp>>,
}

impl Known {
    /// For events of `bytes` bytes.
    pub fn new(bytes: usize) -> Known {
        let slots = (KNOWN_BYTES_MAX / bytes.max(1)).clamp(1, KNOWN_EVENTS_MAX);
        Known { bytes, events: vec![0; slots * bytes], stamps: vec![None; slots] }
    }

    /// The stamp of event number `seq`, if that is known and `data` is this event to the last byte.
    pub fn recall(&self, seq: u64, data: &[u8]) -> Option<Stamp> {
        let slot = self.slot(seq);
        let stamp = self.stamps[slot].filter(|stamp| stamp.seq == seq)?;
        (self.events[slot * self.bytes..][..self.bytes] == *data).then_some(stamp)
    }

    /// Notes an event that was found whole; forgets the one in its slot.
    pub fn keep(&mut self, stamp: Stamp, data: &[u8]) {
        if data.len() == self.bytes {
            let slot = self.slot(stamp.seq);
            self.stamps[slot] = Some(stamp);
            self.events[slot * self.bytes..][..self.bytes].copy_from_slice(data);
        }
    }

    fn slot(&self, seq: u64) -> usize {
        (seq % self.stamps.len() as u64) as usize
    }
}

/// Appends `number` in as many digits as `field` has places, and a dot.
fn hex(number: u64, field: &Range<usize>, out: &mut Vec<u8>) {
    for place in (0..field.len()).rev() {
        out.push(b"0123456789abcdef"[(number >> (4 * place) & 15) as usize]);
    }
    out.push(b'.');
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

/// The shortest event.
pub const BYTES_MIN: usize = INTENDED.end + 2 + CRC_BYTES;

const KNOWN_BYTES_MAX: usize = 1 << 20;
const KNOWN_EVENTS_MAX: usize = 4096;
const MARK: &[u8] = b"pushv1.";
const RUN: Range<usize> = MARK.len()..MARK.len() + 8;
const SEQ: Range<usize> = RUN.end + 1..RUN.end + 17;
const INTENDED: Range<usize> = SEQ.end + 1..SEQ.end + 17;
const CRC_BYTES: usize = 9;
const PADDING: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u32 = 0x5f3a_9c01;
    const STAMP: Stamp = Stamp { run: RUN, seq: 42, intended_ns: 0xf3b_5c2d_8e10 };

    fn event(bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        write(STAMP, bytes, &mut out);
        out
    }

    #[test]
    fn events_are_found_whatever_stands_around_them() {
        for bytes in BYTES_MIN..BYTES_MIN + 100 {
            let event = event(bytes);
            assert_eq!(event.len(), bytes);
            assert_eq!(find(&event, RUN, bytes), Found::Whole(STAMP));
            let wrapped = [b"{\"topic\":\"pushv\",\"data\":\"", &event[..], b"\"}"].concat();
            assert_eq!(find(&wrapped, RUN, bytes), Found::Whole(STAMP));
        }
        assert_eq!(find(b"", RUN, 100), Found::Foreign);
        assert_eq!(find(b"heartbeat", RUN, 100), Found::Foreign);
    }

    /// Any byte changed, any byte missing.
    #[test]
    fn nothing_can_be_altered_unseen() {
        let event = event(120);
        for at in MARK.len()..event.len() - 1 {
            let mut altered = event.clone();
            altered[at] ^= 1;
            assert_eq!(find(&altered, RUN, 120), Found::Altered, "byte {at}");
            altered.remove(at);
            assert_eq!(find(&altered, RUN, 120), Found::Altered, "without byte {at}");
        }
    }

    /// Whatever length that run's events have, and whatever stands around them; but what was altered
    /// on the way proves nothing.
    #[test]
    fn events_of_other_runs_are_foreign() {
        for bytes in BYTES_MIN..BYTES_MIN + 100 {
            let event = event(bytes);
            let wrapped = [b"{\"data\":\"", &event[..], b"\",\"n\":1}"].concat();
            for data in [&event, &wrapped] {
                assert_eq!(find(data, RUN ^ 1, 100), Found::Foreign, "{bytes}");
            }
            for at in MARK.len()..event.len() - 1 {
                let mut altered = event.clone();
                altered[at] ^= 1;
                assert_eq!(find(&altered, RUN ^ 1, 100), Found::Altered, "byte {at} of {bytes}");
            }
        }
        assert_eq!(find(&event(90), RUN, 100), Found::Altered, "this run's have another length");
    }

    #[test]
    fn what_is_known_is_known_to_the_last_byte() {
        let event = event(120);
        let mut known = Known::new(120);
        assert_eq!(known.recall(42, &event), None);
        known.keep(STAMP, &event);
        assert_eq!(known.recall(42, &event), Some(STAMP));
        assert_eq!(known.recall(42 + KNOWN_EVENTS_MAX as u64, &event), None);
        assert_eq!(known.recall(42, &event[..119]), None);
        for at in 0..120 {
            let mut altered = event.clone();
            altered[at] ^= 1;
            assert_eq!(known.recall(42, &altered), None, "byte {at}");
        }
    }

    #[test]
    fn only_letters_digits_and_dots() {
        assert!(event(200).iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.'));
    }
}

//! What a call costs: by its size, by what the reader does, and by where the time goes.

mod counted;
mod judge;
mod tables;
#[cfg(test)]
mod tests;
mod unread;

pub(super) use tables::without_blanks;

use super::{Experiment, Judgement, Rig};
use crate::lab::bare::Reader;
use crate::lab::bare::bench::MEDIAN_NS;
use crate::lab::bare::block::{Kind, Task};
use crate::lab::bare::call::Call;
use crate::lab::bare::group::{Bare, Compared, calls};
use crate::lab::method::analysis::Study;
use crate::lab::method::record::Profile;
use crate::lab::report::figure::{Figure, Table};
use crate::lab::report::standard::{distribution_chart, interval_chart};
use crate::lab::run::Group;

/// The experiment.
#[derive(Debug)]
pub struct WriteCost;

impl Experiment for WriteCost {
    fn name(&self) -> &'static str {
        NAME
    }

    fn title(&self) -> &'static str {
        "What a write costs"
    }

    fn question(&self) -> &'static str {
        "What does one call cost that hands bytes to a connection; how does that depend on their \
         number and on what the reader does; and what does the kernel do in it? Each call is timed \
         by itself, on a TCP connection over loopback with segments of 1448 bytes and TCP_NODELAY, \
         in a process of one thread. While it is made nobody sleeps on the connection, or \
         a process on the other processor sleeps in read(2), or one reads all the time. After \
         each call the reader has everything before the next begins, so every call finds the \
         queues empty. Every byte is checked."
    }

    fn rig(&self) -> Rig {
        Rig::Bare
    }

    fn groups(&self, profile: Profile) -> Vec<Box<dyn Group>> {
        let timed = Reader::ALL.into_iter().map(|reader| Box::new(timed(profile, reader)) as _);
        let counted = Reader::ALL.map(|reader| Box::new(counted::Counted(reader)) as _);
        timed.chain(counted).chain([Box::new(unread::Unread { profile }) as _]).collect()
    }

    fn judge(&self, study: &Study) -> Vec<Judgement> {
        judge::judge(study)
    }

    fn tables(&self, study: &Study) -> Vec<Table> {
        tables::tables(study)
    }

    fn figures(&self, study: &Study) -> Vec<Figure> {
        let along_bytes = Reader::ALL.into_iter().filter_map(|reader| {
            let title = format!("Time of a call by its bytes, {}", said(reader));
            interval_chart(study, MEDIAN_NS, "bytes", &[("reader", reader.name())], &title)
        });
        let spread = Reader::ALL.into_iter().filter_map(|reader| {
            let title = format!("All calls of 64 bytes, {}", said(reader));
            distribution_chart(study, timed_cell(study, reader, 64)?, MEDIAN_NS, &title)
        });
        along_bytes.chain(spread).collect()
    }

    fn cannot_show(&self) -> &'static [&'static str] {
        &[
            "Over loopback the sender pays for the receiver's half as well: the packet is received, \
             the reader woken and the acknowledgement processed within the call. A network card \
             would do some of that elsewhere and later. A push with MSG_MORE does none of it, and \
             is the lower bound.",
            "A call that is longer than the congestion window is timed until its bytes are in the \
             send buffer; what does not fit the window leaves later and is not timed.",
            "Each call is made on empty queues and warm caches, one connection at a time. A server \
             with thousands of connections finds each of them cold.",
            "In a virtual machine, waking a sleeper on another processor may mean leaving the \
             machine; what that costs is the host's affair. The sleeper here has slept for 50 µs, \
             so that its processor may still be polling.",
            "Processor time contains one reading of its own clock, a system call; the cost is in \
             the settings of each variant as thread_clock_ns, and is not subtracted.",
        ]
    }
}

const NAME: &str = "write-cost";

/// The timed cells of one state of the reader.
fn timed(profile: Profile, reader: Reader) -> Bare {
    let cell = |&bytes: &usize| Compared {
        factors: vec![("reader".into(), reader.name().into()), ("bytes".into(), bytes.to_string())],
        tasks: Call::ALL
            .map(|call| {
                let calls = calls(profile, reader, bytes);
                let task = Task { work: Kind::Call(call), pieces: 1, piece_bytes: bytes, calls };
                (call.name(), call.what(), task)
            })
            .to_vec(),
    };
    Bare { experiment: NAME, reader, profile, cells: sizes(profile).iter().map(cell).collect() }
}

/// 1448 bytes fill a segment.
fn sizes(profile: Profile) -> &'static [usize] {
    match profile {
        Profile::Smallest => &[64],
        Profile::Quick => &[64, 1448, 65_536],
        Profile::Full => &[1, 64, 256, 1024, 1448, 4096, 16_384, 65_536, 262_144, 1_048_576],
    }
}

/// The place of the record of that state and size.
fn timed_cell(study: &Study, reader: Reader, bytes: usize) -> Option<usize> {
    study.find(&[("reader", reader.name()), ("bytes", &bytes.to_string())])
}

/// The median of a call's times over all blocks, in nanoseconds.
fn median_ns(study: &Study, reader: Reader, bytes: usize, call: Call) -> Option<f64> {
    let place = timed_cell(study, reader, bytes)?;
    Some(study.summary_named(place, call.name(), MEDIAN_NS)?.median)
}

fn said(reader: Reader) -> &'static str {
    match reader {
        Reader::Nobody => "nobody reading",
        Reader::Asleep => "the reader asleep",
        Reader::Spinning => "the reader spinning",
    }
}

//! The server's own counts of looks and stamps, held against the kernel's count of the calls that
//! they take.

use super::{LOOKS_20_MS, REGARDS, Regard, Rigs, STAMPS_1_IN_16, STAMPS_ALL};
use crate::lab::method::audit::Auditor;
use crate::lab::method::cell::{Cell, Stop};
use crate::lab::method::record::{Audit, Doubt};
use crate::lab::rig::orders::{Order, Run};
use std::time::{Duration, Instant};

/// What is audited, the system call that it takes, and the counter: SIOCOUTQ is the server's only
/// `ioctl`, and a stamped call its only `sendmsg`.
const AUDITED: [(&str, &str, &str); 3] = [
    (LOOKS_20_MS, "ioctl", "pushv_observations_total"),
    (STAMPS_1_IN_16, "sendmsg", "pushv_timestamps_total"),
    (STAMPS_ALL, "sendmsg", "pushv_timestamps_total"),
];

/// In blocks of their own, which are not timed.
pub(super) fn audit(rigs: &mut Rigs, run: &Run, cell: &mut Cell) -> Result<(), Stop> {
    let auditor = match Auditor::new() {
        Ok(auditor) => auditor,
        Err(why) => {
            cell.doubt(Doubt::Unaudited(format!("nobody could count beside the server: {why}")));
            return Ok(());
        }
    };
    let audited = REGARDS.iter().enumerate().filter_map(|(variant, regard)| {
        let known = AUDITED.iter().find(|(name, ..)| *name == regard.name)?;
        Some((variant, regard, known.1, known.2))
    });
    for (variant, regard, call, counter) in audited {
        let (ours, theirs) = count(&auditor, rigs, (regard, call, counter), run)?;
        if ours != theirs {
            let why = format!("the server and {} do not agree", auditor.name());
            cell.doubt(Doubt::Unaudited(why));
        }
        let by = auditor.name().into();
        cell.audit([Audit { variant, what: call.into(), ours, theirs, by }]);
    }
    Ok(())
}

/// What the server counts, and what the auditor does. The knobs are turned while the auditor
/// counts, and back, because the server looks whether or not there is anything to deliver.
fn count(
    auditor: &Auditor,
    rigs: &mut Rigs,
    (regard, call, counter): (&Regard, &str, &str),
    run: &Run,
) -> Result<(u64, u64), Stop> {
    let rig = rigs.of(regard);
    let before = rig.server().counts_before()?;
    let pid = rig.server().pid();
    let theirs = auditor.count(pid, &[call], &mut || {
        rig.server().turn_knobs(None, &regard.knobs())?;
        rig.ask(&Order::Run(*run))?;
        rig.server().turn_knobs(None, &REGARDS[0].knobs())
    })?;
    let theirs = theirs.get(call).copied().unwrap_or(0);
    let deadline = Instant::now() + ACKNOWLEDGED_AFTER;
    loop {
        let ours = rig.server().counts_after()?.server_since(&before, counter) as u64;
        if ours >= theirs || Instant::now() > deadline {
            return Ok((ours, theirs));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A stamped call is counted when it is acknowledged, which a reader may put off for 200 ms
/// (`TCP_DELACK_MAX`), and when the server has got a processor since. Nothing is published meanwhile,
/// so no count can hide a call that is missing.
const ACKNOWLEDGED_AFTER: Duration = Duration::from_secs(20);

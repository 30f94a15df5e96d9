//! Lives through simulated worlds, seed after seed: `scripts/simulate.sh` starts it.

use pushv::testing::simulate::{self, Summary};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(|text| text.to_str()?.parse::<u64>().ok());
    let (Some(Some(from)), Some(Some(count)), Some(Some(jobs)), None) =
        (arguments.next(), arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!("usage: simulate FROM COUNT JOBS; see scripts/simulate.sh");
        return ExitCode::from(2);
    };
    let step = (count / 20).max(1);
    let progress = |done: u64| {
        if done.is_multiple_of(step) {
            eprintln!("{done} of {count} seeds");
        }
    };
    let summary: Summary =
        simulate::seeds(from..from.saturating_add(count), jobs as usize, progress);
    summary.failures.iter().for_each(|failure| println!("{failure}"));
    println!("{summary}");
    ExitCode::from(u8::from(!summary.failures.is_empty()))
}

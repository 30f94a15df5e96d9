//! What is asked, one file an experiment.

pub mod aa;
pub mod iovec_crossover;
pub mod observer_cost;
pub mod socket_knobs;
pub mod uring_whatif;
pub mod write_cost;
pub mod write_vs_writev;

use crate::lab::method::analysis::Study;
use crate::lab::method::record::Profile;
use crate::lab::report::figure::{Figure, Table};
use crate::lab::run::Group;

/// A question, with everything that answers it.
///
/// What it says of its records it computes from them alone: a report is made again without
/// measuring again.
pub trait Experiment: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Its heading.
    fn title(&self) -> &'static str;

    /// What is asked, and how: a paragraph.
    fn question(&self) -> &'static str;

    /// What has to be set up for it.
    fn rig(&self) -> Rig;

    /// Why it cannot be carried out by this program on this machine, if it cannot.
    fn unavailable(&self) -> Option<String> {
        None
    }

    /// What is to be measured.
    fn groups(&self, profile: Profile) -> Vec<Box<dyn Group>>;

    /// What the records say of the claims that it is about. Without records, nothing.
    fn judge(&self, study: &Study) -> Vec<Judgement>;

    /// The figures, as tables.
    fn tables(&self, study: &Study) -> Vec<Table>;

    /// The figures, as charts.
    fn figures(&self, study: &Study) -> Vec<Figure>;

    /// What the experiment cannot show: a sentence each.
    fn cannot_show(&self) -> &'static [&'static str];
}

/// What an experiment measures on, which is checked before anything else is measured on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rig {
    /// A server and subscribers.
    Server,
    /// System calls without a server.
    Bare,
    /// Both.
    Both,
}

/// All experiments, in the order in which they are carried out and reported.
pub const ALL: &[&dyn Experiment] = &[
    &write_cost::WriteCost,
    &iovec_crossover::IovecCrossover,
    &write_vs_writev::WriteVsWritev,
    &socket_knobs::SocketKnobs,
    &observer_cost::ObserverCost,
    &uring_whatif::UringWhatif,
];

/// What a report can be about: these, and the rig itself.
pub const REPORTED: &[&dyn Experiment] = &[
    &aa::AgainstItself { rig: Rig::Both },
    &write_cost::WriteCost,
    &iovec_crossover::IovecCrossover,
    &write_vs_writev::WriteVsWritev,
    &socket_knobs::SocketKnobs,
    &observer_cost::ObserverCost,
    &uring_whatif::UringWhatif,
];

/// The experiment of that name.
pub fn find(name: &str) -> Option<&'static dyn Experiment> {
    ALL.iter().copied().find(|experiment| experiment.name() == name)
}

/// What checks everything that these experiments measure on.
pub fn against_itself(experiments: &[&dyn Experiment]) -> aa::AgainstItself {
    let uses = |rig| experiments.iter().any(|one| one.rig() == rig || one.rig() == Rig::Both);
    let rig = match (uses(Rig::Server), uses(Rig::Bare)) {
        (true, true) => Rig::Both,
        (false, true) => Rig::Bare,
        _ => Rig::Server,
    };
    aa::AgainstItself { rig }
}

/// What the records say of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The claim's number, such as C01, if it is one of the list.
    pub claim: Option<&'static str>,
    /// What is claimed.
    pub statement: String,
    /// What the records say.
    pub verdict: Verdict,
    /// The figures behind it, in a sentence or two.
    pub because: String,
}

/// What can be said of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is so, here.
    Confirmed,
    /// It is not so, here.
    Refuted,
    /// It depends, and it is shown on what.
    Depends,
    /// It cannot be told here, and it is said why.
    CannotBeJudged,
}

impl Verdict {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Confirmed => "confirmed",
            Verdict::Refuted => "refuted",
            Verdict::Depends => "it depends",
            Verdict::CannotBeJudged => "cannot be judged here",
        }
    }
}

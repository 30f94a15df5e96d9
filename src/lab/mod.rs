//! The laboratory: what each decision of the write path costs, on this machine, measured so that a
//! sceptic believes it.
//!
//! An experiment asks one question. It is divided into *cells* (so many subscribers, so long a
//! burst), in each of which the same *variants* (the write paths, say) take turns in short
//! *blocks*. All that was seen in one cell is one [`Record`](method::record::Record), a line of
//! JSON; whatever a report says is computed from records alone, so that it can be made again, and
//! doubted, by anybody who has them. `docs/METHODOLOGY.md` has the method and the reasons to
//! distrust it.
//!
//! In reading order:
//!
//! 1. [`method`]: records, the order of blocks, noise, statistics. Begin with [`method::record`].
//! 2. [`rig`]: what is measured: a real server and real subscribers, in processes of their own.
//!    [`bare`]: the bare system call, without a server around it.
//! 3. [`experiments`]: one file each.
//! 4. [`report`]: tables, charts, pages, and the comparison of two records.
//! 5. [`run`]: carries out experiments, shows progress, resumes what was interrupted.

pub mod bare;
pub mod experiments;
pub mod method;
pub mod report;
pub mod rig;
pub mod run;

//! What a process has used so far.

/// Figures of a whole process; 0 where they are not known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Processor time of the loop's thread, in seconds.
    pub cpu_s: f64,
    /// Blocks of memory that the loop's thread has asked for.
    pub allocations: u64,
}

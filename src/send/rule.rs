//! When copying pieces into one buffer is cheaper than handing them over as they lie.
//!
//! For each piece of a vector the kernel reads 16 bytes, checks an address and begins a copy anew;
//! from the ninth piece on it also has to allocate the vector (`UIO_FASTIOV`,
//! include/linux/uio.h). Copying a small piece in user space takes less than that, copying a large
//! one more. Where the two cross depends on the machine: the experiment `iovec-crossover` finds
//! the rule of this one.

use std::fmt;
use std::str::FromStr;

/// A rule: from so many pieces on, copy if the mean piece has at most so many bytes.
///
/// It is written `2:256,64:1024`. Below the first number of pieces, nothing is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyRule {
    /// Invariant: rising numbers of pieces, then steps of zeros, which never apply.
    steps: [Step; STEPS_MAX],
}

/// One step of a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// From so many pieces on.
    pub pieces: u32,
    /// The mean piece may have so many bytes.
    pub piece_bytes: u32,
}

/// The most steps that a rule has.
pub const STEPS_MAX: usize = 6;

impl CopyRule {
    /// Nothing is ever copied.
    pub const NEVER: CopyRule = CopyRule { steps: [Step { pieces: 0, piece_bytes: 0 }; STEPS_MAX] };

    /// A rule of these steps.
    ///
    /// # Errors
    /// If there are too many, or if the numbers of pieces do not rise from at least 2.
    #[allow(
        clippy::indexing_slicing,
        reason = "checked above: no more steps than there is room for"
    )]
    pub fn new(steps: &[Step]) -> Result<CopyRule, String> {
        if steps.len() > STEPS_MAX {
            return Err(format!("has at most {STEPS_MAX} steps"));
        }
        let rising = steps.is_sorted_by(|a, b| a.pieces < b.pieces);
        if !rising || steps.first().is_some_and(|first| first.pieces < 2) {
            return Err("wants numbers of pieces that rise from at least 2".into());
        }
        let mut rule = CopyRule::NEVER;
        rule.steps[..steps.len()].copy_from_slice(steps);
        Ok(rule)
    }

    /// Whether so many pieces, of so many bytes together, are to be copied.
    pub fn copies(&self, pieces: usize, bytes: u64) -> bool {
        let applies = self.steps().iter().rev().find(|step| step.pieces as usize <= pieces);
        applies.is_some_and(|step| bytes <= u64::from(step.piece_bytes) * pieces as u64)
    }

    /// Its steps.
    #[allow(clippy::indexing_slicing, reason = "a count of the steps themselves")]
    pub fn steps(&self) -> &[Step] {
        let count = self.steps.iter().take_while(|step| step.pieces > 0).count();
        &self.steps[..count]
    }
}

/// As measured on the machine on which pushv was developed, by `pushv lab run iovec-crossover`
/// (docs/reports).
impl Default for CopyRule {
    fn default() -> CopyRule {
        let steps = [(2, 1024), (256, 256)];
        let steps = steps.map(|(pieces, piece_bytes)| Step { pieces, piece_bytes });
        CopyRule::new(&steps).unwrap_or(CopyRule::NEVER)
    }
}

impl fmt::Display for CopyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps().is_empty() {
            return f.write_str("never");
        }
        for (nth, step) in self.steps().iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            write!(f, "{comma}{}:{}", step.pieces, step.piece_bytes)?;
        }
        Ok(())
    }
}

impl FromStr for CopyRule {
    type Err = String;

    fn from_str(text: &str) -> Result<CopyRule, String> {
        if text == "never" {
            return Ok(CopyRule::NEVER);
        }
        let step = |text: &str| {
            let (pieces, piece_bytes) = text.split_once(':')?;
            let number = |text: &str| text.trim().parse().ok();
            Some(Step { pieces: number(pieces)?, piece_bytes: number(piece_bytes)? })
        };
        let steps: Option<Vec<Step>> = text.split(',').map(step).collect();
        let steps = steps.ok_or_else(|| {
            format!("wants never, or PIECES:BYTES and more of them after commas, not {text:?}")
        })?;
        CopyRule::new(&steps).map_err(|why| format!("{text}: a rule {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_back() {
        for text in ["never", "2:0", "2:4096,16:1024,64:512"] {
            assert_eq!(text.parse::<CopyRule>().unwrap().to_string(), text);
        }
        assert_eq!(CopyRule::default().to_string().parse(), Ok(CopyRule::default()));
        assert_ne!(CopyRule::default(), CopyRule::NEVER);
        for bad in [
            "",
            "2",
            "2:",
            ":2",
            "1:64",
            "4:1,4:2",
            "8:1,4:2",
            "2:-1",
            "2:1,3:1,4:1,5:1,6:1,7:1,8:1",
        ] {
            assert!(bad.parse::<CopyRule>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_step_that_applies_decides_by_the_mean() {
        let rule: CopyRule = "2:100,16:10".parse().unwrap();
        let check = |pieces, bytes, copies| {
            assert_eq!(rule.copies(pieces, bytes), copies, "{pieces} pieces, {bytes} bytes");
        };
        check(0, 0, false);
        check(1, 1, false);
        check(2, 200, true);
        check(2, 201, false);
        check(15, 1500, true);
        check(16, 160, true);
        check(16, 161, false);
        check(5000, 50_000, true);
        assert!(!CopyRule::NEVER.copies(1000, 1));
    }
}

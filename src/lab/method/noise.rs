//! What disturbs a block.
use super::record::Noise;
/// Why a block does not count.
pub fn discard(noise: &Noise, wait_max: f64) -> Option<String> {
    let _ = (noise, wait_max);
    None
}

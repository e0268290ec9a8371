//! The rotary embedding that a config describes.

use crate::arch::{ArchError, Config};
use crate::graph::Rotary;

/// The rotary embedding of a config without scaling, over the first `rotated` columns of a head.
pub(crate) fn plain_rotary(config: &Config, rotated: usize, theta: f64) -> Result<Rotary, ArchError> {
    if config.get("rope_scaling").is_some() {
        return Err(config.unsupported("rope_scaling", "null").into());
    }
    if let Some(rope) = config.nested("rope_parameters") {
        rope.expect("rope_type", &"default".into())?;
    }
    if rotated < 2 || !rotated.is_multiple_of(2) {
        return Err(config.invalid("head_dim", "an even number of rotated columns").into());
    }
    Ok(Rotary::from_base(config.rope_theta(theta)?, rotated))
}

//! Memory of the programs after the story.

use crate::acts::Told;
use anyhow::Result;

/// The node idles and the worker has served below what was promised.
pub fn stays_below_what_was_promised(told: &Told) -> Result<String> {
    let footprint = told.scene.footprint()?;
    footprint.check()?;
    Ok(footprint.to_string())
}

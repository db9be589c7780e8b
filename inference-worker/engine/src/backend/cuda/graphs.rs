//! Steps that were written down, by their shape.
//!
//! A shape is computed launch by launch when it is first met, which loads all that it needs; the second
//! time it is written down, and from then on launched as a whole.

use super::device::Graph;
use super::inputs::StepShape;
use std::collections::HashMap;

/// Shapes that are kept.
const MOST: usize = 128;

/// What is known of a shape.
enum Known {
    /// It was computed once.
    Met,
    /// It is written down.
    Written(Graph),
    /// It cannot be.
    Refused,
}

/// What to do with a step.
pub enum Way<'a> {
    /// Compute it launch by launch.
    Plain,
    /// Write it down, then launch that.
    Write,
    /// Launch what is written down.
    Launch(&'a Graph),
}

/// The shapes that were met.
#[derive(Default)]
pub struct Graphs {
    /// With the last step that used it.
    known: HashMap<StepShape, (Known, u64)>,
    step: u64,
}

impl Graphs {
    /// What to do with a step of this shape.
    pub fn way(&mut self, shape: &StepShape) -> Way<'_> {
        self.step += 1;
        if !self.known.contains_key(shape) {
            if self.known.len() >= MOST {
                let oldest = self.known.iter().min_by_key(|(_, (_, step))| *step);
                if let Some(oldest) = oldest.map(|(shape, _)| *shape) {
                    self.known.remove(&oldest);
                }
            }
            self.known.insert(*shape, (Known::Met, self.step));
            return Way::Plain;
        }
        match self.known.get_mut(shape) {
            Some((known, step)) => {
                *step = self.step;
                match known {
                    Known::Met => Way::Write,
                    Known::Written(graph) => Way::Launch(graph),
                    Known::Refused => Way::Plain,
                }
            }
            None => Way::Plain,
        }
    }

    /// Keeps a shape that was written down.
    pub fn keep(&mut self, shape: &StepShape, graph: Graph) {
        self.known
            .insert(*shape, (Known::Written(graph), self.step));
    }

    /// Takes note that a shape cannot be written down.
    pub fn refuse(&mut self, shape: &StepShape) {
        self.known.insert(*shape, (Known::Refused, self.step));
    }
}

//! Tests, one file a feature.

mod admission;
mod contributing;
mod founding;
mod histories;
mod registry;
mod sealing;
mod withdrawing;

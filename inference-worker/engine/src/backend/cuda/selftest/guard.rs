//! What may fail in any way.

use std::panic::{catch_unwind, AssertUnwindSafe};

/// Runs something, and gives the reason when it fails or panics. What it changes is not used after a panic, or
/// is as good as new for whoever uses it next.
pub(super) fn guarded<T, E: ToString>(run: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref().map(|text: &&str| (*text).to_owned()));
            Err(format!("it panicked: {}", text.unwrap_or_default()))
        }
    }
}

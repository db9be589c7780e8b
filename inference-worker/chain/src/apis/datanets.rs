//! Datanets and contributions.

pub(crate) fn required() -> Vec<crate::requirements::Required> {
    Vec::new()
}

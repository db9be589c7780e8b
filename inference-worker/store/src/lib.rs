//! Content-addressed store of rows, adapters, indexes and manifests.

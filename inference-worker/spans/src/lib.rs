//! Span attribution: a suffix-array index over a Datanet version and its search.

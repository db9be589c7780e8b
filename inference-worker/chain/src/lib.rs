//! Chain client: typed calls and reads over metadata, one submitter per key.

//! The story of the README as a program that drives real processes.

fn main() {}

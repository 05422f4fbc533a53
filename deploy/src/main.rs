//! The `tidewatch` program.
fn main() {}

//! The coordinator with its journal: what a request leaves, and what every interruption leaves.

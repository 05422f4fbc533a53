//! One frame: bounded reading, and a check of every count in it before anything is allocated.

//! How many files the process may have open, and who gets them.
//!
//! The usual soft limit, 1,024, is there for programs that use `select`; a broker takes what the hard one allows. Half of that
//! is kept from clients, for partitions: one file each that is written to at the time, and some for reads and syncs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Besides connections and partitions: the journals, the lock, the listener, reads, syncs, compaction, and the program's own.
const OTHERS: u64 = 100;

/// Raises the soft limit to the hard one and gives what then holds; `None`: there is no limit.
pub(super) fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        // Some systems have a bound below the hard limit that they say.
        Err(error) => {
            tracing::debug!(%error, ?current, ?maximum, "the limit of open files stays as it was");
            current
        }
    }
}

/// How many connections there may be, so that clients leave half of the open files.
pub(super) fn connections_max(configured: usize, open_files_max: Option<u64>) -> usize {
    let half = open_files_max.map_or(usize::MAX, |max| usize::try_from(max / 2).unwrap_or(usize::MAX));
    configured.min(half)
}

/// What to tell if there can be more connections and partitions at work than open files.
pub(super) fn shortage(open_files_max: Option<u64>, connections_max: usize, partitions: usize) -> Option<String> {
    let needed = connections_max as u64 + partitions as u64 + OTHERS;
    let allowed = open_files_max.filter(|allowed| *allowed < needed)?;
    Some(format!(
        "the process may have {allowed} files open; {connections_max} connections and {partitions} partitions that are all \
         written to would need {needed}: beyond the limit a write is answered with KAFKA_STORAGE_ERROR; raise it (ulimit -n)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!((raised, current), (maximum, maximum));
    }

    #[test]
    fn clients_leave_half_of_the_open_files() {
        let check = |configured, limit, expected| assert_eq!(connections_max(configured, limit), expected);
        check(1_000, None, 1_000);
        check(1_000, Some(2_000), 1_000);
        check(1_000, Some(1_024), 512);
        check(1_000, Some(0), 0);
    }

    #[test]
    fn a_shortage_is_told_when_all_at_once_are_too_many() {
        assert_eq!(shortage(None, 1_000, 10_000), None);
        assert_eq!(shortage(Some(11_100), 1_000, 10_000), None);
        assert_eq!(
            shortage(Some(11_099), 1_000, 10_000).unwrap(),
            "the process may have 11099 files open; 1000 connections and 10000 partitions that are all written to would \
             need 11100: beyond the limit a write is answered with KAFKA_STORAGE_ERROR; raise it (ulimit -n)"
        );
    }
}

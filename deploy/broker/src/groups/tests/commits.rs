//! Committed and staged offsets.

use std::time::Duration;

use super::check_with;

#[test]
fn long_metadata_is_refused_for_its_partition() {
    check_with(
        "
        nobody commits t/0=1 \"12345\" t/1=2 \"1234\" => OffsetMetadataTooLarge ok
        p1 stages t/0=1 \"12345\" t/2=2 \"1234\" => OffsetMetadataTooLarge ok
        p1 commits              => ok
        fetch all               => t/1=2 \"1234\" t/2=2 \"1234\"
        ",
        |config| config.limits.offset_metadata_bytes_max = 4,
    );
}

#[test]
fn offsets_expire_when_nobody_needs_them() {
    let hour = |config: &mut crate::config::BrokerConfig| {
        config.offsets_retention = Duration::from_secs(3_600);
        config.transaction_timeout_max = Duration::from_secs(24 * 3_600);
    };
    // Of a group that never had members: so long after their commit. A transaction keeps the group.
    check_with(
        "
        nobody commits t/0=1    => ok
        wait 30min              => -
        nobody commits t/1=2    => ok
        p1 stages t/1=3         => ok
        wait 39min              => -
        fetch all               => t/1=2
        wait 60min              => -
        fetch all               => t/1=2
        list                    => g Empty \"\"
        p1 aborts               => ok
        wait 10min              => -
        list                    => -
        ",
        hour,
    );
    // Of a group that had members: so long after it lost the last.
    check_with(
        "
        a joins v3              => generation 1 range of a, members a
        a syncs                 => assigned nothing
        a commits t/0=1         => ok
        a leaves                => ok
        wait 50min              => -
        nobody commits u/0=1    => ok
        fetch all               => t/0=1 u/0=1
        wait 20min              => -
        fetch all               => -
        list                    => -
        ",
        hour,
    );
    // Of a group with members: those of topics that they do not read.
    check_with(
        "
        nobody commits t/0=1 u/0=1 => ok ok
        a joins v3 session 30min => generation 1 range of a, members a
        a syncs                 => assigned nothing
        wait 25min              => -
        a beats                 => ok
        wait 25min              => -
        a beats                 => ok
        wait 25min              => -
        a beats                 => ok
        fetch all               => t/0=1
        ",
        hour,
    );
}

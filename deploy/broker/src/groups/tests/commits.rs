//! Committed and staged offsets.

use std::time::Duration;

use super::{check, check_with};

#[test]
fn a_member_commits_in_its_generation() {
    check(
        "
        fetch t/0               => t/0=none
        a joins v3              => generation 1 range of a, members a
        a commits t/0=1         => RebalanceInProgress
        a syncs                 => assigned nothing
        a commits t/0=5 t/1=6 \"m\" u/2=7 => ok ok ok
        fetch t/0 t/1 t/2       => t/0=5 t/1=6 \"m\" t/2=none
        fetch all               => t/0=5 t/1=6 \"m\" u/2=7
        nobody commits t/0=9    => UnknownMemberId
        x commits t/0=9         => UnknownMemberId
        b joins v3              => waits
        a commits t/0=8         => ok
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        a commits t/0=9         => RebalanceInProgress
        fetch all               => t/0=8 t/1=6 \"m\" u/2=7
        ",
    );
}

#[test]
fn an_old_generation_commits_no_more() {
    check(
        "
        a joins v3              => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins v3              => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        a syncs                 => assigned nothing
        b leaves                => ok
        a joins                 => generation 3 range of a, members a
        b commits t/0=1         => UnknownMemberId
        a leaves                => ok
        a commits t/0=1         => UnknownMemberId
        nobody commits t/0=2    => ok
        fetch all               => t/0=2
        ",
    );
}

#[test]
fn without_a_group_whoever_commits_without_generation_may() {
    check(
        "
        nobody commits t/0=1 t/9=1 x/0=1 => ok UnknownTopicOrPartition UnknownTopicOrPartition
        list                    => g Empty \"\"
        group h
        nobody commits x/0=1    => UnknownTopicOrPartition
        describe                => Dead
        ",
    );
    check(
        "
        a joins v3              => generation 1 range of a, members a
        group h
        a commits t/0=1         => IllegalGeneration
        a joins v9              => UnknownMemberId
        a commits t/0=1 x/0=1   => GroupIdNotFound UnknownTopicOrPartition
        p1 stages t/0=1 as a    => IllegalGeneration
        ",
    );
}

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
fn staged_offsets_show_when_their_transaction_commits() {
    check(
        "
        nobody commits t/0=1    => ok
        p1 stages t/0=5 t/1=6   => ok ok
        fetch t/0 t/1           => t/0=1 t/1=none
        fetch stable t/0 t/1 t/2 => t/0 UnstableOffsetCommit t/1 UnstableOffsetCommit t/2=none
        fetch stable all        => t/0 UnstableOffsetCommit
        p1 commits              => ok
        fetch stable t/0 t/1    => t/0=5 t/1=6
        p1 aborts               => ok
        p2 stages t/0=9         => ok
        p2 aborts               => ok
        fetch stable all        => t/0=5 t/1=6
        ",
    );
}

#[test]
fn the_commit_that_was_written_last_wins() {
    check(
        "
        p1 stages t/0=5 t/1=5   => ok ok
        nobody commits t/0=7    => ok
        p2 stages t/1=6         => ok
        p2 commits              => ok
        p1 commits              => ok
        fetch all               => t/0=7 t/1=6
        ",
    );
}

#[test]
fn a_transaction_may_commit_while_the_group_rebalances() {
    check(
        "
        a joins v3              => generation 1 range of a, members a
        p1 stages t/0=1 as a    => ok
        a syncs                 => assigned nothing
        p1 stages t/0=2         => ok
        b joins v3              => waits
        p1 stages t/0=3 as a    => ok
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        a leaves                => ok
        p1 stages t/0=4 as a    => UnknownMemberId
        p1 commits              => ok
        fetch all               => t/0=3
        ",
    );
}

#[test]
fn offsets_of_topics_that_nobody_reads_can_be_deleted() {
    check(
        "
        delete t/0              => GroupIdNotFound
        nobody commits t/0=1 u/0=2 => ok ok
        p1 stages u/0=3         => ok
        a joins v3 with range:t => generation 1 range of a, members a
        delete t/0 u/0 x/0      => GroupSubscribedToTopic ok UnknownTopicOrPartition
        p1 commits              => ok
        fetch all               => t/0=1
        a leaves                => ok
        delete t/0              => ok
        fetch all               => -
        ",
    );
    check(
        "
        a joins v3 type connect => generation 1 range of a, members a
        delete t/0              => NonEmptyGroup
        ",
    );
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    check(
        "
        nobody commits t/0=1 u/0=2 => ok ok
        p1 stages t/1=3 u/1=4   => ok ok
        topic t is gone         => ok
        p1 commits              => ok
        fetch all               => u/0=2 u/1=4
        ",
    );
}

#[test]
fn offsets_expire_when_nobody_needs_them() {
    let hour = |config: &mut crate::config::BrokerConfig| config.offsets_retention = Duration::from_secs(3_600);
    // Of a group that never had members: so long after their commit. A transaction keeps the group.
    check_with(
        "
        nobody commits t/0=1    => ok
        wait 30min              => -
        nobody commits t/1=2    => ok
        p1 stages t/2=3         => ok
        wait 39min              => -
        fetch all               => t/1=2
        wait 30min              => -
        fetch all               => -
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

//! What a restart finds again, and what a full disk does.

use super::check;

#[test]
fn a_stable_group_goes_on() {
    check(
        "
        a joins as i with range,sticky => generation 1 range of a, members a
        a syncs a=all           => assigned all
        b joins v3 with range,sticky => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        a syncs a=1 b=2         => assigned 1
        b syncs                 => assigned 2
        a commits t/0=5         => ok
        restart
        describe                => Stable range [a@i=1 b=2]
        a beats                 => ok
        b joins                 => generation 2 range of a
        b syncs                 => assigned 2
        a commits t/0=6         => ok
        fetch all               => t/0=6
        a2 joins as i           => generation 2 range of a2, members a2 b, skips
        restart
        a beats                 => FencedInstanceId
        a2 beats                => ok
        wait 9s                 => -
        a2 beats                => ok
        wait 1s                 => -
        a2 beats                => RebalanceInProgress
        b beats                 => UnknownMemberId
        ",
    );
}

#[test]
fn a_rebalance_begins_again() {
    check(
        "
        a joins v3              => generation 1 range of a, members a
        a syncs a=all           => assigned all
        b joins v3              => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        b syncs                 => waits
        restart
        describe                => Stable range [a=all]
        b syncs                 => UnknownMemberId
        a syncs a=1 b=2         => IllegalGeneration
        a joins                 => generation 2 range of a, members a
        ",
    );
}

#[test]
fn an_empty_group_keeps_its_generation_and_offsets() {
    check(
        "
        a joins v3              => generation 1 range of a, members a
        a syncs                 => assigned nothing
        a commits t/0=5 \"m\"   => ok
        a leaves                => ok
        restart
        list                    => g Empty \"consumer\"
        fetch all               => t/0=5 \"m\"
        b joins v3              => generation 3 range of b, members b
        ",
    );
}

#[test]
fn a_group_without_members_keeps_its_offsets() {
    check(
        "
        nobody commits t/0=5    => ok
        restart
        list                    => g Empty \"\"
        fetch all               => t/0=5
        delete t/0              => ok
        restart
        fetch all               => -
        nobody commits t/0=5    => ok
        delete                  => ok
        restart
        list                    => -
        ",
    );
}

#[test]
fn staged_offsets_wait_for_their_transaction() {
    check(
        "
        p1 stages t/0=5         => ok
        restart
        fetch stable t/0        => t/0 UnstableOffsetCommit
        nobody commits t/1=1    => ok
        p2 stages t/1=2         => ok
        p3 stages t/2=3         => ok
        restart
        nobody commits t/0=7    => ok
        p1 commits              => ok
        p2 commits              => ok
        p3 aborts               => ok
        restart
        p3 commits              => InvalidTxnState
        fetch stable t/0 t/1 t/2 => t/0=7 t/1=2 t/2=none
        topic t is gone         => ok
        fetch all               => -
        restart
        fetch all               => -
        ",
    );
}

#[test]
fn a_group_that_was_never_settled_is_known_and_empty() {
    check(
        "
        a joins v3              => generation 1 range of a, members a
        restart
        describe                => Empty  []
        a beats                 => UnknownMemberId
        a syncs                 => UnknownMemberId
        a commits t/0=1         => UnknownMemberId
        a joins                 => UnknownMemberId
        a forgets
        a joins                 => generation 1 range of a, members a
        ",
    );
}

#[test]
fn nothing_happens_that_cannot_be_written() {
    check(
        "
        nobody commits t/0=1    => ok
        p1 stages t/1=2         => ok
        disk full
        nobody commits t/0=2    => NotCoordinator
        p1 stages t/2=2         => NotCoordinator
        p1 commits              => ok
        delete t/0              => NotCoordinator
        topic t is gone         => NotCoordinator
        delete                  => NotCoordinator
        fetch stable t/0 t/1 t/2 => t/0=1 t/1 UnstableOffsetCommit t/2=none
        disk free
        wait 1s                 => -
        fetch stable all        => t/0=1 t/1=2
        ",
    );
    check(
        "
        a joins as i            => generation 1 range of a, members a
        disk full
        a syncs a=all           => NotCoordinator
        describe                => PreparingRebalance  [a@i=]
        a joins                 => generation 2 range of a, members a
        disk free
        a syncs a=all           => assigned all
        disk full
        a2 joins as i           => NotCoordinator
        a beats                 => ok
        restart
        a beats                 => ok
        describe                => Stable range [a@i=all]
        ",
    );
}

//! Members that come, go, and are timed out.

use std::time::Duration;

use super::{check, check_with};

#[test]
fn the_initial_delay_lets_more_members_in_at_once() {
    let set = |config: &mut crate::config::BrokerConfig| config.initial_rebalance_delay = Duration::from_secs(3);
    check_with(
        "
        a joins v3              => waits
        wait 2s                 => -
        b joins v3 rebalance 7s => waits
        describe                => PreparingRebalance  [?= ?=]
        wait 2s                 => -
        c joins v3              => waits
        wait 4s                 => -
        wait 2s                 => a: generation 1 range of a, members a b c; b: generation 1 range of a; c: generation 1 range of a
        ",
        set,
    );
    // The longest rebalance time-out of the first member bounds the wait.
    check_with(
        "
        a joins v3 rebalance 4s => waits
        wait 2s                 => -
        b joins v3 rebalance 4s => waits
        wait 2s                 => a: generation 1 range of a, members a b; b: generation 1 range of a
        ",
        set,
    );
    check_with(
        "
        a joins v3              => waits
        a leaves                => UnknownMemberId
        wait 3s                 => a: generation 1 range of a, members a
        ",
        set,
    );
}

#[test]
fn who_does_not_join_in_time_is_out() {
    check(
        "
        a joins v3 rebalance 5s session 60s => generation 1 range of a, members a
        a syncs a=all           => assigned all
        b joins v3 rebalance 4s session 60s => waits
        wait 4900ms             => -
        wait 100ms              => b: generation 2 range of b, members b
        a beats                 => UnknownMemberId
        a joins                 => UnknownMemberId
        a forgets               => -
        a joins                 => waits
        b syncs b=all           => RebalanceInProgress
        ",
    );
}

#[test]
fn who_does_not_sync_in_time_is_out() {
    check(
        "
        a joins v3 rebalance 5s session 60s => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins v3 rebalance 5s session 60s => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        b syncs                 => waits
        wait 5s                 => b: RebalanceInProgress
        b joins                 => generation 3 range of b, members b
        b syncs                 => assigned nothing
        wait 5s                 => -
        b beats                 => ok
        ",
    );
    // The leader's sync makes it stable; the follower's has still to come.
    check(
        "
        a joins v3 rebalance 5s session 60s => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins v3 rebalance 5s session 60s => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        a syncs a=1 b=2         => assigned 1
        wait 4s                 => -
        describe                => Stable range [a=1 b=2]
        wait 1s                 => -
        b beats                 => UnknownMemberId
        a beats                 => RebalanceInProgress
        ",
    );
}

#[test]
fn who_did_not_sync_may_join_the_next_generation() {
    check(
        "
        a joins v3 rebalance 5s session 60s => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins v3 rebalance 5s session 60s => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        a syncs a=1 b=2         => assigned 1
        wait 3s                 => -
        c joins v3 rebalance 5s session 60s => waits
        wait 3s                 => -
        b joins                 => waits
        a joins                 => generation 3 range of a, members a b c; b: generation 3 range of a; c: generation 3 range of a
        ",
    );
}

#[test]
fn a_session_ends_without_heartbeats() {
    check(
        "
        a joins v3              => generation 1 range of a, members a
        a syncs                 => assigned nothing
        wait 9s                 => -
        a beats                 => ok
        wait 9s                 => -
        a commits t/0=1         => ok
        wait 9900ms             => -
        describe                => Stable range [a=]
        wait 100ms              => -
        describe                => Empty  []
        a beats                 => UnknownMemberId
        a commits t/0=2         => UnknownMemberId
        ",
    );
}

#[test]
fn one_who_waits_for_an_answer_is_not_dead() {
    check(
        "
        a joins v3 session 60s  => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins v3 session 2s   => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        b syncs                 => waits
        wait 30s                => -
        a syncs a=1 b=2         => assigned 1; b: assigned 2
        wait 1900ms             => -
        b beats                 => ok
        c joins v3 session 2s   => waits
        b joins                 => waits
        wait 30s                => -
        a joins                 => generation 3 range of a, members a b c; b: generation 3 range of a; c: generation 3 range of a
        wait 2s                 => -
        a beats                 => RebalanceInProgress
        b beats                 => UnknownMemberId
        ",
    );
}

#[test]
fn a_new_member_that_waits_is_told_to_try_again_after_five_minutes() {
    check(
        "
        a joins v3 session 30min rebalance 30min => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins v3              => waits
        wait 299s               => -
        wait 1s                 => b: UnknownMemberId
        describe                => PreparingRebalance  [a=]
        a joins                 => generation 2 range of a, members a
        ",
    );
}

#[test]
fn an_id_that_does_not_come_back_holds_the_others_up_for_its_session() {
    check(
        "
        a joins v3              => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins v9 session 5s   => MemberIdRequired
        a joins                 => waits
        wait 4900ms             => -
        wait 100ms              => a: generation 2 range of a, members a
        b joins                 => UnknownMemberId
        ",
    );
    check(
        "
        b joins                 => MemberIdRequired
        list                    => g Empty \"\"
        b leaves                => ok
        b joins                 => UnknownMemberId
        ",
    );
}

#[test]
fn a_crashed_member_comes_back_as_another() {
    check(
        "
        a joins v3              => generation 1 range of a, members a
        a syncs a=all           => assigned all
        a forgets
        a joins                 => waits
        wait 9900ms             => -
        wait 100ms              => a: generation 2 range of a, members a
        ",
    );
}

#[test]
fn a_waiting_member_may_leave() {
    check(
        "
        a joins v3              => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins v3              => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        b syncs                 => waits
        b leaves                => ok; b: UnknownMemberId
        a joins                 => generation 3 range of a, members a
        ",
    );
}

#[test]
fn a_request_sent_twice_replaces_the_first() {
    check(
        "
        a joins v3              => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins v3              => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        b syncs                 => waits
        b syncs                 => waits; b: RebalanceInProgress
        a syncs b=2             => assigned nothing; b: assigned 2
        ",
    );
}

#[test]
fn bounds() {
    let set = |config: &mut crate::config::BrokerConfig| {
        config.limits.group_members_max = 2;
        config.limits.groups_max = 2;
    };
    check_with(
        "
        a joins v3              => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins v3              => waits
        c joins v3              => waits
        a joins                 => GroupMaxSizeReached; b: generation 2 range of b, members b c; c: generation 2 range of b
        b syncs                 => assigned nothing
        c syncs                 => assigned nothing
        d joins                 => GroupMaxSizeReached
        b joins                 => waits
        group h
        d joins session 999ms   => InvalidSessionTimeout
        d joins session 31min   => InvalidSessionTimeout
        d joins session 10s     => MemberIdRequired
        e joins                 => MemberIdRequired
        f joins                 => GroupMaxSizeReached
        group i
        f joins                 => PolicyViolation
        nobody commits t/0=1    => PolicyViolation
        p1 stages t/0=1         => PolicyViolation
        list                    => g PreparingRebalance \"consumer\", h Empty \"\"
        ",
        set,
    );
}

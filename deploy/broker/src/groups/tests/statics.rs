//! Static members (KIP-345, KIP-814).

use super::check;

#[test]
fn a_static_member_that_returns_finds_its_place_kept() {
    check(
        "
        a joins as i            => generation 1 range of a, members a
        a syncs a=all           => assigned all
        b joins as j            => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        a syncs a=1 b=2         => assigned 1
        b syncs                 => assigned 2
        b2 joins as j           => generation 2 range of a
        b2 syncs                => assigned 2
        b beats                 => FencedInstanceId
        b joins                 => FencedInstanceId
        b syncs                 => FencedInstanceId
        b commits t/0=1         => FencedInstanceId
        b leaves                => FencedInstanceId
        b2 beats                => ok
        a beats                 => ok
        describe                => Stable range [a@i=1 b2@j=2]
        ",
    );
}

#[test]
fn a_static_leader_that_returns_need_not_assign() {
    check(
        "
        a joins as i            => generation 1 range of a, members a
        a syncs a=all           => assigned all
        a2 joins as i           => generation 1 range of a2, members a2, skips
        a2 syncs a2=other       => assigned all
        ",
    );
    // One that cannot be told so is led to believe that another leads.
    check(
        "
        a joins as i v8         => generation 1 range of a, members a
        a syncs a=all           => assigned all
        a2 joins as i v8        => generation 1 range of a
        a2 syncs                => assigned all
        ",
    );
}

#[test]
fn a_static_member_with_other_protocols_is_a_rebalance() {
    check(
        "
        a joins as i with range => generation 1 range of a, members a
        a syncs a=all           => assigned all
        a2 joins as i with range,sticky => generation 1 range of a2, members a2, skips
        a3 joins as i with sticky,range => generation 2 sticky of a3, members a3
        ",
    );
}

#[test]
fn a_static_member_that_returns_before_the_assignment_is_a_rebalance() {
    check(
        "
        a joins as i            => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins as j            => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        b syncs                 => waits
        b2 joins as j           => waits; b: FencedInstanceId
        a syncs a=1 b=2         => RebalanceInProgress
        a joins                 => generation 3 range of a, members a b2; b2: generation 3 range of a
        ",
    );
}

#[test]
fn a_static_member_that_returns_while_it_joins_fences_the_first() {
    check(
        "
        a joins as i            => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins as j            => waits
        b2 joins as j           => waits; b: FencedInstanceId
        a joins                 => generation 2 range of a, members a b2; b2: generation 2 range of a
        ",
    );
}

#[test]
fn an_absent_static_member_is_part_of_the_next_generations_until_its_session_ends() {
    check(
        "
        a joins as i session 60s rebalance 5s => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins as j session 20s rebalance 5s => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        a syncs a=1 b=2         => assigned 1
        b syncs                 => assigned 2
        a joins                 => waits
        wait 5s                 => a: generation 3 range of a, members a b
        a syncs a=1 b=2         => assigned 1
        wait 5s                 => -
        a beats                 => RebalanceInProgress
        a joins                 => generation 4 range of a, members a
        ",
    );
}

#[test]
fn static_members_that_are_all_absent_keep_the_group_until_their_sessions_end() {
    check(
        "
        a joins as i session 60s rebalance 5s => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins session 60s rebalance 5s => MemberIdRequired
        b joins                 => waits
        b leaves                => ok; b: UnknownMemberId
        wait 50s                => -
        describe                => PreparingRebalance  [a@i=]
        wait 10s                => -
        describe                => Empty  []
        ",
    );
    // Kafka's clients do not do this: a rebalance time-out of nothing is no endless loop.
    check(
        "
        a joins as i rebalance 0s => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins rebalance 0s    => MemberIdRequired
        b joins                 => waits
        b leaves                => ok; b: UnknownMemberId
        wait 10s                => -
        describe                => Empty  []
        ",
    );
}

#[test]
fn an_administrator_removes_static_members() {
    check(
        "
        a joins as i            => generation 1 range of a, members a
        a syncs                 => assigned nothing
        b joins as j            => waits
        a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
        a syncs                 => assigned nothing
        b syncs                 => assigned nothing
        remove j k              => ok UnknownMemberId
        b beats                 => UnknownMemberId
        a beats                 => RebalanceInProgress
        remove i                => ok
        describe                => Empty  []
        ",
    );
}

#[test]
fn a_static_member_whose_id_nobody_knows() {
    check(
        "
        a joins as i            => generation 1 range of a, members a
        a leaves                => ok
        a joins                 => UnknownMemberId
        a forgets
        a joins                 => generation 3 range of a, members a
        ",
    );
}

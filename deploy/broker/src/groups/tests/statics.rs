//! Static members (KIP-345, KIP-814).

use super::check;

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
fn the_sync_of_a_static_member_that_returns_is_awaited_under_its_new_id() {
    for (syncs, beats) in [("assigned 2", "ok"), ("", "UnknownMemberId")] {
        let sync = if syncs.is_empty() { String::new() } else { format!("c syncs => {syncs}") };
        check(&format!(
            "
            a joins as i rebalance 5s session 60s => generation 1 range of a, members a
            a syncs                 => assigned nothing
            b joins as j rebalance 5s session 60s => waits
            a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
            a syncs a=1 b=2         => assigned 1
            c joins as j rebalance 5s session 60s => generation 2 range of a
            {sync}
            wait 5s                 => -
            c beats                 => {beats}
            "
        ));
    }
}

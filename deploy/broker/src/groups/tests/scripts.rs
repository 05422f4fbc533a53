//! What members and committers are answered, on every broker: the lines of [`world`](super::world). No line hangs on time.
//!
//! They are run in this crate's unit tests, and by the conformance suite on the embedded broker and on Apache Kafka.

#![allow(non_upper_case_globals, reason = "each script is a test of its name")]

/// Hands all scripts to a macro, those that restart the broker apart.
macro_rules! scripts {
    ($run:ident) => {
        $run! {
            [
                a_member_is_told_its_id_and_then_leads
                an_older_client_gets_its_id_with_the_generation
                two_members_share
                the_same_join_again_gives_the_same_generation
                other_metadata_is_a_rebalance
                the_protocol_is_the_one_that_most_like_best_of_those_all_know
                a_member_without_protocols
                generations_and_members_that_are_not
                groups_are_deleted_when_they_are_empty
                a_static_member_that_returns_finds_its_place_kept
                a_static_leader_that_returns_need_not_assign
                an_older_static_leader_that_returns_is_no_leader
                a_static_member_with_other_protocols_is_a_rebalance
                a_static_member_that_returns_before_the_assignment_is_a_rebalance
                a_static_member_that_returns_while_it_joins_fences_the_first
                an_administrator_removes_static_members
                a_static_member_whose_id_nobody_knows
                a_member_commits_in_its_generation
                an_old_generation_commits_no_more
                without_a_group_whoever_commits_without_generation_may
                who_brings_a_generation_needs_its_group
                staged_offsets_show_when_their_transaction_commits
                the_commit_that_was_written_last_wins
                a_transaction_may_commit_while_the_group_rebalances
                offsets_of_topics_that_nobody_reads_can_be_deleted
                offsets_of_a_group_of_others_than_consumers_can_be_deleted_when_it_is_empty
                a_deleted_topic_takes_its_offsets_along
            ]
            [
                a_killed_broker_finds_everything_again
            ]
        }
    };
}
pub(crate) use scripts;

pub(crate) const a_member_is_told_its_id_and_then_leads: &str = r#"
    a joins                 => MemberIdRequired
    a joins                 => generation 1 range of a, members a
    a beats                 => ok
    describe                => CompletingRebalance  [a=]
    a syncs a=1             => assigned 1
    describe                => Stable range [a=1]
    list                    => g Stable "consumer"
"#;

pub(crate) const an_older_client_gets_its_id_with_the_generation: &str = r#"
    a joins v3              => generation 1 range of a, members a
    a syncs                 => assigned nothing
"#;

pub(crate) const two_members_share: &str = r#"
    a joins v3              => generation 1 range of a, members a
    a syncs a=all           => assigned all
    b joins v3              => waits
    a beats                 => RebalanceInProgress
    a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
    b syncs                 => waits
    a beats                 => ok
    a syncs a=1 b=2         => assigned 1; b: assigned 2
    b syncs                 => assigned 2
    b leaves                => ok
    b beats                 => UnknownMemberId
    a beats                 => RebalanceInProgress
    a joins                 => generation 3 range of a, members a
    a syncs a=all           => assigned all
    a leaves                => ok
    describe                => Empty  []
    a leaves                => UnknownMemberId
"#;

pub(crate) const the_same_join_again_gives_the_same_generation: &str = r#"
    a joins v3              => generation 1 range of a, members a
    a joins                 => generation 1 range of a, members a
    a syncs                 => assigned nothing
    b joins v3              => waits
    a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
    b joins                 => generation 2 range of a
    a syncs a=1 b=2         => assigned 1
    b joins                 => generation 2 range of a
    b syncs                 => assigned 2
    a joins                 => waits
    b joins                 => generation 3 range of a; a: generation 3 range of a, members a b
"#;

pub(crate) const other_metadata_is_a_rebalance: &str = r#"
    a joins v3              => generation 1 range of a, members a
    a joins with range:t+u  => generation 2 range of a, members a
    a syncs                 => assigned nothing
    b joins v3              => waits
    a joins                 => generation 3 range of a, members a b; b: generation 3 range of a
    b syncs                 => waits
    b joins with range:u    => waits; b: RebalanceInProgress
    a syncs a=1             => RebalanceInProgress
    a joins                 => generation 4 range of a, members a b; b: generation 4 range of a
"#;

pub(crate) const the_protocol_is_the_one_that_most_like_best_of_those_all_know: &str = r#"
    a joins v3 with range,sticky,rr => generation 1 range of a, members a
    a syncs                 => assigned nothing
    b joins v3 with sticky,range => waits
    c joins v3 with sticky,range => waits
    a joins                 => generation 2 sticky of a, members a b c; b: generation 2 sticky of a; c: generation 2 sticky of a
    d joins v3 with rr      => InconsistentGroupProtocol
    d joins type connect with range => InconsistentGroupProtocol
    d joins type consumer with nothing => InconsistentGroupProtocol
    b joins with rr,range   => waits
    c joins with sticky,cooperative => InconsistentGroupProtocol
"#;

pub(crate) const a_member_without_protocols: &str = r#"
    a joins v3 with nothing => InconsistentGroupProtocol
    list                    => g Empty ""
"#;

pub(crate) const generations_and_members_that_are_not: &str = r#"
    x beats                 => UnknownMemberId
    x syncs                 => UnknownMemberId
    x leaves                => UnknownMemberId
    a joins v3              => generation 1 range of a, members a
    a joins with sticky,range => generation 2 sticky of a, members a
    x syncs                 => UnknownMemberId
    a syncs                 => assigned nothing
    b joins v3 with range   => waits
    a syncs                 => RebalanceInProgress
    a joins with range      => generation 3 range of a, members a b; b: generation 3 range of a
"#;

pub(crate) const groups_are_deleted_when_they_are_empty: &str = r#"
    delete                  => GroupIdNotFound
    a joins v3              => generation 1 range of a, members a
    delete                  => NonEmptyGroup
    a leaves                => ok
    delete                  => ok
    describe                => Dead GroupIdNotFound
    list                    => -
"#;

pub(crate) const a_static_member_that_returns_finds_its_place_kept: &str = r#"
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
"#;

pub(crate) const a_static_leader_that_returns_need_not_assign: &str = r#"
    a joins as i            => generation 1 range of a, members a
    a syncs a=all           => assigned all
    a2 joins as i           => generation 1 range of a2, members a2, skips
    a2 syncs a2=other       => assigned all
"#;

pub(crate) const an_older_static_leader_that_returns_is_no_leader: &str = r#"
    a joins as i v8         => generation 1 range of a, members a
    a syncs a=all           => assigned all
    a2 joins as i v8        => generation 1 range of a
    a2 syncs                => assigned all
"#;

pub(crate) const a_static_member_with_other_protocols_is_a_rebalance: &str = r#"
    a joins as i with range => generation 1 range of a, members a
    a syncs a=all           => assigned all
    a2 joins as i with range,sticky => generation 1 range of a2, members a2, skips
    a3 joins as i with sticky,range => generation 2 sticky of a3, members a3
"#;

pub(crate) const a_static_member_that_returns_before_the_assignment_is_a_rebalance: &str = r#"
    a joins as i            => generation 1 range of a, members a
    a syncs                 => assigned nothing
    b joins as j            => waits
    a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
    b syncs                 => waits
    b2 joins as j           => waits; b: FencedInstanceId
    a syncs a=1 b=2         => RebalanceInProgress
    a joins                 => generation 3 range of a, members a b2; b2: generation 3 range of a
"#;

pub(crate) const a_static_member_that_returns_while_it_joins_fences_the_first: &str = r#"
    a joins as i            => generation 1 range of a, members a
    a syncs                 => assigned nothing
    b joins as j            => waits
    b2 joins as j           => waits; b: FencedInstanceId
    a joins                 => generation 2 range of a, members a b2; b2: generation 2 range of a
"#;

pub(crate) const an_administrator_removes_static_members: &str = r#"
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
"#;

pub(crate) const a_static_member_whose_id_nobody_knows: &str = r#"
    a joins as i            => generation 1 range of a, members a
    a leaves                => ok
    a joins                 => UnknownMemberId
    a forgets
    a joins                 => generation 3 range of a, members a
"#;

pub(crate) const a_member_commits_in_its_generation: &str = r#"
    fetch t/0               => t/0=none
    a joins v3              => generation 1 range of a, members a
    a commits t/0=1         => RebalanceInProgress
    a syncs                 => assigned nothing
    a commits t/0=5 t/1=6 "m" u/2=7 => ok ok ok
    fetch t/0 t/1 t/2       => t/0=5 t/1=6 "m" t/2=none
    fetch all               => t/0=5 t/1=6 "m" u/2=7
    nobody commits t/0=9    => UnknownMemberId
    x commits t/0=9         => UnknownMemberId
    b joins v3              => waits
    a commits t/0=8         => ok
    a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
    a commits t/0=9         => RebalanceInProgress
    fetch all               => t/0=8 t/1=6 "m" u/2=7
"#;

pub(crate) const an_old_generation_commits_no_more: &str = r#"
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
"#;

pub(crate) const without_a_group_whoever_commits_without_generation_may: &str = r#"
    nobody commits t/0=1 t/9=1 x/0=1 => ok UnknownTopicOrPartition UnknownTopicOrPartition
    list                    => g Empty ""
    group h
    nobody commits x/0=1    => UnknownTopicOrPartition
    describe                => Dead GroupIdNotFound
"#;

pub(crate) const who_brings_a_generation_needs_its_group: &str = r#"
    a joins v3              => generation 1 range of a, members a
    group h
    a commits t/0=1         => IllegalGeneration
    a joins v9              => UnknownMemberId
    a commits t/0=1 x/0=1   => GroupIdNotFound UnknownTopicOrPartition
    p1 stages t/0=1 as a    => IllegalGeneration
"#;

pub(crate) const staged_offsets_show_when_their_transaction_commits: &str = r#"
    nobody commits t/0=1    => ok
    p1 stages t/0=5 t/1=6   => ok ok
    fetch t/0 t/1           => t/0=1 t/1=none
    fetch stable t/0 t/1 t/2 => t/0 UnstableOffsetCommit t/1 UnstableOffsetCommit t/2=none
    fetch stable all        => t/0 UnstableOffsetCommit
    p1 commits              => ok
    fetch stable t/0 t/1    => t/0=5 t/1=6
    p1 aborts               => InvalidTxnState
    p2 stages t/0=9         => ok
    p2 aborts               => ok
    fetch stable all        => t/0=5 t/1=6
"#;

pub(crate) const the_commit_that_was_written_last_wins: &str = r#"
    p1 stages t/0=5 t/1=5   => ok ok
    nobody commits t/0=7    => ok
    p2 stages t/1=6         => ok
    p2 commits              => ok
    p1 commits              => ok
    fetch all               => t/0=7 t/1=6
"#;

pub(crate) const a_transaction_may_commit_while_the_group_rebalances: &str = r#"
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
"#;

pub(crate) const offsets_of_topics_that_nobody_reads_can_be_deleted: &str = r#"
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
"#;

pub(crate) const offsets_of_a_group_of_others_than_consumers_can_be_deleted_when_it_is_empty: &str = r#"
    a joins v3 type connect => generation 1 range of a, members a
    delete t/0              => NonEmptyGroup
"#;

pub(crate) const a_deleted_topic_takes_its_offsets_along: &str = r#"
    nobody commits t/0=1 u/0=2 => ok ok
    p1 stages t/1=3 u/1=4   => ok ok
    topic t is gone         => ok
    p1 commits              => ok
    fetch all               => u/0=2 u/1=4
"#;

pub(crate) const a_killed_broker_finds_everything_again: &str = r#"
    a joins v3              => generation 1 range of a, members a
    a syncs a=all           => assigned all
    a commits t/0=5 "m"     => ok
    b joins v3              => waits
    group h
    c joins v3              => generation 1 range of c, members c
    c syncs                 => assigned nothing
    c commits t/0=5         => ok
    c leaves                => ok
    group i
    nobody commits t/0=5 u/0=5 => ok ok
    p1 stages t/0=6 t/1=6   => ok ok
    p2 stages t/2=6         => ok
    group j
    nobody commits t/0=1    => ok
    delete                  => ok
    group k
    nobody commits t/0=1    => ok
    delete t/0              => ok

    restart
    group g
    describe                => Stable range [a=all]
    fetch all               => t/0=5 "m"
    a beats                 => ok
    b joins v3              => waits
    a beats                 => RebalanceInProgress
    a joins                 => generation 2 range of a, members a b; b: generation 2 range of a
    b syncs                 => waits
    a syncs a=1 b=2         => assigned 1; b: assigned 2
    group h
    describe                => Empty  []
    fetch all               => t/0=5
    d joins v3              => generation 3 range of d, members d
    group i
    fetch stable t/0 t/1 t/2 => t/0 UnstableOffsetCommit t/1 UnstableOffsetCommit t/2 UnstableOffsetCommit
    nobody commits t/0=7    => ok
    p1 commits              => ok
    p2 aborts               => ok
    fetch stable t/0 t/1 t/2 => t/0=7 t/1=6 t/2=none
    topic u is gone         => ok
    fetch all               => t/0=7 t/1=6
    group j
    describe                => Dead GroupIdNotFound

    restart
    group g
    describe                => Stable range [a=1 b=2]
    b beats                 => ok
    b commits t/1=6         => ok
    fetch all               => t/0=5 "m" t/1=6
    group i
    p2 commits              => InvalidTxnState
    fetch stable all        => t/0=7 t/1=6
    group j
    describe                => Dead GroupIdNotFound
    group k
    fetch all               => -
"#;

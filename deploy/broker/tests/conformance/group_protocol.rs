//! The classic group protocol, step by step: ids, generations, rebalances, time-outs, static members.

use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
};

use crate::ask::{delete_topic, topic};
use crate::member::{JOIN_VERSION, Member, commit, commit_request, committed, subscription_to};
use crate::raw::{Connection, text};
use crate::subject::{Subject, eventually, unique};

const ILLEGAL_GENERATION: i16 = 22;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const REBALANCE_IN_PROGRESS: i16 = 27;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const FENCED_INSTANCE_ID: i16 = 82;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;

fn describe(connection: &mut Connection, group: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
    connection.ask(5, request).groups.remove(0)
}

fn state(connection: &mut Connection, group: &str) -> String {
    describe(connection, group).group_state.to_string()
}

/// Two members in a stable group; the first leads.
fn pair(subject: &Subject, group: &str) -> (Member, Member) {
    let mut leader = Member::alone(subject, group);
    let mut follower = Member::new(subject, group);
    follower.ask_for_an_id();
    follower.start_join();
    eventually("the leader is told of the rebalance", || (leader.heartbeat() == REBALANCE_IN_PROGRESS).then_some(()));
    leader.start_join();
    let (of_leader, of_follower) = (leader.joined(), follower.joined());
    assert_eq!((of_leader.error_code, of_follower.error_code), (0, 0));
    assert_eq!((of_leader.generation_id, of_follower.generation_id), (2, 2));
    assert_eq!(of_leader.leader, of_leader.member_id);
    assert_eq!(of_follower.leader, of_leader.member_id);
    assert_eq!((of_leader.members.len(), of_follower.members.len()), (2, 0), "only the leader is told who is there");
    follower.start_sync(&[]);
    let (first, second) = (leader.id.clone(), follower.id.clone());
    assert_eq!(leader.sync(&[(&first, b"one"), (&second, b"two")]).assignment.as_ref(), b"one");
    assert_eq!(follower.synced().assignment.as_ref(), b"two");
    (leader, follower)
}

fn a_member_is_given_an_id_joins_leads_and_is_assigned(subject: &Subject) {
    let group = unique("alone");
    let mut member = Member::new(subject, &group);
    member.ask_for_an_id();
    let id = member.id.clone();
    assert!(id.starts_with("conformance-"), "the client's id and a random part: {id}");
    let joined = member.join();
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.protocol_type.unwrap().as_str(), "consumer");
    assert_eq!(joined.protocol_name.unwrap().as_str(), "range");
    assert_eq!((joined.leader.as_str(), joined.member_id.as_str()), (id.as_str(), id.as_str()));
    assert!(!joined.skip_assignment);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata, subscription_to("some-topic"));
    let mut other = Connection::open(subject);
    // Kafka describes what its group log has committed, which may be a moment behind what the member was told.
    eventually("the group waits for its assignment", || {
        (state(&mut other, &group) == "CompletingRebalance").then_some(())
    });
    let synced = member.sync(&[(&id, b"all of it")]);
    assert_eq!((synced.error_code, synced.assignment.as_ref()), (0, &b"all of it"[..]));
    assert_eq!(synced.protocol_name.unwrap().as_str(), "range");
    assert_eq!(member.heartbeat(), 0);
    assert_eq!(member.sync(&[]).assignment.as_ref(), b"all of it", "asked again, told again");

    let told = describe(&mut other, &group);
    assert_eq!((told.error_code, told.group_state.as_str()), (0, "Stable"));
    assert_eq!((told.protocol_type.as_str(), told.protocol_data.as_str()), ("consumer", "range"));
    let member_told = &told.members[0];
    assert_eq!((member_told.member_id.as_str(), member_told.client_id.as_str()), (id.as_str(), "conformance"));
    assert_eq!(member_told.client_host.as_str(), "/127.0.0.1");
    assert_eq!(member_told.member_metadata, subscription_to("some-topic"));
    assert_eq!(member_told.member_assignment.as_ref(), b"all of it");

    assert_eq!(member.leave(), (0, 0));
    assert_eq!(member.leave(), (0, UNKNOWN_MEMBER_ID));
    assert_eq!(member.heartbeat(), UNKNOWN_MEMBER_ID);
    let told = describe(&mut other, &group);
    assert_eq!((told.group_state.as_str(), told.members.len()), ("Empty", 0));
}

fn a_second_member_rebalances_the_first_and_its_leaving_again(subject: &Subject) {
    let group = unique("pair");
    let (mut leader, mut follower) = pair(subject, &group);
    assert_eq!((leader.heartbeat(), follower.heartbeat()), (0, 0));
    assert_eq!(follower.leave(), (0, 0));
    assert_eq!(leader.heartbeat(), REBALANCE_IN_PROGRESS);
    let joined = leader.join();
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 3, 1));
}

fn a_join_waits_for_all_members_and_no_longer_than_the_rebalance_timeout(subject: &Subject) {
    let group = unique("patient");
    let mut slow = Member::new(subject, &group);
    slow.rebalance_timeout_ms = 1_000;
    slow.join();
    let id = slow.id.clone();
    slow.sync(&[(&id, b"x")]);
    let mut new = Member::new(subject, &group);
    new.rebalance_timeout_ms = 1_000;
    new.ask_for_an_id();
    new.start_join();
    let joined = new.joined();
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 2, 1), "without the slow one");
    assert_eq!(joined.leader.as_str(), new.id);
    assert_eq!(slow.heartbeat(), UNKNOWN_MEMBER_ID);
}

fn a_follower_waits_for_the_leaders_assignment_and_a_rebalance_ends_the_wait(subject: &Subject) {
    let group = unique("sync");
    let (mut leader, mut follower) = pair(subject, &group);
    // A new generation, in which the leader does not sync but joins once more.
    leader.start_join();
    eventually("the rebalance is told", || (follower.heartbeat() == REBALANCE_IN_PROGRESS).then_some(()));
    follower.start_join();
    assert_eq!((leader.joined().generation_id, follower.joined().generation_id), (3, 3));
    assert_eq!(leader.sync_of_generation(2), ILLEGAL_GENERATION);
    follower.start_sync(&[]);
    assert_eq!(follower.heartbeat_elsewhere(subject), 0, "a follower that waits for its assignment is well");
    let mut third = Member::new(subject, &group);
    third.ask_for_an_id();
    third.start_join();
    assert_eq!(follower.synced().error_code, REBALANCE_IN_PROGRESS);
    assert_eq!(leader.sync(&[]).error_code, REBALANCE_IN_PROGRESS);
    leader.start_join();
    follower.start_join();
    assert_eq!([leader.joined(), follower.joined(), third.joined()].map(|joined| joined.generation_id), [4; 3]);
}

impl Member {
    fn sync_of_generation(&mut self, generation: i32) -> i16 {
        let own = std::mem::replace(&mut self.generation, generation);
        let error = self.sync(&[]).error_code;
        self.generation = own;
        error
    }

    /// A heartbeat on another connection, while this one waits for an answer.
    fn heartbeat_elsewhere(&mut self, subject: &Subject) -> i16 {
        let own = std::mem::replace(&mut self.connection, Connection::open(subject));
        let error = self.heartbeat();
        self.connection = own;
        error
    }
}

fn a_member_that_is_silent_for_its_session_timeout_is_gone(subject: &Subject) {
    let group = unique("silent");
    let mut connection = Connection::open(subject);
    let mut member = Member::new(subject, &group);
    member.session_timeout_ms = 300;
    member.join();
    let id = member.id.clone();
    member.sync(&[(&id, b"x")]);
    eventually("the group is empty", || (state(&mut connection, &group) == "Empty").then_some(()));
    assert_eq!(member.heartbeat(), UNKNOWN_MEMBER_ID);
}

fn what_no_member_may_do_is_refused_by_its_own_error(subject: &Subject) {
    let topic = topic(subject, "refusals", 1, &[]);
    let group = unique("refusals");
    let mut member = Member::alone(subject, &group);
    member.generation = 7;
    assert_eq!(member.heartbeat(), ILLEGAL_GENERATION);
    assert_eq!(member.sync(&[]).error_code, ILLEGAL_GENERATION);
    assert_eq!(member.commit(&topic, 0, 1), ILLEGAL_GENERATION);
    member.generation = 1;
    let id = std::mem::replace(&mut member.id, "stranger".to_owned());
    assert_eq!(member.heartbeat(), UNKNOWN_MEMBER_ID);
    assert_eq!(member.sync(&[]).error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(member.join().error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(member.commit(&topic, 0, 1), UNKNOWN_MEMBER_ID);
    assert_eq!(
        commit(&mut member.connection, &group, &topic, 0, 1),
        UNKNOWN_MEMBER_ID,
        "no stranger while it has members"
    );
    member.id = id;
    assert_eq!(member.commit(&topic, 0, 1), 0);

    let request = member.join_request_with(&["another"]).with_member_id(text(""));
    assert_eq!(member.connection.ask(JOIN_VERSION, request).error_code, INCONSISTENT_GROUP_PROTOCOL);
    let request = member.join_request().with_protocol_type(text("connect")).with_member_id(text(""));
    assert_eq!(member.connection.ask(JOIN_VERSION, request).error_code, INCONSISTENT_GROUP_PROTOCOL);
    let request = member.join_request_with(&[]).with_group_id(GroupId(text(&unique("new"))));
    assert_eq!(
        member.connection.ask(JOIN_VERSION, request.with_member_id(text(""))).error_code,
        INCONSISTENT_GROUP_PROTOCOL
    );
    let request = member.join_request().with_group_id(GroupId(text(""))).with_member_id(text(""));
    assert_eq!(member.connection.ask(JOIN_VERSION, request).error_code, INVALID_GROUP_ID);
    for time in [9, 1_800_001] {
        let request = member.join_request().with_session_timeout_ms(time).with_member_id(text(""));
        assert_eq!(member.connection.ask(JOIN_VERSION, request).error_code, INVALID_SESSION_TIMEOUT, "{time} ms");
    }
    let mut nobody = Member::new(subject, &unique("nobody"));
    nobody.id = "nobody".to_owned();
    assert_eq!(nobody.heartbeat(), UNKNOWN_MEMBER_ID);
    assert_eq!(nobody.leave(), (0, UNKNOWN_MEMBER_ID));
}

fn the_protocol_is_one_that_all_members_know(subject: &Subject) {
    let group = unique("protocols");
    let mut first = Member { protocols: &["a", "b"], ..Member::new(subject, &group) };
    assert_eq!(first.join().protocol_name.unwrap().as_str(), "a", "its first choice");
    let mut second = Member { protocols: &["b", "c"], ..Member::new(subject, &group) };
    second.ask_for_an_id();
    second.start_join();
    eventually("the rebalance is told", || (first.heartbeat() == REBALANCE_IN_PROGRESS).then_some(()));
    assert_eq!(first.join().protocol_name.unwrap().as_str(), "b", "the one that both know");
    assert_eq!(second.joined().protocol_name.unwrap().as_str(), "b");
}

fn a_static_member_comes_back_without_a_rebalance(subject: &Subject) {
    let topic = topic(subject, "static", 1, &[]);
    let group = unique("static");
    let mut first = Member::of_instance(subject, &group, "a");
    let joined = first.join();
    assert_eq!((joined.error_code, joined.generation_id), (0, 1), "no id has to be asked for");
    assert!(first.id.starts_with("a-"), "{}", first.id);
    assert_eq!(joined.members[0].group_instance_id.as_ref().unwrap().as_str(), "a");
    let mut second = Member::of_instance(subject, &group, "b");
    second.start_join();
    eventually("the rebalance is told", || (first.heartbeat() == REBALANCE_IN_PROGRESS).then_some(()));
    first.start_join();
    assert_eq!((first.joined().generation_id, second.joined().generation_id), (2, 2));
    second.start_sync(&[]);
    let (a, b) = (first.id.clone(), second.id.clone());
    first.sync(&[(&a, b"one"), (&b, b"two")]);
    assert_eq!(second.synced().assignment.as_ref(), b"two");

    let mut again = Member::of_instance(subject, &group, "b");
    let joined = again.join();
    assert_eq!((joined.error_code, joined.generation_id), (0, 2), "the same generation");
    assert_ne!(again.id, b, "but a new id");
    assert_eq!(joined.leader.as_str(), a);
    assert_eq!(again.sync(&[]).assignment.as_ref(), b"two", "and the same assignment");
    assert_eq!((first.heartbeat(), again.heartbeat()), (0, 0));
    assert_eq!(second.heartbeat(), FENCED_INSTANCE_ID, "the one before is fenced");
    assert_eq!(second.commit(&topic, 0, 1), FENCED_INSTANCE_ID);
    assert_eq!(second.sync(&[]).error_code, FENCED_INSTANCE_ID);
    second.start_join();
    assert_eq!(second.joined().error_code, FENCED_INSTANCE_ID);

    // An administrator removes it by its instance alone.
    let identity = MemberIdentity::default().with_group_instance_id(Some(text("b")));
    let request = LeaveGroupRequest::default().with_group_id(again.group_id()).with_members(vec![identity]);
    let left = first.connection.ask(5, request);
    assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    assert_eq!(first.heartbeat(), REBALANCE_IN_PROGRESS);
}

fn a_static_leader_comes_back_and_is_told_to_skip_the_assignment(subject: &Subject) {
    let group = unique("static-leader");
    let mut leader = Member::of_instance(subject, &group, "a");
    leader.join();
    let id = leader.id.clone();
    leader.sync(&[(&id, b"mine")]);
    let mut again = Member::of_instance(subject, &group, "a");
    let joined = again.join();
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!((joined.leader.as_str(), joined.skip_assignment), (again.id.as_str(), true));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(again.sync(&[]).assignment.as_ref(), b"mine");
}

fn offsets_are_committed_with_their_metadata_and_read_again(subject: &Subject) {
    let topic = topic(subject, "committed", 2, &[]);
    let group = unique("offsets");
    let mut connection = Connection::open(subject);
    assert_eq!(committed(&mut connection, &group, &topic, 0, false), (0, -1, String::new()), "nothing yet");
    let answer = connection.ask(8, commit_request(&group, &topic, 0, 41, "a note"));
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    assert_eq!(committed(&mut connection, &group, &topic, 0, false), (0, 41, "a note".to_owned()));
    assert_eq!(committed(&mut connection, &group, &topic, 0, true), (0, 41, "a note".to_owned()));
    assert_eq!(commit(&mut connection, &group, &topic, 0, 7), 0, "backwards too");
    assert_eq!(committed(&mut connection, &group, &topic, 0, false), (0, 7, String::new()));
    assert_eq!(committed(&mut connection, &group, &topic, 1, false).1, -1);
    assert_eq!(commit(&mut connection, &group, &topic, 5, 7), 3, "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(commit(&mut connection, &group, "no-such-topic", 0, 7), 3);
    let long = "x".repeat(4_097);
    let answer = connection.ask(8, commit_request(&group, &topic, 0, 1, &long));
    assert_eq!(answer.topics[0].partitions[0].error_code, 12, "OFFSET_METADATA_TOO_LARGE");
    let answer = connection.ask(8, commit_request(&group, &topic, 0, 9, &long[1..]));
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    assert_eq!(committed(&mut connection, &group, &topic, 0, false).1, 9);
    assert_eq!(state(&mut connection, &group), "Empty");
    delete_topic(subject, &topic);
    eventually("a deleted topic's offsets go", || {
        (committed(&mut connection, &group, &topic, 0, false).1 == -1).then_some(())
    });
}

fn groups_are_listed_and_deleted(subject: &Subject) {
    let topic = topic(subject, "listed", 1, &[]);
    let (idle, busy) = (unique("idle"), unique("busy"));
    let mut connection = Connection::open(subject);
    assert_eq!(commit(&mut connection, &idle, &topic, 0, 1), 0);
    let mut member = Member::alone(subject, &busy);
    let mut list = |states: &[&str]| {
        let filter = states.iter().map(|state| text(state)).collect();
        let response = connection.ask(4, ListGroupsRequest::default().with_states_filter(filter));
        assert_eq!(response.error_code, 0);
        let of_this_check = |group: &str| group == idle || group == busy;
        let groups = response
            .groups
            .into_iter()
            .map(|group| (group.group_id.to_string(), group.protocol_type.to_string(), group.group_state.to_string()));
        let mut groups: Vec<_> = groups.filter(|(group, ..)| of_this_check(group)).collect();
        groups.sort();
        groups
    };
    let row = |group: &str, kind: &str, state: &str| (group.to_owned(), kind.to_owned(), state.to_owned());
    let (idle_row, busy_row) = (row(&idle, "", "Empty"), row(&busy, "consumer", "Stable"));
    let mut both = vec![idle_row.clone(), busy_row.clone()];
    both.sort();
    assert_eq!(list(&[]), both);
    assert_eq!(list(&["Stable"]), [busy_row]);
    assert_eq!(list(&["Empty", "Dead"]), [idle_row]);

    let mut connection = Connection::open(subject);
    let mut delete = |names: &[&str]| {
        let request =
            DeleteGroupsRequest::default().with_groups_names(names.iter().map(|n| GroupId(text(n))).collect());
        let mut results: Vec<(String, i16)> =
            connection.ask(2, request).results.into_iter().map(|r| (r.group_id.to_string(), r.error_code)).collect();
        results.sort_by_key(|result| result.1);
        results.into_iter().map(|result| result.1).collect::<Vec<_>>()
    };
    assert_eq!(delete(&[&idle, &busy, "no-such-group"]), [0, NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND]);
    assert_eq!(delete(&[&idle]), [GROUP_ID_NOT_FOUND]);
    assert_eq!(member.heartbeat(), 0);
    let mut connection = Connection::open(subject);
    assert_eq!(committed(&mut connection, &idle, &topic, 0, false).1, -1);
    let told = describe(&mut connection, &idle);
    assert_eq!(
        (told.error_code, told.group_state.as_str()),
        (0, "Dead"),
        "as version 5 tells a group that is not there"
    );
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(&idle))]);
    assert_eq!(connection.ask(6, request).groups[0].error_code, GROUP_ID_NOT_FOUND, "and version 6");
}

fn a_join_of_version_3_needs_no_second_request(subject: &Subject) {
    let mut member = Member::new(subject, &unique("old"));
    let request = member.join_request().with_group_instance_id(None).with_reason(None);
    let joined = member.connection.ask::<JoinGroupRequest>(3, request);
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.leader, joined.member_id);
}

fn a_commit_in_an_open_transaction_is_told_to_those_who_require_stable_offsets(subject: &Subject) {
    use crate::transactor::Transactor;
    let topic = topic(subject, "unstable", 1, &[]);
    let group = unique("unstable");
    let mut connection = Connection::open(subject);
    commit(&mut connection, &group, &topic, 0, 5);
    let mut transactor = Transactor::new(subject, &unique("unstable"));
    assert_eq!(transactor.add_offsets(&group), 0);
    assert_eq!(transactor.commit_offset(&group, &topic, 0, 9), 0);
    assert_eq!(committed(&mut connection, &group, &topic, 0, false), (0, 5, String::new()));
    assert_eq!(committed(&mut connection, &group, &topic, 0, true).0, UNSTABLE_OFFSET_COMMIT);
    assert_eq!(transactor.end(true), 0);
    eventually("the commit is stable", || {
        let told = committed(&mut connection, &group, &topic, 0, true);
        (told == (0, 9, String::new())).then_some(())
    });
}

on_both!(
    a_member_is_given_an_id_joins_leads_and_is_assigned,
    a_second_member_rebalances_the_first_and_its_leaving_again,
    a_join_waits_for_all_members_and_no_longer_than_the_rebalance_timeout,
    a_follower_waits_for_the_leaders_assignment_and_a_rebalance_ends_the_wait,
    a_member_that_is_silent_for_its_session_timeout_is_gone,
    what_no_member_may_do_is_refused_by_its_own_error,
    the_protocol_is_one_that_all_members_know,
    a_static_member_comes_back_without_a_rebalance,
    a_static_leader_comes_back_and_is_told_to_skip_the_assignment,
    offsets_are_committed_with_their_metadata_and_read_again,
    groups_are_listed_and_deleted,
    a_join_of_version_3_needs_no_second_request,
    a_commit_in_an_open_transaction_is_told_to_those_who_require_stable_offsets,
);

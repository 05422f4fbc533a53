//! Members of a group: where they start, what they commit, and that a rebalance loses and doubles nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tidewatch_topic_io::{
    Admin, Assigned, Committed, Disposition, GroupEvent, GroupOptions, GroupReader, KafkaConfig, KafkaError,
    OffsetCommit, StartAt,
};

use crate::{PATIENCE, create, join, next_events, read_values, serve, write};

tidewatch_test_brokers::on_both_brokers!(
    a_group_goes_on_where_it_committed_and_finds_its_metadata,
    a_rewound_partition_is_read_again_and_the_others_are_not,
    a_read_returns_what_is_there_without_waiting_for_more,
    a_second_member_takes_over_half_and_nothing_is_lost_or_doubled,
    the_eager_protocol_is_served_too,
    a_missing_topic_is_said_in_one_line,
    records_that_are_gone_are_an_error_not_a_jump,
    a_second_holder_of_an_instance_id_expels_the_first,
    who_is_no_member_has_no_membership_to_commit_under,
    a_member_goes_back_to_what_is_committed_without_joining_again,
    partitions_without_an_owner_are_told_once_the_group_is_at_rest,
    a_member_without_a_partition_leaves_the_group_when_it_ends,
    a_member_leaves_in_the_middle_of_a_rebalance,
);

fn assigned(events: Vec<GroupEvent>) -> Vec<Assigned> {
    let assigned =
        events.into_iter().filter_map(|event| if let GroupEvent::Assigned(list) = event { Some(list) } else { None });
    assigned.flatten().collect()
}

fn partitions_without_an_owner_are_told_once_the_group_is_at_rest(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "owned", 2);
    create(kafka, "unowned", 1);
    let (admin, topics) = (Admin::connect(kafka).unwrap(), ["owned", "unowned"]);
    let all: [_; 3] = [("owned", 0), ("owned", 1), ("unowned", 0)].map(|(topic, at)| (topic.to_owned(), at));
    assert_eq!(admin.unowned("owners", &topics).unwrap(), Some(all.into()));
    let mut member = join(kafka, "owners", "owned");
    next_events(&mut member);
    // It may be told its partitions a moment before the broker has settled that.
    let start = Instant::now();
    let found = loop {
        if let Some(found) = admin.unowned("owners", &topics).unwrap().filter(|found| found.len() < topics.len() + 1) {
            break found;
        }
        assert!(start.elapsed() < PATIENCE);
        serve(&mut member);
    };
    assert_eq!(found, [("unowned".to_owned(), 0)].into());
}

/// How many members a group has.
fn members(kafka: &KafkaConfig, group: &str) -> usize {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap_servers).set("group.id", group);
    let asks: BaseConsumer = config.create().unwrap();
    let found = asks.fetch_group_list(Some(group), PATIENCE).unwrap();
    found.groups().iter().map(|group| group.members().len()).sum()
}

fn a_member_without_a_partition_leaves_the_group_when_it_ends(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "narrow", 1);
    let mut one = join(kafka, "narrow", "narrow");
    next_events(&mut one);
    let mut idle = join(kafka, "narrow", "narrow");
    let start = Instant::now();
    while !idle.is_member() || members(kafka, "narrow") < 2 {
        assert!(start.elapsed() < PATIENCE);
        serve(&mut one);
        assert_eq!(serve(&mut idle), []);
    }
    drop(idle);
    assert_eq!(members(kafka, "narrow"), 1);
}

fn a_member_leaves_in_the_middle_of_a_rebalance(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "midst", 2);
    let mut one = join(kafka, "midst", "midst");
    next_events(&mut one);
    let mut two = join(kafka, "midst", "midst");
    let start = Instant::now();
    // One is told to give a partition up; before the other has it, both end.
    loop {
        assert!(start.elapsed() < PATIENCE);
        if matches!(serve(&mut one)[..], [GroupEvent::Revoked(_), ..]) {
            break;
        }
        serve(&mut two);
    }
    drop(one);
    drop(two);
    assert_eq!(members(kafka, "midst"), 0);
}

fn a_group_goes_on_where_it_committed_and_finds_its_metadata(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "resume", 1);
    write(kafka, "resume", 1, 0, 10);
    let mut first = join(kafka, "resume", "resume");
    assert_eq!(
        assigned(next_events(&mut first)),
        [Assigned { topic: "resume".into(), partition: 0, committed: None, start_offset: 0 }]
    );
    assert_eq!(read_values(&mut first, 4).last().unwrap().2, "0:3");
    first.commit(&[OffsetCommit { topic: "resume", partition: 0, offset: 4, metadata: "round 1 · ü" }]).unwrap();
    assert_eq!(first.positions().collect::<Vec<_>>(), [("resume", 0, 4)]);
    drop(first);

    let mut second = join(kafka, "resume", "resume");
    let mut asked = Vec::new();
    let start = Instant::now();
    let events = loop {
        let events = second.serve_group(&mut |topic, partition, committed| {
            asked.push((topic.to_owned(), partition, committed.cloned()));
            StartAt::Offset(committed.unwrap().offset - 2) // a replay begins before the committed offset
        });
        let events = events.unwrap();
        if !events.is_empty() {
            break events;
        }
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    };
    let committed = Some(Committed { offset: 4, metadata: "round 1 · ü".into() });
    assert_eq!(asked, [("resume".to_owned(), 0, committed.clone())]);
    assert_eq!(assigned(events), [Assigned { topic: "resume".into(), partition: 0, committed, start_offset: 2 }]);
    assert_eq!(read_values(&mut second, 8)[0], (0, 2, "0:2".to_owned()));
    let lag = second.lag();
    assert_eq!((lag[0].committed, lag[0].end_offset, lag[0].lag), (Some(10), 10, 0));
    assert_eq!(second.watermarks("resume", 0).unwrap(), (0, 10));
}

fn a_rewound_partition_is_read_again_and_the_others_are_not(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "rewind", 2);
    write(kafka, "rewind", 2, 0, 10);
    let mut reader = join(kafka, "rewind", "rewind");
    next_events(&mut reader);
    read_values(&mut reader, 13); // one partition whole, the other in part; the rest is fetched ahead
    reader.rewind(&[("rewind", 0, 4), ("rewind", 1, 10), ("rewind", 7, 0)]).unwrap();
    let again = read_values(&mut reader, 6);
    assert_eq!(again.iter().map(|(p, o, _)| (*p, *o)).collect::<Vec<_>>(), (4..10).map(|o| (0, o)).collect::<Vec<_>>());
    assert!(reader.read(10, Duration::from_millis(300)).unwrap().is_empty());
    assert_eq!(reader.positions().collect::<Vec<_>>(), [("rewind", 0, 10), ("rewind", 1, 10)]);
}

fn a_read_returns_what_is_there_without_waiting_for_more(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "prompt", 1);
    write(kafka, "prompt", 1, 0, 3);
    let mut reader = join(kafka, "prompt", "prompt");
    next_events(&mut reader);
    let start = Instant::now();
    let mut count = 0;
    while count < 3 {
        count += reader.read(1000, PATIENCE).unwrap().len();
    }
    assert!(start.elapsed() < PATIENCE, "it did not wait for a thousand");
}

fn a_second_member_takes_over_half_and_nothing_is_lost_or_doubled(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "shared", 6);
    write(kafka, "shared", 6, 0, 50);
    let mut seen = BTreeMap::<(i32, i64), usize>::new();
    let mut note = |values: Vec<(i32, i64, String)>| {
        for (partition, offset, _) in values {
            *seen.entry((partition, offset)).or_default() += 1;
        }
    };
    let mut one = join(kafka, "shared", "shared");
    assert_eq!(assigned(next_events(&mut one)).len(), 6);
    note(read_values(&mut one, 120)); // in the middle of what is there, the rest prefetched
    // What was read so far is committed before the group changes, as a cycle does.
    let positions: Vec<_> =
        one.positions().map(|(topic, partition, offset)| (topic.to_owned(), partition, offset)).collect();
    let commits = positions.iter().map(|(topic, partition, offset)| OffsetCommit {
        topic,
        partition: *partition,
        offset: *offset,
        metadata: "",
    });
    one.commit(&commits.collect::<Vec<_>>()).unwrap();
    let mut two = join(kafka, "shared", "shared");
    let (mut given, mut taken, start) = (Vec::new(), Vec::new(), Instant::now());
    while taken.len() < 3 {
        assert!(start.elapsed() < PATIENCE, "given {given:?}, taken {taken:?}");
        for event in serve(&mut one) {
            match event {
                GroupEvent::Revoked(partitions) => given.extend(partitions),
                other => panic!("cooperative: partitions that stay are not touched, but {other:?}"),
            }
        }
        taken.extend(assigned(serve(&mut two)));
    }
    assert_eq!(given.len(), 3);
    assert_eq!(one.positions().len(), 3);
    assert!(taken.iter().all(|new| given.contains(&(new.topic.clone(), new.partition)) && new.committed.is_some()));
    write(kafka, "shared", 6, 50, 10);
    let mut left = 6 * 60 - 120;
    let start = Instant::now();
    while left > 0 {
        assert!(start.elapsed() < PATIENCE, "{left} records are missing");
        for reader in [&mut one, &mut two] {
            assert_eq!(serve(reader), [], "the group has settled");
            let batch = reader.read(100, Duration::from_millis(20)).unwrap();
            left -= batch.len();
            note(batch.iter().map(|m| (m.partition(), m.offset(), String::new())).collect());
        }
    }
    assert!(one.read(100, Duration::from_millis(200)).unwrap().is_empty());
    assert!(two.read(100, Duration::from_millis(200)).unwrap().is_empty());
    assert_eq!(seen.len(), 360);
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");

    drop(two); // it leaves: the first one gets everything back
    let back = assigned(next_events(&mut one));
    assert_eq!(back.len(), 3);
}

fn the_eager_protocol_is_served_too(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "eager", 2);
    write(kafka, "eager", 2, 0, 5);
    let mut eager = kafka.clone();
    eager.properties.set("partition.assignment.strategy", "range");
    let open = || GroupReader::new(&eager, "eager", &["eager"], GroupOptions::default()).unwrap();
    let mut one = open();
    assert_eq!(assigned(next_events(&mut one)).len(), 2);
    read_values(&mut one, 10);
    let mut two = open();
    let (mut taken, mut revoked, start) = (0, 0, Instant::now());
    while taken < 1 || one.positions().len() != 1 {
        assert!(start.elapsed() < PATIENCE);
        for event in serve(&mut one) {
            revoked += usize::from(matches!(event, GroupEvent::Revoked(_)));
        }
        taken += assigned(serve(&mut two)).len();
    }
    assert!(revoked >= 1, "everything is given up first");
    assert_eq!(two.positions().len(), 1);
}

fn a_missing_topic_is_said_in_one_line(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let mut reader = join(kafka, "nothing", "no-such-topic");
    let start = Instant::now();
    let error = loop {
        assert!(start.elapsed() < PATIENCE);
        match reader.serve_group(&mut |_, _, _| StartAt::Committed) {
            Ok(_) => drop(reader.read(1, Duration::from_millis(10)).unwrap()),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().starts_with("topic \"no-such-topic\" does not exist: create it"), "{error}");
    assert_eq!(error.disposition(), Disposition::Fatal);
}

fn records_that_are_gone_are_an_error_not_a_jump(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "gone", 1);
    write(kafka, "gone", 1, 0, 3);
    let mut reader = join(kafka, "gone", "gone");
    let start = Instant::now();
    while reader.serve_group(&mut |_, _, _| StartAt::Offset(1000)).unwrap().is_empty() {
        assert!(start.elapsed() < PATIENCE);
    }
    let error = loop {
        assert!(start.elapsed() < PATIENCE);
        match reader.read(10, Duration::from_millis(100)) {
            Ok(batch) => assert!(batch.is_empty()),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, KafkaError::OffsetOutOfRange { topic, partition: 0, offset: 1000 } if topic == "gone"),
        "{error:?}"
    );
}

fn a_second_holder_of_an_instance_id_expels_the_first(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "static", 1);
    let open = || {
        let options = GroupOptions { instance_id: Some("i-1".to_owned()), ..GroupOptions::default() };
        GroupReader::new(kafka, "static", &["static"], options).unwrap()
    };
    let mut first = open();
    next_events(&mut first);
    let mut second = open();
    let start = Instant::now();
    let error = loop {
        assert!(start.elapsed() < PATIENCE);
        serve(&mut second);
        match first.serve_group(&mut |_, _, _| StartAt::Committed) {
            Ok(_) => drop(first.read(1, Duration::from_millis(10))),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, KafkaError::Expelled { group, .. } if group == "static"), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Fatal);
}

fn who_is_no_member_has_no_membership_to_commit_under(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "nobody", 1);
    let mut reader = join(kafka, "nobody", "nobody");
    // The broker would take the offsets of nobody's without a check.
    assert!(!reader.is_member());
    let error = reader.group_metadata().unwrap_err();
    assert_eq!(error.disposition(), Disposition::AbortCycle, "{error}");
    next_events(&mut reader);
    assert!(reader.is_member());
    reader.group_metadata().unwrap();
}

fn a_member_goes_back_to_what_is_committed_without_joining_again(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "back", 2);
    write(kafka, "back", 2, 0, 10);
    let mut reader = join(kafka, "back", "back");
    next_events(&mut reader);
    read_values(&mut reader, 20);
    reader.commit(&[OffsetCommit { topic: "back", partition: 0, offset: 7, metadata: "m" }]).unwrap();
    let both = [0, 1].map(|partition| ("back".to_owned(), partition));
    let committed = Some(Committed { offset: 7, metadata: "m".into() });
    assert_eq!(reader.committed(&both).unwrap(), [committed.clone(), None]);
    let back = reader.go_back(&both, &mut |_, _, committed| match committed {
        Some(committed) => StartAt::Offset(committed.offset - 1),
        None => StartAt::Offset(8),
    });
    let expected =
        |partition, committed, start_offset| Assigned { topic: "back".into(), partition, committed, start_offset };
    assert_eq!(back.unwrap(), [expected(0, committed, 6), expected(1, None, 8)]);
    let mut again: Vec<_> = read_values(&mut reader, 6).into_iter().map(|(p, o, _)| (p, o)).collect();
    again.sort_unstable();
    assert_eq!(again, [(0, 6), (0, 7), (0, 8), (0, 9), (1, 8), (1, 9)]);
    assert_eq!(serve(&mut reader), [], "the group has noticed nothing");
}

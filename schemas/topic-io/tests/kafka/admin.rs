//! The first connection, topics and what is wrong with them.

use std::time::{Duration, Instant};

use tidewatch_broker::{Broker, BrokerConfig};
use tidewatch_topic_io::{Admin, Disposition, KafkaConfig, KafkaError, Outgoing, TopicSpec, Writer};

use crate::{PATIENCE, create, write};

tidewatch_test_brokers::on_both_brokers!(
    a_name_that_is_no_host_and_a_port_that_is_no_broker_are_told_apart,
    topics_are_created_once_with_their_settings_and_their_partitions_are_checked,
    what_cannot_be_created_or_found_is_said,
    offsets_and_the_lag_of_a_group_that_never_read,
);

#[test]
fn an_absent_broker_is_one_line_within_seconds() {
    let absent = KafkaConfig { connect_timeout: Duration::from_secs(1), ..KafkaConfig::at("127.0.0.1:1") };
    let start = Instant::now();
    let error = Admin::connect(&absent).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(30), "the setting's second, and a machine's slowness");
    let text = error.to_string();
    assert!(text.starts_with("no broker answers at kafka.bootstrap_servers = \"127.0.0.1:1\" within 1 s: "), "{text}");
    assert!(text.contains("refused") && !text.contains('\n'), "{text}");
    assert_eq!(error.disposition(), Disposition::Fatal);
}

fn a_name_that_is_no_host_and_a_port_that_is_no_broker_are_told_apart(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let nowhere =
        KafkaConfig { connect_timeout: Duration::from_secs(1), ..KafkaConfig::at("no.such.host.invalid:9092") };
    let text = Admin::connect(&nowhere).unwrap_err().to_string();
    assert!(
        text.contains("kafka.bootstrap_servers = \"no.such.host.invalid:9092\"") && text.contains("resolve"),
        "{text}"
    );

    let tls = KafkaConfig {
        security_protocol: tidewatch_topic_io::SecurityProtocol::Ssl,
        // The first failed handshake must fall into it, on a busy machine too.
        connect_timeout: Duration::from_secs(10),
        ..kafka.clone()
    };
    let text = Admin::connect(&tls).unwrap_err().to_string();
    assert!(text.contains("kafka.bootstrap_servers") && text.to_lowercase().contains("ssl"), "{text}");
}

fn topics_are_created_once_with_their_settings_and_their_partitions_are_checked(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let admin = Admin::connect(kafka).unwrap();
    let state = TopicSpec { compacted: true, retention_ms: Some(-1), ..TopicSpec::new("admin-state", 3) };
    assert_eq!(
        admin.ensure_topics(&[state.clone(), TopicSpec::new("admin-in", 2)]).unwrap(),
        ["admin-state", "admin-in"]
    );
    assert_eq!(admin.ensure_topics(std::slice::from_ref(&state)).unwrap(), [""; 0], "it is there");
    assert_eq!(admin.partitions("admin-state").unwrap(), 3);
    let listed = admin.list().unwrap();
    let found = listed.iter().find(|topic| topic.name == "admin-in").unwrap();
    assert_eq!((found.partitions, found.replication), (2, 1));

    let error = admin.ensure_topics(&[TopicSpec { partitions: 4, ..state }]).unwrap_err();
    assert_eq!(error.disposition(), Disposition::Fatal);
    assert!(error.to_string().starts_with("topic \"admin-state\" has 3 partitions, 4 are configured: "), "{error}");
}

fn what_cannot_be_created_or_found_is_said(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    let admin = Admin::connect(kafka).unwrap();
    let error = admin.ensure_topics(&[TopicSpec { replication: 3, ..TopicSpec::new("wide", 1) }]).unwrap_err();
    assert!(
        error.to_string().starts_with("topic \"wide\" cannot be created with 1 partitions and replication 3: "),
        "{error}"
    );
    let mut odd = TopicSpec::new("odd", 1);
    odd.properties.insert("retention.mss".to_owned(), "5".to_owned());
    let error = admin.ensure_topics(&[odd]).unwrap_err();
    assert!(matches!(error, KafkaError::NotCreated { .. }), "{error}");
    let mut newer = TopicSpec::new("newer", 1);
    newer.properties_if_known.insert("not.of.this.version".to_owned(), "5".to_owned());
    newer.properties.insert("max.message.bytes".to_owned(), "5000".to_owned());
    assert_eq!(admin.ensure_topics(&[newer.clone(), TopicSpec::new("other", 1)]).unwrap(), ["other", "newer"]);
    assert_eq!(admin.batch_bytes_max(["newer"]).unwrap(), [Some(5_000)]);
    newer = TopicSpec { name: "newer-odd".to_owned(), ..newer };
    newer.properties.insert("retention.mss".to_owned(), "5".to_owned());
    let error = admin.ensure_topics(&[newer]).unwrap_err();
    assert!(matches!(error, KafkaError::NotCreated { .. }), "{error}");
    let error = admin.partitions("no-such-topic").unwrap_err();
    assert!(matches!(&error, KafkaError::UnknownTopic { topic } if topic == "no-such-topic"), "{error}");
}

#[test]
fn asking_for_a_topic_does_not_make_it() {
    let broker = Broker::start(BrokerConfig { auto_create_topics: true, ..BrokerConfig::in_memory() }).unwrap();
    let kafka = &KafkaConfig::at(&broker.bootstrap_servers());
    let admin = Admin::connect(kafka).unwrap();
    let mut writer = Writer::new(kafka).unwrap();
    let sent = writer.send(Outgoing::new("absent", b"k", b"v")).and_then(|()| writer.flush(PATIENCE));
    for error in [admin.partitions("absent").unwrap_err(), sent.unwrap_err()] {
        assert!(matches!(&error, KafkaError::UnknownTopic { topic } if topic == "absent"), "{error:?}");
    }
    assert!(admin.list().unwrap().is_empty());
}

fn offsets_and_the_lag_of_a_group_that_never_read(bootstrap_servers: &str) {
    let kafka = &KafkaConfig::at(bootstrap_servers);
    create(kafka, "offsets", 2);
    write(kafka, "offsets", 1, 0, 5);
    let admin = Admin::connect(kafka).unwrap();
    let offsets = admin.offsets("offsets").unwrap();
    assert_eq!(offsets.iter().map(|o| (o.partition, o.low, o.high)).collect::<Vec<_>>(), [(0, 0, 5), (1, 0, 0)]);
    let lag = admin.lag("never", &["offsets"]).unwrap();
    assert_eq!(lag.iter().map(|l| (l.partition, l.committed, l.lag)).collect::<Vec<_>>(), [(0, None, 5), (1, None, 0)]);
}

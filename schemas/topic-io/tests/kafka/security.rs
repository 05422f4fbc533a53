//! Authentication against a broker that asks for it, and a readable refusal when it is wrong.

use std::time::Duration;

use tidewatch_kafka::{KafkaServer, StartOptions};
use tidewatch_topic_io::{
    Admin, Disposition, GroupOptions, GroupReader, KafkaConfig, KafkaError, Outgoing, SaslMechanism, SecurityProtocol,
    StartAt, TopicSpec, TransactionOptions, TransactionalWriter, Writer,
};

use crate::{PATIENCE, read_values};

fn sasl_broker(more: &[(&str, &str)]) -> KafkaServer {
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required \
        username=\"broker\" password=\"b\" user_broker=\"b\" user_me=\"right\" user_guest=\"guest\";";
    let bearer = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";";
    let properties = [
        ("listener.security.protocol.map", "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("sasl.enabled.mechanisms", "PLAIN,OAUTHBEARER"),
        ("sasl.mechanism.inter.broker.protocol", "PLAIN"),
        ("listener.name.plaintext.plain.sasl.jaas.config", plain),
        ("listener.name.plaintext.oauthbearer.sasl.jaas.config", bearer),
    ];
    let properties = properties.iter().chain(more).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    KafkaServer::start(StartOptions { properties, ..StartOptions::default() }).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_client_authenticates_and_a_wrong_password_is_one_line() {
    let broker = sasl_broker(&[]);
    let plain = KafkaConfig {
        security_protocol: SecurityProtocol::SaslPlaintext,
        sasl_mechanism: Some(SaslMechanism::Plain),
        sasl_username: Some("me".to_owned()),
        sasl_password: Some("right".into()),
        ..KafkaConfig::at(broker.bootstrap_servers())
    };
    work_with(&plain, "plain");
    let bearer = KafkaConfig {
        sasl_mechanism: Some(SaslMechanism::OauthBearer),
        sasl_oauthbearer_config: Some("principal=me".into()),
        ..plain.clone()
    };
    work_with(&bearer, "bearer");

    let wrong = KafkaConfig { sasl_password: Some("hush-wrong".into()), ..plain };
    let text = Admin::connect(&wrong).unwrap_err().to_string();
    assert!(
        text.contains(
            "refused the connection, check kafka.sasl_mechanism, kafka.sasl_username and kafka.sasl_password"
        ),
        "{text}"
    );
    assert!(!text.contains("hush") && !text.contains('\n'), "{text}");

    let silent = KafkaConfig { connect_timeout: Duration::from_secs(1), ..KafkaConfig::at(broker.bootstrap_servers()) };
    let text = Admin::connect(&silent).unwrap_err().to_string();
    assert!(text.starts_with("no broker answers at kafka.bootstrap_servers"), "{text}");
}

#[test]
fn a_topic_without_rights_is_said_in_one_line_that_names_it() {
    let broker = sasl_broker(&[
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("super.users", "User:broker;User:me;User:ANONYMOUS"),
    ]);
    let owner = KafkaConfig {
        security_protocol: SecurityProtocol::SaslPlaintext,
        sasl_mechanism: Some(SaslMechanism::Plain),
        sasl_username: Some("me".to_owned()),
        sasl_password: Some("right".into()),
        ..KafkaConfig::at(broker.bootstrap_servers())
    };
    Admin::connect(&owner).unwrap().ensure_topics(&[TopicSpec::new("private", 1)]).unwrap();
    let guest =
        KafkaConfig { sasl_username: Some("guest".to_owned()), sasl_password: Some("guest".into()), ..owner.clone() };

    let admin = Admin::connect(&guest).unwrap();
    let mut writer = Writer::new(&guest).unwrap();
    let sent = writer.send(Outgoing::new("private", b"k", b"v")).and_then(|()| writer.flush(PATIENCE));
    let transaction = TransactionalWriter::new(&guest, "mine", TransactionOptions::default());
    let errors = [
        admin.partitions("private").map(drop).unwrap_err(),
        admin.ensure_topics(&[TopicSpec::new("another", 1)]).map(drop).unwrap_err(),
        sent.unwrap_err(),
        transaction.map(drop).unwrap_err(),
    ];
    for (error, name) in errors.iter().zip(["private", "another", "private", "mine"]) {
        let text = error.to_string();
        assert!(matches!(error, KafkaError::NotAuthorized { .. }), "{name}: {error:?}");
        assert!(text.contains(name) && text.contains("kafka.sasl_username") && !text.contains('\n'), "{text}");
        assert_eq!(error.disposition(), Disposition::Fatal, "{text}");
    }
}

/// One of each: admin, writer, transaction, group reader.
fn work_with(config: &KafkaConfig, topic: &str) {
    Admin::connect(config).unwrap().ensure_topics(&[TopicSpec::new(topic, 1)]).unwrap();
    let mut writer = Writer::new(config).unwrap();
    writer.send(Outgoing::new(topic, b"k", b"one")).unwrap();
    writer.flush(PATIENCE).unwrap();
    let mut transaction = TransactionalWriter::new(config, topic, TransactionOptions::default()).unwrap();
    transaction.begin().unwrap();
    transaction.send(Outgoing::new(topic, b"k", b"two")).unwrap();
    transaction.commit_records().unwrap();
    let mut reader = GroupReader::new(config, topic, &[topic], GroupOptions::default()).unwrap();
    let start = std::time::Instant::now();
    while reader.serve_group(&mut |_, _, _| StartAt::Beginning).unwrap().is_empty() {
        assert!(start.elapsed() < PATIENCE);
        drop(reader.read(1, Duration::from_millis(10)));
    }
    let values: Vec<_> = read_values(&mut reader, 2).into_iter().map(|(_, _, value)| value).collect();
    assert_eq!(values, ["one", "two"]);
}

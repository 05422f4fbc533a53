//! The reference holds what the structs hold; the layers join in their order.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::*;

fn none() -> impl Iterator<Item = (String, String)> {
    std::iter::empty()
}

/// Every key that a table of the reference names, with or without a default.
fn documented(section: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut keys = BTreeSet::new();
    for line in REFERENCE.lines() {
        if line.starts_with('[') {
            inside = line == format!("[{section}]");
        } else if line.starts_with("# What is watched") {
            break;
        } else if inside && let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") {
            let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            assert!(
                !is_key || line.trim_end().rsplit_once('#').is_some_and(|(_, effect)| effect.len() > 5),
                "no effect: {line}"
            );
            keys.extend(is_key.then(|| key.to_owned()));
        }
    }
    keys
}

/// The keys that a struct reads, from the words with which it refuses another one.
fn known<T: DeserializeOwned>() -> BTreeSet<String> {
    let refused = Value::Table(Table::from_iter([("no such key".to_owned(), Value::Boolean(true))])).try_into::<T>();
    let message = refused.err().expect("unknown keys are refused").message().to_owned();
    error::unknown_field(&message).unwrap().1.into_iter().collect()
}

fn check_section<T: DeserializeOwned>(section: &str, nested: &[&str]) {
    let mut expected = known::<T>();
    expected.retain(|key| !nested.contains(&key.as_str()));
    assert_eq!(documented(section), expected, "[{section}]");
}

fn check_defaults<T: DeserializeOwned + Serialize + Default>(section: &str) {
    let table: Table = REFERENCE.parse().unwrap();
    let written: T = table[section].clone().try_into().unwrap();
    assert_eq!(Value::try_from(written).unwrap(), Value::try_from(T::default()).unwrap(), "[{section}]");
}

#[test]
fn the_reference_names_every_setting() {
    check_section::<KafkaConfig>("kafka", &[]);
    check_section::<Topics>("topics", &[]);
    check_section::<TopicCreation>("topic_creation", &[]);
    check_section::<ProducerSettings>("producer", &[]);
    check_section::<ProcessorSettings>("processor", &[]);
    check_section::<SinkSettings>("sink", &["roll", "retry"]);
    check_section::<tidewatch_sink::config::RollSettings>("sink.roll", &[]);
    check_section::<tidewatch_sink::config::RetrySettings>("sink.retry", &[]);
    check_section::<ScoreSettings>("score", &[]);
    check_section::<BrokerSettings>("broker", &["limits"]);
    check_section::<broker::LimitSettings>("broker.limits", &[]);
    check_section::<TelemetrySettings>("telemetry", &[]);
}

#[test]
fn the_reference_holds_the_parts_own_defaults() {
    check_defaults::<KafkaConfig>("kafka");
    check_defaults::<Topics>("topics");
    check_defaults::<ProcessorSettings>("processor");
    check_defaults::<SinkSettings>("sink");
    check_defaults::<BrokerSettings>("broker");
}

/// The example of a stream in the reference, as a file.
fn example() -> String {
    let start = REFERENCE.find("# [[stream]]").unwrap();
    REFERENCE[start..].lines().map(|line| format!("{}\n", line.trim_start_matches('#').trim_start())).collect()
}

#[test]
fn the_example_of_a_stream_is_one_and_shows_every_setting_with_its_default() {
    #[derive(Deserialize)]
    struct Streams {
        stream: Vec<StreamSettings>,
    }
    let table: Table = example().parse().unwrap();
    let stream = table["stream"][0].as_table().unwrap().clone();
    let keys = |value: &Value| value.as_table().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&Value::Table(stream.clone())), known::<StreamSettings>());
    assert_eq!(keys(&stream["alert"]), known::<tidewatch_processor_core::config::AlertSettings>());
    assert_eq!(keys(&stream["measure"][0]), known::<tidewatch_processor_core::config::MeasureSettings>());
    assert_eq!(keys(&stream["measure"][0]["guards"]), known::<tidewatch_processor_core::config::Guards>());
    let mut shown: Streams = table.clone().try_into().unwrap();
    shown.stream[0].validate().unwrap();
    // What has a default says it: taking those keys away changes nothing.
    let mut bare = table;
    let inner = bare["stream"][0].as_table_mut().unwrap();
    let with_defaults = [
        "bootstrap",
        "event_time_unit",
        "disorder",
        "lateness",
        "revisions",
        "idle_timeout",
        "future_max",
        "event_id_memory",
        "event_ids_max",
        "entities_max",
        "seed",
    ];
    for key in with_defaults {
        inner.remove(key);
    }
    // Without `dropout_after`, which has no default, the rest of the table is the default.
    inner["alert"].as_table_mut().unwrap().retain(|key, _| key == "dropout_after");
    // And of the guards without those that have none.
    let guards = inner["measure"][0]["guards"].as_table_mut().unwrap();
    guards.retain(|key, _| key == "valid_range" || key == "maintenance");
    inner["measure"][0]["limit"].as_table_mut().unwrap().remove("chance");
    let bare: Streams = bare.try_into().unwrap();
    assert_eq!(shown.stream.remove(0), bare.stream[0]);
}

#[test]
fn defaults_are_valid() {
    let loaded = load(Some(Path::new("/dev/null")), none(), []).unwrap();
    loaded.settings.validate().unwrap();
    assert_eq!(loaded.settings.streams.len(), 4);
}

#[test]
fn a_demo_with_disorder_watches_what_its_truth_assumes_unless_streams_are_declared() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let topics = [("TIDEWATCH_TOPICS__CHECKS".to_owned(), "probes".to_owned())];
    let mut loaded = load(Some(Path::new("/dev/null")), topics.into_iter(), []).unwrap();
    loaded.watch_disorder(&folder.path().join("schemas")).unwrap();
    loaded.settings.validate().unwrap();
    let streams = &loaded.settings.streams;
    assert_eq!(streams.len(), 4);
    assert!(streams.iter().any(|stream| stream.topic == "probes"));
    for stream in streams {
        assert_eq!(stream.schemas.len(), 2);
        for schema in &stream.schemas {
            let shipped = repository.join("producer/avsc").join(Path::new(&schema.file).file_name().unwrap());
            assert_eq!(std::fs::read(&schema.file).unwrap(), std::fs::read(shipped).unwrap());
        }
    }
    let file = folder.path().join("t.toml");
    std::fs::write(&file, DEMO_STREAMS).unwrap();
    let mut declared = load(Some(&file), none(), []).unwrap();
    let before = declared.settings.streams.clone();
    declared.watch_disorder(folder.path()).unwrap();
    assert_eq!(declared.settings.streams, before);
}

#[test]
fn file_environment_and_flags_win_in_that_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    std::fs::write(&file, "[kafka]\nclient_id = \"file\"\nbootstrap_servers = \"file:1\"\n[sink]\noutput = \"file\"\n")
        .unwrap();
    let environment = [("TIDEWATCH_KAFKA__BOOTSTRAP_SERVERS", "env:1"), ("TIDEWATCH_SINK__OUTPUT", "env")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let flags: [FlagValue; 1] = [(&["sink", "output"], "flag".into(), "--output")];
    let settings = load(Some(&file), environment.into_iter(), flags).unwrap().settings;
    assert_eq!(settings.kafka.client_id, "file");
    assert_eq!(settings.kafka.bootstrap_servers, "env:1");
    assert_eq!(settings.sink.output, "flag");
    assert_eq!(settings.sink.roll, tidewatch_sink::config::RollSettings::default());
}

#[test]
fn renamed_inputs_are_watched_unless_streams_are_declared() {
    let environment = [("TIDEWATCH_TOPICS__CHECKS".to_owned(), "probes".to_owned())];
    let settings = load(Some(Path::new("/dev/null")), environment.into_iter(), []).unwrap().settings;
    assert!(settings.streams.iter().any(|stream| stream.topic == "probes"));
    assert!(settings.topic_specs().iter().any(|spec| spec.name == "probes"));
    let state = settings.topic_specs().into_iter().find(|spec| spec.compacted).unwrap();
    assert_eq!(state.name, "tidewatch.state.v1");
}

/// Settings with these two streams, each a name and a topic.
fn with_streams(streams: [(&str, &str); 2], environment: &[(&str, &str)]) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    let stream = |(name, topic)| {
        format!(
            "[[stream]]\nname = \"{name}\"\ntopic = \"{topic}\"\nformat = \"json\"\nentity = [\"a\"]\nevent_time = \"at\"\n\
             window = {{ tumbling = \"1m\" }}\nmeasure = [{{ name = \"m\", field = \"m\" }}]\n"
        )
    };
    std::fs::write(&file, streams.map(stream).concat()).unwrap();
    let environment = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    load(Some(&file), environment, []).unwrap().settings
}

#[test]
fn streams_that_do_not_go_together_are_one_line() {
    with_streams([("a", "in.a"), ("b", "in.b")], &[]).validate().unwrap();
    let cases = [
        (
            [("a", "in.a"), ("a", "in.b")],
            "two streams are named `a`, those of topics `in.a` and `in.b`; give each its own name",
        ),
        ([("a", "in"), ("b", "in")], "streams `a` and `b` both read topic `in`; declare it once"),
        (
            [("a", "in.a"), ("b", "tidewatch.alerts.v1")],
            "stream `b`: `topic` is `tidewatch.alerts.v1`, which is topics.alerts; name an input topic",
        ),
        (
            [("a", "tidewatch.truth.v1"), ("b", "in.b")],
            "stream `a`: `topic` is `tidewatch.truth.v1`, which is topics.truth; name an input topic",
        ),
        (
            [("a", "in.a"), ("b", "in b")],
            "stream `b`: `topic` is \"in b\"; a topic's name has letters of ASCII, digits, `.`, `_` and `-` only",
        ),
    ];
    for (streams, expected) in cases {
        assert_eq!(with_streams(streams, &[]).validate().unwrap_err().to_string(), expected);
    }
    let settings = with_streams([("a", "in.a"), ("b", "in.b")], &[("TIDEWATCH_TOPICS__STATE", "..")]);
    assert_eq!(settings.validate().unwrap_err().to_string(), "topics.state is \"..\", which is no name");
}

#[test]
fn a_setting_of_a_stream_that_is_no_such_thing_is_one_line() {
    let one_window =
        "write exactly one of { tumbling = \"1m\" }, { hopping = [\"1m\", \"10s\"] } and { session = \"30s\" }";
    let cases = [
        ("entities_max = -3", "entities_max` is the number -3, expected a whole number of at least 0"),
        (
            "alert.dropout_after = 5_000_000_000",
            "alert.dropout_after` is the number 5000000000, expected a whole number from 0 to 4294967295, or \"auto\"",
        ),
        ("alert.severities = [1.0]", "alert.severities` has 1 in its list, expected 3"),
        ("revisions = true", "revisions` is true, expected `on` or `off`"),
        ("revisions = { on = 1 }", "revisions` is a table, expected `on` or `off`"),
        ("revisions = {}", "revisions` is a table, expected `on` or `off`"),
        ("format = 3", "format` is the number 3, expected `avro` or `json`"),
        ("window = true", "window` is true, expected a table such as { tumbling = \"1m\" }"),
        ("window = { tumbling = 60 }", "window.tumbling` is the number 60, expected text in quotes"),
        ("window = { hopping = \"1m\" }", "window.hopping` is the text \"1m\", expected a list of 2"),
        ("window = {}", &format!("window` is not usable: {one_window}")),
        ("window = { tumbling = \"1m\", session = \"5s\" }", &format!("window` is not usable: {one_window}")),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    let needed = ["name = \"n\"", "topic = \"t\"", "format = \"json\"", "entity = [\"a\"]", "event_time = \"at\""];
    for (line, expected) in cases {
        let setting = line.split(' ').next().unwrap();
        let others: Vec<&str> = needed.into_iter().filter(|other| !other.starts_with(setting)).collect();
        let window = if setting == "window" { "" } else { "window = { tumbling = \"1m\" }" };
        let text = format!("[[stream]]\n{line}\n{window}\nmeasure = []\n{}\n", others.join("\n"));
        std::fs::write(&file, text).unwrap();
        let refused = load(Some(&file), none(), []).unwrap_err().to_string();
        assert_eq!(refused, format!("{}:2: `stream[0].{expected}", file.display()));
    }
}

#[test]
fn a_missing_file_is_an_error_only_if_it_was_asked_for() {
    let error = load(Some(Path::new("/no/such.toml")), none(), []).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the settings file `/no/such.toml`: "), "{error}");
}

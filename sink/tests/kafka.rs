//! The sink on a broker: what committed transactions wrote comes back from Parquet record by
//! record, aborted ones never, and a restart goes on where the files end.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, RecordBatch, types::Int64Type};
use arrow::datatypes::FieldRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tidewatch_schemas::Record;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::columns::ColumnDecoder;
use tidewatch_schemas::dead_letter::Draft;
use tidewatch_schemas::record::{
    Alert, AlertKind, AlertState, Breach, DeadLetter, DeadLetterHeader, DetectorScore, DetectorShare, Forecast,
    ForecastBand, ForecastPoint, Late, SeriesPoint, Severity, State, WindowMetric,
};
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_sink::transactional::{OutputKind, ValueFraming};
use tidewatch_sink::{
    CycleWriter, DeliveryConfig, DeliveryError, DeliverySummary, Progress, ResultTopics, SinkSettings, Stop,
    StopSignal, TopicKind, deliver,
};
use tidewatch_topic_io::{
    Admin, KafkaConfig, Outgoing, PartitionReader, TopicSpec, TransactionOptions, TransactionalWriter, Writer,
};

tidewatch_test_brokers::on_both_brokers!(
    committed_records_come_back_once_and_a_restart_goes_on,
    garbage_on_a_result_topic_is_kept_raw,
    a_running_delivery_follows_and_stops_at_once,
    a_delivery_whose_storage_is_away_stays_a_member_and_catches_up,
    what_cannot_work_is_told_in_one_line,
);

const PARTITIONS: i32 = 3;
/// 2026-03-01T23:59:50Z: windows of ten seconds soon cross into the next day.
const START_MS: i64 = 1_772_409_590_000;

/// Topics of its own for each test, and what should be in them.
struct Fixture {
    name: &'static str,
    kafka: KafkaConfig,
    topics: Topics,
    output: tempfile::TempDir,
    alerts: Vec<Alert>,
    metrics: Vec<WindowMetric>,
}

impl Fixture {
    fn new(bootstrap_servers: &str, name: &'static str) -> Self {
        let kafka = KafkaConfig::at(bootstrap_servers);
        let topic = |kind: &str| format!("{name}.{kind}");
        let topics = Topics {
            metrics: topic("metrics"),
            forecasts: topic("forecasts"),
            alerts: topic("alerts"),
            late: topic("late"),
            dead_letters: topic("dead-letters"),
            state: topic("state"),
            ..Topics::default()
        };
        let all =
            [&topics.metrics, &topics.forecasts, &topics.alerts, &topics.late, &topics.dead_letters, &topics.state];
        let specs: Vec<TopicSpec> = all.into_iter().map(|name| TopicSpec::new(name.clone(), PARTITIONS)).collect();
        Admin::connect(&kafka).unwrap().ensure_topics(&specs).unwrap();
        Self { name, kafka, topics, output: tempfile::tempdir().unwrap(), alerts: Vec::new(), metrics: Vec::new() }
    }

    fn writer(&self) -> ResultTopics {
        let options = TransactionOptions::default();
        let writer = TransactionalWriter::new(&self.kafka, &format!("{}-writer", self.name), options).unwrap();
        ResultTopics::new(CycleWriter::Transactional(writer), &self.topics, &ValueFraming::SingleObject, "processor")
    }

    /// One transaction of `n` alerts and 3n metrics; the others kinds once.
    fn transaction(&mut self, writer: &mut ResultTopics, n: usize, commit: bool) {
        writer.begin().unwrap();
        let intended_ms = Some(now_ms() - 40);
        for _ in 0..n {
            let alert = alert(self.alerts.len() as i64, commit);
            writer.alert(&alert, intended_ms).unwrap();
            for part in 0..3 {
                let metric = metric(self.metrics.len() as i64 + part, commit);
                writer.metric(&metric, intended_ms).unwrap();
            }
            if commit {
                let next = self.metrics.len() as i64;
                self.metrics.extend((next..next + 3).map(|n| metric(n, true)));
                self.alerts.push(alert);
            }
        }
        writer.forecast(&forecast(), intended_ms).unwrap();
        writer.late(late()).unwrap();
        send_dead_letter(writer);
        writer.state(2, b"service-calls/2", Some(&state())).unwrap();
        writer.state(2, b"service-calls/2", None).unwrap();
        assert_eq!(writer.open_counts().of(OutputKind::State), 2);
        if commit {
            writer.commit_records().unwrap();
        } else {
            self.wait_until_on_the_broker(&self.topics.metrics, self.metrics.len() + 3 * n);
            writer.abort().unwrap();
        }
    }

    /// An aborted record proves something only if it got into the log first.
    fn wait_until_on_the_broker(&self, topic: &str, records: usize) {
        let reader = PartitionReader::new(&self.kafka, false).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while (0..PARTITIONS).map(|partition| reader.watermarks(topic, partition).unwrap().1).sum::<i64>()
            < records as i64
        {
            assert!(Instant::now() < deadline, "{records} records are not in {topic}");
        }
    }

    fn config(&self, change: impl FnOnce(&mut SinkSettings)) -> DeliveryConfig {
        let mut settings = SinkSettings {
            output: self.output.path().join("out").display().to_string(),
            group_id: format!("{}-sink", self.name),
            ..SinkSettings::default()
        };
        settings.roll.rows = 40;
        change(&mut settings);
        settings.validate(self.kafka.clone(), &self.topics).unwrap()
    }

    fn drain(&self) -> DeliverySummary {
        let stop = StopSignal::new();
        stop.request(Stop::Drain);
        deliver(self.config(|_| ()), &Progress::new(), &stop).unwrap()
    }

    fn files(&self, folder: &str, extension: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.output.path().join("out").join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|found| found == extension) {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }

    /// Every row of a kind as (partition, offset, the record's own columns), read back by the parquet crate.
    fn rows(&self, kind: TopicKind) -> Vec<(i64, i64, String)> {
        let files = self.files(kind.as_str(), "parquet");
        let mut rows: Vec<_> = files.iter().flat_map(|path| read(path)).collect();
        rows.sort_by_key(|row| (row.0, row.1));
        rows
    }

    /// The files hold exactly these records, each once and whole.
    fn assert_holds<R: Record>(&self, kind: TopicKind, expected: &[R]) {
        let rows = self.rows(kind);
        let offsets: Vec<_> = rows.iter().map(|row| (row.0, row.1)).collect();
        let mut once = offsets.clone();
        once.dedup();
        assert_eq!(once, offsets, "an offset is there twice");
        let mut found: Vec<String> = rows.into_iter().map(|row| row.2).collect();
        let mut wanted: Vec<String> = expected.iter().map(text).collect();
        found.sort();
        wanted.sort();
        assert_eq!(found.len(), wanted.len(), "{kind}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found, wanted, "{kind}");
        }
    }
}

/// A record as text, by the schemas crate's own columns, which are checked there against apache-avro.
fn text<R: Record>(record: &R) -> String {
    let mut framed = Vec::new();
    wire::encode(record, Framing::SingleObject, &mut framed);
    let mut decoder = ColumnDecoder::new(R::schema(), 1).unwrap();
    decoder.push(&framed).unwrap();
    texts(&decoder.flush().unwrap().unwrap()).remove(0)
}

/// Each row as `name=value` of every column, whatever its encoding.
fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let row = |n: usize| {
        let value = |(field, column): (&FieldRef, &ArrayRef)| {
            format!("{}={}", field.name(), ArrayFormatter::try_new(column, &options).unwrap().value(n))
        };
        batch.schema_ref().fields().iter().zip(batch.columns()).map(value).collect::<Vec<_>>().join(" ")
    };
    (0..batch.num_rows()).map(row).collect()
}

fn read(path: &Path) -> Vec<(i64, i64, String)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let date = path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let mut rows = Vec::new();
    for batch in reader.map(Result::unwrap) {
        let own = batch.num_columns() - 3;
        let names: Vec<_> = batch.schema().fields().iter().skip(own).map(|f| f.name().clone()).collect();
        assert_eq!(names, ["_partition", "_offset", "_timestamp"]);
        let partitions = batch.column(own).as_primitive::<arrow::datatypes::Int32Type>().clone();
        let offsets = batch.column(own + 1).as_primitive::<Int64Type>().clone();
        let times = batch.column(own + 2).as_primitive::<arrow::datatypes::TimestampMillisecondType>().clone();
        let fields = texts(&batch.project(&(0..own).collect::<Vec<_>>()).unwrap());
        for (n, row) in fields.into_iter().enumerate() {
            let expected = if times.value(n) < START_MS + 10_000 { "date=2026-03-01" } else { "date=2026-03-02" };
            assert_eq!(date, expected, "{}", times.value(n));
            rows.push((i64::from(partitions.value(n)), offsets.value(n), row));
        }
    }
    rows
}

fn committed_records_come_back_once_and_a_restart_goes_on(bootstrap_servers: &str) {
    let mut fixture = Fixture::new(bootstrap_servers, "roundtrip");
    let mut writer = fixture.writer();
    fixture.transaction(&mut writer, 30, true);
    fixture.transaction(&mut writer, 20, false);
    fixture.transaction(&mut writer, 5, true);
    assert_eq!(writer.committed_counts().of(OutputKind::Alert), 35);

    let first = fixture.drain();
    fixture.assert_holds(TopicKind::Alerts, &fixture.alerts);
    fixture.assert_holds(TopicKind::Metrics, &fixture.metrics);
    fixture.assert_holds(TopicKind::Forecasts, &[forecast(), forecast()]);
    fixture.assert_holds(TopicKind::Late, &[late(), late()]);
    fixture.assert_holds(TopicKind::DeadLetters, &[dead_letter(), dead_letter()]);
    assert_eq!(first.topics[&TopicKind::Alerts].rows, 35);
    assert_eq!(first.rows(), 35 + 105 + 6);
    assert_eq!(first.alerts_opened, BTreeMap::from([(Severity::High, 35)]));
    assert_eq!(first.alert_arrival.count, 35);
    assert!(first.alert_arrival.p50_ms >= 40 && first.alert_visible.p99_ms >= first.alert_arrival.p50_ms, "{first:?}");

    let lines: Vec<String> =
        fixture.files("alerts-json", "jsonl").iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let ids: Vec<serde_json::Value> =
        lines.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ids.len(), 35);
    assert_eq!(ids[0]["severity"], "high");

    assert_eq!(fixture.drain().rows(), 0, "nothing new");
    fixture.transaction(&mut writer, 8, true);
    let third = fixture.drain();
    assert_eq!((third.topics[&TopicKind::Alerts].rows, third.topics[&TopicKind::Metrics].rows), (8, 24));
    fixture.assert_holds(TopicKind::Alerts, &fixture.alerts);
    fixture.assert_holds(TopicKind::Metrics, &fixture.metrics);
}

fn garbage_on_a_result_topic_is_kept_raw(bootstrap_servers: &str) {
    let mut fixture = Fixture::new(bootstrap_servers, "garbage");
    let mut plain = Writer::new(&fixture.kafka).unwrap();
    plain
        .send(Outgoing { timestamp_ms: Some(START_MS), ..Outgoing::new(&fixture.topics.alerts, b"k", b"not avro") })
        .unwrap();
    // A letter as earlier versions wrote it, and one whose headers say nothing.
    let mut earlier = Vec::new();
    wire::encode(&dead_letter(), Framing::SingleObject, &mut earlier);
    let letters =
        Outgoing { timestamp_ms: Some(START_MS), ..Outgoing::new(&fixture.topics.dead_letters, b"k", &earlier) };
    plain.send(letters).unwrap();
    plain
        .send(Outgoing { headers: &[("__streams.errors.exception", b"why")], value: Some(b"no letter"), ..letters })
        .unwrap();
    plain.flush(Duration::from_secs(30)).unwrap();
    fixture.transaction(&mut fixture.writer(), 4, true);
    let summary = fixture.drain();
    let letters = summary.topics[&TopicKind::DeadLetters];
    assert_eq!((letters.rows, letters.rejected), (2, 1));
    fixture.assert_holds(TopicKind::DeadLetters, &[dead_letter(), dead_letter()]);
    assert_eq!((summary.topics[&TopicKind::Alerts].rows, summary.topics[&TopicKind::Alerts].rejected), (4, 1));
    fixture.assert_holds(TopicKind::Alerts, &fixture.alerts);
    let raw = fixture.files("rejected", "jsonl");
    let raw: String = raw.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(raw.contains("6e6f74206176726f") && raw.contains("header `tidewatch-stream` is missing"), "{raw}");
}

fn a_running_delivery_follows_and_stops_at_once(bootstrap_servers: &str) {
    let mut fixture = Fixture::new(bootstrap_servers, "live");
    let (progress, stop) = (Progress::new(), StopSignal::new());
    let config = fixture.config(|settings| settings.roll.interval = Duration::from_millis(200));
    std::thread::scope(|scope| {
        let _ended = EndedOnDrop(&stop);
        let running = scope.spawn(|| deliver(config, &progress, &stop));
        let mut writer = fixture.writer();
        for round in 1..=2 {
            fixture.transaction(&mut writer, 10, true);
            let deadline = Instant::now() + Duration::from_secs(60);
            while progress.rows(TopicKind::Alerts) < round * 10 && !running.is_finished() {
                assert!(Instant::now() < deadline, "{progress:?}");
                std::thread::yield_now();
            }
        }
        stop.request(Stop::Now);
        running.join().unwrap().unwrap();
    });
    assert_eq!(progress.alerts_opened(Severity::High), 20);
    assert_eq!(fixture.drain().topics[&TopicKind::Alerts].rows, 0);
    fixture.assert_holds(TopicKind::Alerts, &fixture.alerts);
}

fn a_delivery_whose_storage_is_away_stays_a_member_and_catches_up(bootstrap_servers: &str) {
    let mut fixture = Fixture::new(bootstrap_servers, "away");
    let (progress, stop) = (Progress::new(), StopSignal::new());
    let mut config = fixture.config(|settings| {
        settings.roll.interval = Duration::from_millis(200);
        settings.retry.attempts = 100;
    });
    // Storage is away for longer than a member may be silent.
    let silence_max = Duration::from_secs(6);
    for timeout in ["session.timeout.ms", "max.poll.interval.ms"] {
        config.kafka.properties.set(timeout, silence_max.as_millis().to_string());
    }
    let group = config.group_id.clone();
    let (output, away) = (fixture.output.path().join("out"), fixture.output.path().join("away"));
    std::thread::scope(|scope| {
        let _ended = EndedOnDrop(&stop);
        let running = scope.spawn(|| deliver(config, &progress, &stop));
        let wait_for = |alerts| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while progress.rows(TopicKind::Alerts) < alerts && !running.is_finished() {
                assert!(Instant::now() < deadline, "{progress:?}");
                std::thread::yield_now();
            }
        };
        let mut writer = fixture.writer();
        fixture.transaction(&mut writer, 10, true);
        wait_for(10);
        let before = members(&fixture.kafka, &group);
        assert_eq!(before.len(), 1);
        std::fs::rename(&output, &away).unwrap();
        std::fs::write(&output, "no folder").unwrap();
        fixture.transaction(&mut writer, 10, true);
        std::thread::sleep(silence_max + Duration::from_secs(3));
        assert_eq!(progress.rows(TopicKind::Alerts), 10);
        std::fs::remove_file(&output).unwrap();
        std::fs::rename(&away, &output).unwrap();
        wait_for(20);
        assert_eq!(members(&fixture.kafka, &group), before);
        stop.request(Stop::Now);
        running.join().unwrap().unwrap();
    });
    fixture.assert_holds(TopicKind::Alerts, &fixture.alerts);
    fixture.assert_holds(TopicKind::Metrics, &fixture.metrics);
}

/// Ends Delivery when the test ends, also by a panic.
struct EndedOnDrop<'a>(&'a StopSignal);

impl Drop for EndedOnDrop<'_> {
    fn drop(&mut self) {
        self.0.request(Stop::Now);
    }
}

/// The ids of a group's members.
fn members(kafka: &KafkaConfig, group: &str) -> Vec<String> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &kafka.bootstrap_servers).create().unwrap();
    let groups = client.fetch_group_list(Some(group), Duration::from_secs(30)).unwrap();
    groups.groups()[0].members().iter().map(|member| member.id().to_owned()).collect()
}

fn what_cannot_work_is_told_in_one_line(bootstrap_servers: &str) {
    let fixture = Fixture::new(bootstrap_servers, "refusals");
    let refuse = |config: DeliveryConfig| deliver(config, &Progress::new(), &StopSignal::new()).unwrap_err();

    let file = fixture.output.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = refuse(fixture.config(|settings| settings.output = file.join("out").display().to_string()));
    assert!(matches!(error, DeliveryError::Storage(_)));
    assert!(error.to_string().starts_with("cannot use `sink.output` = \""), "{error}");

    let mut missing = fixture.config(|_| ());
    missing.topics[0].name = "refusals.nowhere".to_owned();
    let error = refuse(missing);
    assert!(error.to_string().contains("refusals.nowhere"), "{error}");

    let mut absent = fixture.config(|_| ());
    absent.kafka = KafkaConfig { connect_timeout: Duration::from_secs(1), ..KafkaConfig::at("127.0.0.1:1") };
    let error = refuse(absent);
    assert!(error.to_string().contains("kafka.bootstrap_servers"), "{error}");
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

fn labels(n: i64) -> BTreeMap<String, String> {
    BTreeMap::from([("instance".to_owned(), n.to_string()), ("service".to_owned(), "checkout".to_owned())])
}

fn detectors() -> Vec<DetectorScore> {
    ["z-score", "iqr"].map(|detector| DetectorScore { detector: detector.to_owned(), score: 1.5 }).to_vec()
}

fn shares() -> Vec<DetectorShare> {
    let share = |DetectorScore { detector, score }| DetectorShare { detector, score, share: 0.5 };
    detectors().into_iter().map(share).collect()
}

fn alert(n: i64, committed: bool) -> Alert {
    Alert {
        alert_id: format!("alert-{n}-{committed}"),
        state: AlertState::Opened,
        severity: Severity::High,
        kind: if n % 3 == 0 { AlertKind::PredictedBreach } else { AlertKind::LevelShift },
        stream: "service-calls".to_owned(),
        entity: format!("checkout/{}", n % 7),
        labels: labels(n),
        measure: "latency".to_owned(),
        aggregate: "p95".to_owned(),
        opened_at: START_MS,
        window_start: START_MS + n % 4 * 10_000,
        window_end: START_MS + n % 4 * 10_000 + 10_000,
        observed: n as f64,
        expected: (n % 2 == 0).then_some(1.0),
        lower: None,
        upper: Some(2.0),
        score: 1.5,
        peak_score: 2.5,
        detectors: shares(),
        windows: 1,
        sequence: 0,
        partition: 1,
        first_offset: n,
        last_offset: n + 9,
        summary: "latency is high".to_owned(),
        revision: 0,
        correction: tidewatch_schemas::record::Correction::None,
        supersedes: None,
        onset: None,
        confidence: 1.0,
        probability: 0.001,
        attribution: vec![],
        recent: vec![],
        breach: (n % 3 == 0).then_some(Breach {
            limit: 800.0,
            above: true,
            target_time: START_MS + 60_000,
            chance: 0.6,
            lead_ms: 50_000,
            came_true_at: (n % 2 == 0).then_some(START_MS),
        }),
    }
}

fn metric(n: i64, committed: bool) -> WindowMetric {
    WindowMetric {
        changed: vec![],
        supersedes: vec![],
        stream: "service-calls".to_owned(),
        entity: format!("checkout/{}", n % 11),
        labels: labels(n),
        measure: "latency".to_owned(),
        window_start: START_MS + n % 6 * 10_000,
        window_end: START_MS + n % 6 * 10_000 + 10_000,
        revision: i32::from(!committed),
        count: n,
        sum: 10.0,
        mean: 1.0,
        stddev: 0.5,
        min: 0.1,
        max: 9.0,
        p50: Some(1.0),
        p95: None,
        p99: (n % 3 == 0).then_some(8.0),
        series: vec![SeriesPoint {
            aggregate: "mean".to_owned(),
            value: 1.0,
            expected: Some(1.1),
            lower: None,
            upper: None,
            score: 0.2,
            warming_up: n % 2 == 0,
            detectors: detectors(),
            confidence: 0.9,
            probability: 0.2,
        }],
        partition: 1,
        first_offset: n,
        last_offset: n,
    }
}

fn forecast() -> Forecast {
    let point = |target_time, horizon_ms| ForecastPoint {
        target_time,
        horizon_ms,
        expected: 1.0,
        lower: 0.5,
        upper: 1.5,
        bands: vec![ForecastBand { level: 0.95, lower: 0.5, upper: 1.5, coverage: Some(0.94) }],
        judged: 3,
        mase: Some(0.8),
        mape: None,
        pinball: Some(0.02),
    };
    Forecast {
        revision: 0,
        stream: "service-calls".to_owned(),
        entity: "checkout/1".to_owned(),
        measure: "latency".to_owned(),
        aggregate: "mean".to_owned(),
        issued_at: START_MS,
        level: 0.95,
        path: vec![point(START_MS + 600_000, 600_000), point(START_MS + 3_600_000, 3_600_000)],
    }
}

fn late() -> Late {
    Late {
        stream: "service-calls".to_owned(),
        entity: "checkout/1".to_owned(),
        event_time: START_MS,
        window_start: START_MS,
        window_end: START_MS + 10_000,
        late_by_ms: 12,
        topic: "in".to_owned(),
        partition: 0,
        offset: 5,
        key: Some(b"checkout/1".to_vec()),
        value: None,
        would_change_alert: None,
    }
}

fn dead_letter() -> DeadLetter {
    DeadLetter {
        stream: "service-calls".to_owned(),
        topic: "in".to_owned(),
        partition: 0,
        offset: 6,
        timestamp_ms: Some(START_MS),
        key: None,
        value: Some(b"garbage".to_vec()),
        headers: vec![
            DeadLetterHeader { key: "trace".to_owned(), value: Some(vec![0, 0xff]) },
            DeadLetterHeader { key: "ce_type".to_owned(), value: None },
        ],
        reason: "malformed".to_owned(),
        error: "truncated".to_owned(),
    }
}

fn send_dead_letter(writer: &mut ResultTopics) {
    let DeadLetter { stream, topic, partition, offset, timestamp_ms, key, value, headers, reason, error } =
        dead_letter();
    let headers: Vec<_> = headers.iter().map(|header| (header.key.as_str(), header.value.as_deref())).collect();
    let draft = Draft {
        stream: &stream,
        topic: &topic,
        partition,
        offset,
        timestamp_ms,
        key: key.as_deref(),
        value: value.as_deref(),
        omitted_bytes: None,
        headers: &headers,
        reason: &reason,
        error: &error,
    };
    writer.dead_letter(&draft).unwrap();
}

fn state() -> State {
    State {
        format_version: 1,
        stream: "service-calls".to_owned(),
        partition: 2,
        entity: None,
        input_offset: 9,
        checksum: 0,
        payload: vec![1, 2],
    }
}

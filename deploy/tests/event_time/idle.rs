//! A partition that falls silent: its windows close by the clock, and each decision of the clock is made once, whatever dies after it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidewatch_processor::decode::{Decoded, EventDecoder, Taken};
use tidewatch_processor_core::{Effects, Engine, Event, Ingested, StreamSettings};
use tidewatch_schemas::record::{Late, Ledger, WindowMetric};
use tidewatch_schemas::wire;
use tidewatch_topic_io::Writer;

use crate::support::{Corner, PATIENCE, Running};
use crate::{PARTITIONS, event, send};

/// A stream whose clock decides after a second of silence, or never; windows of five seconds that are told at their end.
fn tills(topic: &str, idle_timeout: &str, lateness: &str) -> String {
    format!(
        "[[stream]]\nname = \"tills\"\ntopic = \"{topic}\"\nformat = \"json\"\nentity = [\"till\"]\nevent_time = \"at\"\n\
         event_id = \"id\"\nwindow = {{ tumbling = \"5s\" }}\ndisorder = \"1s\"\nlateness = \"{lateness}\"\nrevisions = \"on\"\n\
         idle_timeout = \"{idle_timeout}\"\n[[stream.measure]]\nname = \"amount\"\nfield = \"amount\"\n"
    )
}

/// What was published to each partition, in the order of the offsets.
struct Published<'a> {
    corner: &'a Corner,
    topic: String,
    writer: Writer,
    records: [Vec<String>; PARTITIONS as usize],
}

impl<'a> Published<'a> {
    fn new(corner: &'a Corner, run: &str) -> Self {
        let topic = corner.topic(run, "in");
        corner.create(std::slice::from_ref(&topic), PARTITIONS);
        Self { corner, topic, writer: Writer::new(&corner.kafka).unwrap(), records: Default::default() }
    }

    fn send(&mut self, partition: i32, record: String) {
        send(&mut self.writer, &self.topic, partition, record.as_bytes());
        self.records[partition as usize].push(record);
        self.writer.flush(Duration::from_secs(60)).unwrap();
    }

    /// An event of each partition in each of these seconds.
    fn seconds(&mut self, seconds: std::ops::Range<i64>) {
        for (second, partition) in seconds.flat_map(|second| (0..PARTITIONS).map(move |partition| (second, partition)))
        {
            self.send(
                partition,
                event(&format!("{partition}-{}", second % 2), &second.to_string(), second * 1_000, "sale", 10),
            );
        }
    }

    fn count(&self) -> i64 {
        self.records.iter().map(|records| records.len() as i64).sum()
    }

    /// Waits until all that was published is read and all windows of what is in them are told: the last ones by the clock.
    fn wait_until_told(&self, run: &str, in_windows: i64, process: &mut Running) {
        let mut metrics = self.corner.reader(&self.corner.topic(run, "metrics"));
        let mut windows = BTreeMap::<(String, i64), i64>::new();
        while windows.values().sum::<i64>() < in_windows {
            assert!(!process.has_ended(), "ended by itself: {}", process.log());
            for message in metrics.read(1_000, PATIENCE).unwrap().iter() {
                let metric: WindowMetric = wire::decode(message.value().unwrap()).unwrap();
                windows.insert((metric.entity, metric.window_start), metric.count);
            }
        }
        wait_until_read(self.corner, run, self.count(), process);
    }
}

/// Waits until so many records are in the committed ledger; gives how many of them were late.
fn wait_until_read(corner: &Corner, run: &str, wanted: i64, process: &mut Running) -> i64 {
    let mut reader = corner.reader(&corner.topic(run, "ledger"));
    let mut last = BTreeMap::<i32, Ledger>::new();
    while last.values().map(|ledger| ledger.read).sum::<i64>() < wanted {
        assert!(!process.has_ended(), "ended by itself: {}", process.log());
        for message in reader.read(1_000, PATIENCE).unwrap().iter() {
            last.insert(message.partition(), wire::decode(message.value().unwrap()).unwrap());
        }
    }
    last.values().map(|ledger| ledger.late).sum()
}

/// Where a restart reads from, and what the clock has decided since: `(offset, event time)`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    snapshot: String,
    idle: Vec<(i64, i64)>,
}

/// What the metadata of a run's committed offsets says.
fn notes(corner: &Corner, run: &str) -> Vec<Note> {
    let committed = corner.admin.committed(&format!("{}.{run}", corner.name), &corner.topic(run, "in")).unwrap();
    let note = |metadata: &str| {
        let part = |name: &str| metadata.split(';').find_map(|part| part.strip_prefix(name)).unwrap_or_default();
        let decision = |text: &str| {
            let (offset, time) = text.split_once('@').unwrap();
            (offset.parse().unwrap(), time.parse().unwrap())
        };
        let idle = part("idle=").split(',').filter(|text| !text.is_empty()).map(decision).collect();
        Note { snapshot: part("snapshot=").to_owned(), idle }
    };
    committed.into_iter().map(|committed| note(&committed.unwrap().metadata)).collect()
}

/// What an engine makes of the records and the clock's decisions: the metrics of each entity, and the offsets that were late.
fn retold(
    settings: &str,
    records: &[String],
    partition: i32,
    idle: &[(i64, i64)],
) -> (BTreeMap<String, Vec<WindowMetric>>, Vec<i64>) {
    #[derive(serde::Deserialize)]
    struct Streams {
        stream: Vec<StreamSettings>,
    }
    let config = toml::from_str::<Streams>(settings).unwrap().stream[0].validate().unwrap();
    let (mut decoder, mut engine) = (EventDecoder::new(&config).unwrap(), Engine::new(config, partition));
    let (mut decoded, mut effects, mut late) = (Decoded::default(), Effects::default(), Vec::new());
    let mut idle = idle.iter().peekable();
    for (offset, record) in (0..).zip(records) {
        while let Some((_, time)) = idle.next_if(|(at, _)| *at == offset) {
            engine.advance(*time, &mut effects);
        }
        let taken = decoder.decode(Some(record.as_bytes()), None, &mut decoded);
        assert!(matches!(taken, Ok(Taken::Event)), "{record}");
        let Decoded { event_time, entity, values, id } = &decoded;
        let event = Event { offset, event_time: *event_time, entity, values, id: *id };
        if let Ingested::Late(_) = engine.ingest(&event, &mut effects) {
            late.push(offset);
        }
    }
    assert!(!engine.has_more(), "so few windows are told at once");
    assert_eq!(idle.next(), None, "a decision behind the last record");
    let mut metrics = BTreeMap::<String, Vec<WindowMetric>>::new();
    for metric in effects.metrics {
        metrics.entry(metric.entity.clone()).or_default().push(metric);
    }
    (metrics, late)
}

/// The results are those of an engine that was never stopped and was told the decisions of the clock that are in the notes.
pub(crate) fn what_the_clock_decided_is_decided_once(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "clock");
    let run = "idle";
    let mut published = Published::new(&corner, run);
    let how = "processor.commit_interval = \"20ms\"\nprocessor.static_membership = true\n";
    let outputs = corner.outputs(run, PARTITIONS);
    let settings = |snapshot_every: &str, idle_timeout: &str| {
        let stream = tills(&corner.topic(run, "in"), idle_timeout, "10m");
        format!("processor.snapshot_every = \"{snapshot_every}\"\n{how}{outputs}{stream}")
    };
    // A snapshot, which every restart from now on goes back to.
    published.seconds(0..60);
    corner.run(&settings("10s", "0s"), &["process", "--drain"]);
    let snapshot = notes(&corner, run);
    assert!(snapshot.iter().all(|note| note.snapshot == "60" && note.idle.is_empty()), "{snapshot:?}");

    // Both fall silent; killed as soon as the clock has closed the last window.
    let by_clock = settings("1h", "1s");
    published.seconds(60..81);
    let mut process = corner.start(&by_clock, &["process"]);
    published.wait_until_told(run, published.count(), &mut process);
    process.kill();
    let decided = notes(&corner, run);
    assert!(decided.iter().all(|note| note.snapshot == "60" && !note.idle.is_empty()), "{decided:?}");
    corner.ledger(&by_clock);

    // For windows that the clock has closed, and one that is final; then the partition goes on.
    published.send(1, event("1-0", "80-more", 80_500, "sale", 30));
    published.send(1, event("1-0", "80-more", 80_500, "sale", 30));
    published.send(1, event("1-0", "78-more", 78_000, "sale", 30));
    published.send(1, event("1-1", "before", -3_600_000, "sale", 30));
    published.seconds(120..133);
    let in_windows = published.count() - 2;
    let mut process = corner.start(&by_clock, &["process"]);
    published.wait_until_told(run, in_windows, &mut process);
    process.kill();
    let repeated = notes(&corner, run);
    for (before, after) in decided.iter().zip(&repeated) {
        assert_eq!(before.snapshot, after.snapshot);
        assert!(after.idle.len() > before.idle.len() && after.idle.starts_with(&before.idle), "{before:?}, {after:?}");
    }

    // Once more over both decisions, and on by events alone.
    published.seconds(200..220);
    corner.run(&settings("1h", "0s"), &["process", "--drain"]);
    let balance = corner.ledger(&by_clock);
    let total = |key: &str| balance["total"][key].as_i64().unwrap();
    assert_eq!((total("read"), total("late"), total("duplicate")), (published.count(), 1, 1), "{balance}");
    let rows = corner.read(&corner.topic(run, "metrics"));
    let mut told = BTreeMap::<String, Vec<WindowMetric>>::new();
    for row in &rows {
        let metric: WindowMetric = wire::decode(row.value.as_ref().unwrap()).unwrap();
        told.entry(metric.entity.clone()).or_default().push(metric);
    }
    let late = corner.read(&corner.topic(run, "late"));
    let late: Vec<Late> = late.iter().map(|row| wire::decode(row.value.as_ref().unwrap()).unwrap()).collect();
    // An engine that was never stopped, told the same decisions.
    let mut retold_in_all = BTreeMap::new();
    for (partition, note) in (0..).zip(&repeated) {
        let stream = tills(&published.topic, "1s", "10m");
        let (metrics, lates) = retold(&stream, &published.records[partition as usize], partition, &note.idle);
        let here = |late: &&Late| late.partition == partition;
        assert_eq!(late.iter().filter(here).map(|late| late.offset).collect::<Vec<_>>(), lates);
        retold_in_all.extend(metrics);
    }
    assert!(told.keys().eq(retold_in_all.keys()), "{:?}, {:?}", told.keys(), retold_in_all.keys());
    for (told, retold) in told.values().zip(retold_in_all.values()) {
        let differs = told.iter().zip(retold).find(|(told, retold)| told != retold);
        assert_eq!(differs, None, "what was told, and what an engine says that was never stopped");
        assert_eq!(told.len(), retold.len());
    }
    let revisions = told.values().flatten().filter(|metric| metric.revision > 0).count();
    assert!(revisions >= 2, "{revisions} revisions of windows that the clock had closed");
}

/// A suspended machine, a stopped container: the clock has gone on, and nothing was read, and yet the partition was not silent.
pub(crate) fn what_came_while_the_processor_slept_is_not_late(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "slept");
    let run = "slept";
    let mut published = Published::new(&corner, run);
    let settings = format!(
        "processor.commit_interval = \"20ms\"\n{}{}",
        corner.outputs(run, PARTITIONS),
        tills(&published.topic, "1s", "0s")
    );
    let mut process = corner.start(&settings, &["process"]);
    let (mut slept, mut round) = (0, 0);
    while slept < 3 {
        round += 1;
        let at_ms = round * 3_600_000;
        let began = Instant::now();
        published.send(0, event("0-0", &format!("{round}-before"), at_ms, "sale", 10));
        let late_before = wait_until_read(&corner, run, published.count(), &mut process);
        process.signal("STOP");
        process.wait_until_stopped();
        // The window of the event is five seconds long: by then the clock may have closed it, and nothing is shown.
        let is_open = began.elapsed() < Duration::from_secs(4);
        if is_open {
            // As long as it takes the clock to close the window: what is waited for is the clock itself.
            std::thread::sleep(Duration::from_secs(6));
        }
        published.send(0, event("0-0", &format!("{round}-within"), at_ms + 1_000, "sale", 10));
        process.signal("CONT");
        let late = wait_until_read(&corner, run, published.count(), &mut process);
        assert!(!is_open || late == late_before, "round {round}: what waited to be read is late");
        slept += u32::from(is_open);
    }
    process.kill();
    corner.ledger(&settings);
}

/// Records that are filtered out or broken, as many as there may be, keep no window open.
pub(crate) fn what_is_not_scored_keeps_no_partition_awake(bootstrap_servers: &str) {
    let corner = Corner::new(bootstrap_servers, "awake");
    let run = "idle";
    let mut published = Published::new(&corner, run);
    let stream = tills(&published.topic, "1s", "0s").replace("window =", "only = { kind = [\"sale\"] }\nwindow =");
    let settings = format!("{}{stream}", corner.outputs(run, PARTITIONS));
    let mut process = corner.start(&settings, &["process"]);
    published.seconds(0..1);
    let mut metrics = corner.reader(&corner.topic(run, "metrics"));
    let mut told = 0;
    for n in 1.. {
        assert!(!process.has_ended() && n < 1_000, "no window closes: {}", process.log());
        for partition in 0..PARTITIONS {
            published.send(partition, event("1-0", &n.to_string(), n * 1_000, "refund", 10));
            published.send(partition, "no event".to_owned());
        }
        told += metrics.read(1_000, Duration::from_millis(100)).unwrap().len();
        if told == PARTITIONS as usize {
            break;
        }
    }
    process.signal("TERM");
    let (status, log) = process.finish();
    assert!(status.success(), "{log}");
}

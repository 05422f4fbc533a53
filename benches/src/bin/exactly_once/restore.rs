//! How fast state is read back.
//!
//! The program takes a few windows of events in, twice, each time to the end, so that every entity has a record in both of its slots in
//! the state topic: what there is to read after two snapshot rounds. Then it is started again and again with nothing to read. The time
//! is what it says itself (`restored ... took_ms`); the CPU time is that of the process when it says so, less that of a start in which
//! there is no state, taken at the same line. That of the whole process is told, too, as the state has to be freed in the end.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;
use tidewatch_benches::BrokerKind;
use tidewatch_benches::figures::{median, number};
use tidewatch_benches::report::{Goal, Report};
use tidewatch_topic_io::{PartitionReader, StartAt};

use crate::input::Input;
use crate::program::Program;
use crate::say;
use crate::stand::{Run, Stand, hardly_ever};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Entities with one detector; without --detectors a tenth of them with all, whose state is so much larger
    #[arg(long, default_value_t = 1_000_000)]
    entities: u64,
    /// Partitions of the input, and so of the state
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Windows that each entity has seen: detectors that remember more take more to restore
    #[arg(long, default_value_t = 6)]
    windows: u64,
    /// What scores the one series of an entity; both if left out
    #[arg(long, value_enum)]
    detectors: Option<Detectors>,
    /// Starts, of which the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// What scores a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Detectors {
    /// The z-score alone
    ZScore,
    /// All there are
    All,
}

impl Detectors {
    const fn name(self) -> &'static str {
        match self {
            Self::ZScore => "z-score",
            Self::All => "all",
        }
    }

    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::ZScore => &["z-score"],
            Self::All => &["z-score", "iqr", "isolation-forest"],
        }
    }
}

/// Entities that are restored in a second of one core.
const PER_SECOND_AND_CORE_MIN: f64 = 500_000.0;
const START_MS: i64 = 1_736_121_600_000;
const WINDOW_MS: i64 = 10_000;
const WINDOW: &str = "10s";
/// Records of one read, and how long it may wait.
const READ_MAX: usize = 10_000;
const READ_WAIT: Duration = Duration::from_millis(100);

/// What starts with this state cost.
struct Figures {
    detectors: Detectors,
    entities: u64,
    /// Bytes of a record of the state topic, its key included.
    record_bytes: f64,
    wall_s: f64,
    /// What a restore of nothing takes: clients and questions.
    empty_wall_s: f64,
    /// CPU time of the restore alone, and of a start without state up to the same point.
    cpu_s: f64,
    start_cpu_s: f64,
    /// CPU time from start to end, with state and without.
    process_cpu_s: f64,
    empty_process_cpu_s: f64,
}

impl Figures {
    fn per_second(&self) -> f64 {
        self.entities as f64 / self.wall_s
    }

    fn per_second_and_core(&self) -> f64 {
        self.entities as f64 / self.cpu_s
    }
}

/// What one start cost.
struct Start {
    wall: Duration,
    cpu: Duration,
    process_cpu: Duration,
}

pub(crate) fn run(broker: BrokerKind, args: &Args) -> anyhow::Result<Report> {
    let Args { entities, partitions, windows, rounds, .. } = *args;
    anyhow::ensure!(partitions > 0 && rounds > 0, "--partitions and --rounds are above 0");
    anyhow::ensure!(
        entities >= 10 * u64::from(partitions.unsigned_abs()),
        "--entities is at least ten times --partitions"
    );
    anyhow::ensure!(windows >= 4, "--windows is at least 4: each half of them has to close some");
    let program = Program::find()?;
    let stand = Stand::start(broker)?;
    let cases = match args.detectors {
        Some(detectors) => vec![(detectors, entities)],
        None => vec![(Detectors::ZScore, entities), (Detectors::All, entities / 10)],
    };
    let figures =
        cases.into_iter().map(|case| measure(&program, &stand, args, case)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut table = format!(
        "{:12}{:>12}{:>12}{:>12}{:>10}{:>14}{:>22}{:>14}\n",
        "detectors",
        "entities",
        "B / record",
        "restore s",
        "CPU s",
        "entities / s",
        "entities / s and core",
        "start CPU s"
    );
    for figure in &figures {
        writeln!(
            table,
            "{:12}{:>12}{:>12}{:>12.2}{:>10.2}{:>14}{:>22}{:>14.3}",
            figure.detectors.name(),
            number(figure.entities as f64),
            number(figure.record_bytes),
            figure.wall_s,
            figure.cpu_s,
            number(figure.per_second()),
            number(figure.per_second_and_core()),
            figure.start_cpu_s,
        )?;
    }
    writeln!(
        table,
        "\nEach entity has two records, one in each slot, after {windows} windows; {partitions} partitions."
    )?;
    for figure in &figures {
        let Figures { detectors, empty_wall_s, process_cpu_s, empty_process_cpu_s, .. } = figure;
        let name = detectors.name();
        writeln!(
            table,
            "{name}: a restore of nothing takes {empty_wall_s:.2} s; CPU of the whole process {process_cpu_s:.2} s, without state \
             {empty_process_cpu_s:.2} s"
        )?;
    }
    let json = figures.iter().map(|figure| {
        json!({
            "detectors": figure.detectors.name(), "entities": figure.entities, "record_bytes": figure.record_bytes,
            "windows": windows, "partitions": partitions, "wall_s": figure.wall_s,
            "empty_wall_s": figure.empty_wall_s, "cpu_s": figure.cpu_s, "start_cpu_s": figure.start_cpu_s,
            "process_cpu_s": figure.process_cpu_s,
            "empty_process_cpu_s": figure.empty_process_cpu_s, "entities_per_second": figure.per_second(),
            "entities_per_second_and_core": figure.per_second_and_core(),
        })
    });
    let mut report = Report::new(table, json.collect());
    if let Some(figure) = figures.iter().find(|figure| figure.detectors == Detectors::ZScore) {
        let what = "entities with the z-score only, restored a second and core";
        report = report.goal(what, figure.per_second_and_core(), Goal::AtLeast(PER_SECOND_AND_CORE_MIN));
    }
    Ok(report)
}

fn measure(
    program: &Program,
    stand: &Stand,
    args: &Args,
    (detectors, entities): (Detectors, u64),
) -> anyhow::Result<Figures> {
    let name = detectors.name();
    // Room for all of them in each partition: none is forgotten.
    let of = |what: &str| Run::new(&format!("{what}-{name}"), args.partitions, entities, WINDOW, detectors.names());
    let (mut full, empty) = (of("full")?, of("empty")?);
    full.settings.snapshot_every = hardly_ever();
    program.create_topics(stand, &full)?;
    program.create_topics(stand, &empty)?;
    let mut input = Input::new(&stand.kafka, &full, entities)?;
    for (half, windows) in [0..args.windows / 2, args.windows / 2..args.windows].into_iter().enumerate() {
        say(&format!("{name}: writing the state of {entities} entities, {} of 2", half + 1));
        for window in windows {
            input.all_at(START_MS + window as i64 * WINDOW_MS)?;
        }
        program.start(stand, &full, &["process", "--drain"])?.finish()?;
    }
    let record_bytes = state_record_bytes(stand, &full, entities)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        without.push(start(program, stand, &empty, 0)?);
        with.push(start(program, stand, &full, entities)?);
        let Start { wall, cpu, .. } = &with[round];
        say(&format!("{name}: start {} of {}: {:.2?}, {:.2?} of CPU", round + 1, args.rounds, wall, cpu));
    }
    let of = |starts: &[Start], figure: fn(&Start) -> Duration| {
        median(&starts.iter().map(|start| figure(start).as_secs_f64()).collect::<Vec<_>>())
    };
    let start_cpu_s = of(&without, |start| start.cpu);
    Ok(Figures {
        detectors,
        entities,
        record_bytes,
        wall_s: of(&with, |start| start.wall),
        empty_wall_s: of(&without, |start| start.wall),
        cpu_s: of(&with, |start| start.cpu) - start_cpu_s,
        start_cpu_s,
        process_cpu_s: of(&with, |start| start.process_cpu),
        empty_process_cpu_s: of(&without, |start| start.process_cpu),
    })
}

/// Starts the program with nothing to read.
fn start(program: &Program, stand: &Stand, run: &Run, entities: u64) -> anyhow::Result<Start> {
    let mut running = program.start(stand, run, &["process", "--drain"])?;
    let line = running.wait_for("restored partitions=")?;
    let cpu = running.cpu()?;
    let found = line.field("entities")?;
    anyhow::ensure!(found == entities, "{entities} entities were to be restored: {}", line.text);
    // A time of less than a millisecond is told as none.
    let wall = Duration::from_millis(line.field("took_ms")?.max(1));
    Ok(Start { wall, cpu, process_cpu: running.finish()? })
}

/// Checks that each entity is in both slots; gives the mean size of a record.
fn state_record_bytes(stand: &Stand, run: &Run, entities: u64) -> anyhow::Result<f64> {
    let mut reader = PartitionReader::new(&stand.kafka, true)?;
    let places: Vec<_> = (0..run.partitions).map(|at| (run.topics.state.as_str(), at, StartAt::Beginning)).collect();
    reader.assign(&places)?;
    let (mut slots, mut bytes) = ([0_u64; 2], 0);
    while !reader.is_at_end() {
        for message in reader.read(READ_MAX, READ_WAIT)?.iter() {
            let (key, value) = (message.key().unwrap_or_default(), message.value().unwrap_or_default());
            slots[usize::from(key.ends_with(b"%1"))] += 1;
            bytes += key.len() + value.len();
        }
    }
    anyhow::ensure!(
        slots.iter().all(|&records| records >= entities),
        "each of {entities} entities was to be in both slots of the state topic, which hold {slots:?} records"
    );
    Ok(bytes as f64 / slots.iter().sum::<u64>() as f64)
}

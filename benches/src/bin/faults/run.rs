//! A run, from its seed to its verdict.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tidewatch_benches::BrokerKind;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_sink::TopicKind;
use tidewatch_topic_io::{Admin, KafkaConfig, TopicSpec};

use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::fault::{Fault, FaultKind, Need, Outcome};
use crate::fleet::{Exit, Fleet, Role};
use crate::hold;
use crate::inject::{self, PROCESSOR, Struck};
use crate::input::{self, Input, PARTITIONS, Source};
use crate::oracle;
use crate::outputs::Outputs;
use crate::settings::Setup;
use crate::stage::Stage;
use crate::storage::{self, Disk};

/// Different inputs of a campaign.
const VARIANTS: u64 = 3;
/// Faults of a run, at most, one that ends it apart.
const FAULTS_MAX: u64 = 4;
/// What the topic of dead letters takes: less than some records of the input, see [`input`].
const LETTER_BYTES_MAX: &str = "100000";
/// One run in so many ends by being refused to go on.
const REFUSED_OF: u64 = 8;

/// In the course of which most of a fault's share of the input is written, so that it finds the processors at work.
const FLOW_TIME: Duration = Duration::from_secs(12);

/// What all runs of a campaign share.
pub(crate) struct Campaign {
    pub(crate) program: PathBuf,
    pub(crate) broker: BrokerKind,
    pub(crate) events: u64,
    pub(crate) records_per_second: usize,
    pub(crate) patience: Duration,
    pub(crate) memory_max_mib: u64,
    /// The faults to choose from.
    pub(crate) faults: Vec<&'static FaultKind>,
    /// Whether a run has one of them alone.
    pub(crate) only: bool,
    /// What can be done here; a run leaves out what needs more.
    pub(crate) means: Means,
    /// The campaign is to end.
    pub(crate) is_cut_short: Arc<AtomicBool>,
}

/// What this machine lets the campaign do.
pub(crate) struct Means {
    can_mount: bool,
    can_trace: bool,
    pub(crate) clock: Option<Arc<Clock>>,
}

impl Means {
    /// Tries each.
    pub(crate) fn find() -> Self {
        let clock = Clock::build().map(Arc::new);
        Self { can_mount: storage::can_mount(), can_trace: hold::is_permitted(), clock }
    }

    pub(crate) fn meet(&self, need: Need) -> bool {
        match need {
            Need::Mount => self.can_mount,
            Need::Trace => self.can_trace,
            Need::Clock => self.clock.is_some(),
        }
    }
}

/// What a run does, all of it drawn from its seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Which input.
    pub(crate) variant: u64,
    pub(crate) setup: Setup,
    pub(crate) faults: Vec<&'static FaultKind>,
}

/// An input, and what an undisturbed processor makes of it.
pub(crate) struct Golden {
    input: Arc<Input>,
    outputs: Outputs,
}

/// What became of a fault.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Injected {
    pub(crate) name: &'static str,
    pub(crate) struck: bool,
    /// From its end to the next commit, or to the end of all work.
    pub(crate) recovered_s: Option<f64>,
}

/// What became of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    pub(crate) variant: u64,
    pub(crate) setup: Setup,
    pub(crate) planned: Vec<&'static str>,
    pub(crate) faults: Vec<Injected>,
    pub(crate) took_s: f64,
    /// Of that, what took from the end of one to the end of the next: the start, each fault with its recovery, the rest of the input,
    /// the checks.
    pub(crate) phases: Vec<(&'static str, f64)>,
    pub(crate) memory_peak_mib: u64,
    /// Processes that ended by themselves and were started again.
    pub(crate) exits: Vec<Exit>,
    pub(crate) failure: Option<String>,
    /// Where the logs of a failed run are.
    pub(crate) logs: Option<PathBuf>,
}

impl Plan {
    /// Draws the run of a seed.
    pub(crate) fn draw(campaign: &Campaign, seed: u64) -> Self {
        let mut dice = Dice::new(seed, "faults");
        let mut faults = if campaign.only {
            dice.some_of(1, &campaign.faults)
        } else {
            let of = |outcome| campaign.faults.iter().copied().filter(move |kind| kind.outcome == outcome);
            let (survived, refused): (Vec<_>, Vec<_>) =
                (of(Outcome::Survived).collect(), of(Outcome::Refused).collect());
            let count = 1 + dice.below(FAULTS_MAX) as usize;
            let mut faults = dice.some_of(count, &survived);
            if dice.below(REFUSED_OF) == 0 {
                faults.extend(dice.some_of(1, &refused));
            }
            faults
        };
        // Left out after the draw, so that a seed draws the same everywhere.
        faults.retain(|kind| kind.need().is_none_or(|need| campaign.means.meet(need)));
        let mut setup = Setup::draw(Dice::new(seed, "setup"));
        setup.has_short_poll = faults.iter().any(|kind| kind.fault == Fault::SlowDetector);
        let variant = Dice::new(seed, "input").below(VARIANTS);
        Self { seed, variant, setup, faults }
    }
}

impl Campaign {
    /// Makes a variant of the input and processes it undisturbed.
    ///
    /// # Errors
    /// If that does not work; or an output without records, which would leave something uncompared.
    pub(crate) fn golden(&self, variant: u64) -> anyhow::Result<Golden> {
        let input = Arc::new(Input::make(variant + 1, self.events)?);
        let folder = tempfile::tempdir()?;
        let cluster = Cluster::start(BrokerKind::Embedded, &folder.path().join("broker"))?;
        let kafka = KafkaConfig::at(&cluster.bootstrap_servers());
        create_topics(&kafka)?;
        let source = Source::start(&input, &kafka, usize::MAX)?;
        source.finish()?;
        let mut fleet = Fleet::new(&self.program, folder.path(), &kafka.bootstrap_servers, &Setup::golden());
        fleet.enlist("golden", Role::Processor, "golden")?;
        let (status, _, said) = fleet.ask(Role::Processor, &["process", "--drain"])?;
        anyhow::ensure!(status.success(), "the undisturbed run failed: {status}: {said}");
        let outputs = Outputs::read(&kafka)?;
        for kind in TopicKind::ALL {
            let count = outputs.count(kind);
            anyhow::ensure!(count > 0, "the undisturbed run has no {kind}: more --events are needed to compare them");
        }
        Ok(Golden { input, outputs })
    }

    /// Carries a run out; nothing if the campaign is cut short. Its folder is gone at the end unless it failed.
    pub(crate) fn run(&self, plan: &Plan, golden: &Golden, say: &dyn Fn(&str)) -> anyhow::Result<Option<Verdict>> {
        let began = Instant::now();
        let folder = tempfile::Builder::new().prefix("tidewatch-faults-").tempdir()?;
        let mut verdict = Verdict {
            seed: plan.seed,
            variant: plan.variant,
            setup: plan.setup.clone(),
            planned: plan.faults.iter().map(|kind| kind.name).collect(),
            faults: Vec::new(),
            took_s: 0.0,
            phases: Vec::new(),
            memory_peak_mib: 0,
            exits: Vec::new(),
            failure: None,
            logs: None,
        };
        let outcome = self.carry_out(plan, golden, folder.path(), &mut verdict, say);
        verdict.took_s = began.elapsed().as_secs_f64();
        if outcome.is_err() && self.is_cut_short.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Err(error) = outcome {
            verdict.failure = Some(format!("{error:#}"));
            verdict.logs = Some(folder.keep());
        }
        Ok(Some(verdict))
    }

    fn carry_out(
        &self,
        plan: &Plan,
        golden: &Golden,
        folder: &Path,
        verdict: &mut Verdict,
        say: &dyn Fn(&str),
    ) -> anyhow::Result<()> {
        let _disk = Disk::mount(folder, plan.faults.iter().map(|kind| kind.fault))?;
        let cluster = Cluster::start(self.broker, &folder.join("broker")).context("starting the broker")?;
        let kafka = KafkaConfig::at(&cluster.bootstrap_servers());
        create_topics(&kafka)?;
        let fleet = Fleet::new(&self.program, folder, &kafka.bootstrap_servers, &plan.setup);
        let source = Source::start(&golden.input, &kafka, self.records_per_second)?;
        let mut stage = Stage::new(folder, kafka, cluster, fleet, source, self)?;
        let outcome = self.play(plan, golden, &mut stage, verdict, say);
        let roles = [Role::Processor, Role::Sink];
        verdict.memory_peak_mib = roles.map(|role| stage.fleet.memory_peak_mib(role)).into_iter().max().unwrap_or(0);
        verdict.exits = stage.fleet.exits().to_vec();
        outcome?;
        oracle::check_exits(&verdict.exits, &plan.faults)
    }

    fn play(
        &self,
        plan: &Plan,
        golden: &Golden,
        stage: &mut Stage,
        verdict: &mut Verdict,
        say: &dyn Fn(&str),
    ) -> anyhow::Result<()> {
        for at in 0..plan.setup.processors {
            stage.fleet.add(&format!("{PROCESSOR}{at}"), Role::Processor, &at.to_string())?;
        }
        stage.fleet.add("sink", Role::Sink, "0")?;
        let began = Instant::now();
        let mut over = 0.0;
        let mut phase = |name, verdict: &mut Verdict| {
            let now = began.elapsed().as_secs_f64();
            verdict.phases.push((name, now - std::mem::replace(&mut over, now)));
        };
        let shares = plan.faults.len() as f64 + 1.0;
        let mut calm = Dice::new(plan.seed, "calm");
        say("starting");
        stage.progress(0.3 / shares).context("at the start")?;
        phase("start", verdict);
        let dice = Dice::new(plan.seed, "injection");
        for (at, kind) in plan.faults.iter().enumerate() {
            stage.source.release_over((at as f64 + 0.9) / shares, FLOW_TIME);
            stage.wait(calm.millis(50, 1_200))?;
            say(kind.name);
            let part = dice.of(&format!("{at} {}", kind.name));
            stage.fleet.fault_begins();
            let struck = inject::inject(kind.fault, stage, part).with_context(|| format!("fault {}", kind.name))?;
            let mut injected = Injected { name: kind.name, struck: struck == Struck::Yes, recovered_s: None };
            if kind.outcome == Outcome::Refused && struck == Struck::Yes {
                verdict.faults.push(injected);
                return oracle::check_refused(stage, &golden.outputs, self.memory_max_mib);
            }
            stage.source.hold();
            let recovered =
                stage.progress((at as f64 + 1.0) / shares).with_context(|| format!("after fault {}", kind.name));
            injected.recovered_s = recovered.as_ref().ok().map(Duration::as_secs_f64);
            verdict.faults.push(injected);
            recovered?;
            phase(kind.name, verdict);
        }
        say("quiet");
        stage.source.release(1.0);
        stage.drain()?;
        phase("quiet", verdict);
        let checked = oracle::check_whole(stage, &golden.outputs, self.memory_max_mib);
        phase("checks", verdict);
        checked
    }
}

/// All topics of a run.
fn create_topics(kafka: &KafkaConfig) -> anyhow::Result<()> {
    let topics = Topics::default();
    let results = TopicKind::ALL.map(|kind| kind.topic_name(&topics).to_owned());
    let names = input::topics().into_iter().chain(results);
    let mut specs: Vec<TopicSpec> = names.map(|topic| TopicSpec::new(topic, PARTITIONS)).collect();
    let letters = specs.iter_mut().filter(|spec| spec.name == topics.dead_letters);
    letters.for_each(|spec| drop(spec.properties.insert("max.message.bytes".into(), LETTER_BYTES_MAX.into())));
    for topic in [topics.state, topics.ledger] {
        specs.push(TopicSpec { compacted: true, ..TopicSpec::new(topic, PARTITIONS) });
    }
    Admin::connect(kafka)?.ensure_topics(&specs)?;
    Ok(())
}

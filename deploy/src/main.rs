//! The `tidewatch` program: the composition root of the roles.
//!
//! Invariant: only this crate reads the environment, settings files and the command line; the parts get checked values. Errors end
//! here as one line on standard error and an exit code (see [`failure`]).

mod cli;
mod dead_letters;
mod demo;
mod disorder;
mod embedded;
mod failure;
mod health;
mod ledger;
mod live;
mod replay;
mod roles;
mod score;
mod settings;
mod shutdown;
mod summary;
mod tap;
mod telemetry;
mod topics;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser as _};

use cli::{Cli, Colour, Command, ConfigAction, DeadLettersAction, DemoArgs, TopicsAction};
use roles::{Outcome, Produce, Progresses, ReadyBy, Roles};
use settings::{Loaded, Settings};
use shutdown::Shutdown;

/// Records pass from a client's thread to ours and back: in glibc's allocator both wait for one lock, record by record.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let is_answer = !error.use_stderr();
            return if is_answer { ExitCode::SUCCESS } else { failure::exit_code(&error.into()) };
        }
    };
    match cli.global.color {
        Colour::Auto => anstream::ColorChoice::Auto,
        Colour::Always => anstream::ColorChoice::Always,
        Colour::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let red = anstyle::AnsiColor::Red.on_default().bold();
            let _ = writeln!(anstream::stderr(), "{red}error:{red:#} {}", failure::line(&error));
            failure::exit_code(&error)
        }
    }
}

/// `tidewatch config show | head` is no failure.
fn is_reader_gone(error: &anyhow::Error) -> bool {
    let is_pipe = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    error.downcast_ref().is_some_and(is_pipe)
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match &cli.command {
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "tidewatch", &mut script);
            return Ok(std::io::stdout().write_all(&script)?);
        }
        Some(Command::Config { action: ConfigAction::Reference }) => {
            return Ok(write!(std::io::stdout(), "{}", settings::REFERENCE)?);
        }
        _ => {}
    }
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let loaded = settings::load(cli.global.config.as_deref(), environment, cli.flags())?;
    let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    match cli.command.unwrap_or(Command::Demo(DemoArgs::default())) {
        Command::Demo(args) => demo::run(&args, loaded, colour, &Shutdown::listen()?),
        Command::Config { action } => config(action, &loaded),
        command => {
            let mut settings = loaded.settings;
            settings.validate()?;
            telemetry::log(&settings.telemetry, None, colour)?;
            let needs_records = match &command {
                Command::Tap(_)
                | Command::Ledger(_)
                | Command::Score(_)
                | Command::Topics { action: TopicsAction::List } => true,
                Command::DeadLetters { action } => !matches!(action, DeadLettersAction::Replay(_)),
                _ => false,
            };
            let is_broker = matches!(command, Command::Broker(_));
            let _broker = if is_broker { None } else { embedded::serve_folder(&mut settings, !needs_records)? };
            dispatch(command, &settings)
        }
    }
}

fn config(action: ConfigAction, loaded: &Loaded) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match action {
        ConfigAction::Show => write!(out, "{}", settings::show::show(&loaded.layers))?,
        ConfigAction::Check => {
            loaded.settings.validate()?;
            writeln!(out, "the settings are valid: {}", live::count(loaded.settings.streams.len() as u64, "stream"))?;
        }
        ConfigAction::Reference => write!(out, "{}", settings::REFERENCE)?,
    }
    Ok(())
}

fn dispatch(command: Command, settings: &Settings) -> anyhow::Result<()> {
    let produce =
        || -> anyhow::Result<_> { Ok(Some(Produce { scenario: settings.scenario()?, pace: settings.pace()? })) };
    let (roles, creates) = match command {
        Command::Broker(args) => return embedded::run(&args, settings, &Shutdown::listen()?),
        Command::Topics { action: TopicsAction::Create } => return topics::create(settings),
        Command::Topics { action: TopicsAction::List } => return topics::list(settings),
        Command::Tap(args) => return tap::run(&args, &settings.kafka, &settings.topics, &Shutdown::listen()?),
        Command::Ledger(args) => return ledger::run(&args, settings),
        Command::DeadLetters { action } => return dead_letters::run(&action, settings, &Shutdown::listen()?),
        Command::Replay(args) => return replay::run(&args, settings, &Shutdown::listen()?),
        Command::Produce(_) => (Roles { produce: produce()?, drain: true, ..Roles::default() }, false),
        Command::Process(args) => (
            Roles {
                process: Some(demo::processor_config(settings)?),
                drain: args.drain,
                explains_watermark: args.explain_watermark,
                ..Roles::default()
            },
            false,
        ),
        Command::Sink(args) => {
            (Roles { sink: Some(settings.delivery()?), drain: args.drain, ..Roles::default() }, false)
        }
        Command::Score(args) => {
            (Roles { score: Some(settings.scoring()?), drain: args.drain, ..Roles::default() }, false)
        }
        Command::Up(_) => {
            let (process, sink) = (Some(demo::processor_config(settings)?), Some(settings.delivery()?));
            (Roles { produce: produce()?, process, sink, ..Roles::default() }, true)
        }
        Command::Demo(_) | Command::Config { .. } | Command::Completions { .. } => anyhow::bail!("handled before"),
    };
    let shutdown = Shutdown::listen()?;
    let admin = tidewatch_topic_io::Admin::connect(&settings.kafka)?;
    if creates {
        admin.ensure_topics(&settings.topic_specs())?;
    }
    let progresses = Arc::new(Progresses::default());
    endpoint(settings, roles.ready_by(), &progresses)?;
    let outcome = roles::run(roles, settings, &progresses, &shutdown)?;
    write!(anstream::stdout(), "{}", told(&outcome))?;
    Ok(())
}

/// Records metrics and serves them, if an address is set, or a processor has work here.
fn endpoint(settings: &Settings, ready_by: ReadyBy, progresses: &Arc<Progresses>) -> anyhow::Result<()> {
    let metrics = telemetry::record_metrics()?;
    let processes = ready_by == ReadyBy::Assignment;
    if let Some(address) = settings.listen_address(processes)? {
        let watermarks = Arc::clone(progresses);
        let pages = health::Pages {
            metrics,
            ready: roles::readiness(Arc::clone(progresses), ready_by),
            watermarks: Arc::new(move || match processes {
                true => watermarks.process.explain_watermark(),
                false => Some("no processor runs in this process\n".to_owned()),
            }),
        };
        match health::serve(address, pages) {
            Ok(address) => tracing::info!(%address, "serving /metrics, /live, /ready and /watermarks"),
            Err(error) if settings.is_listen_asked_for() => return Err(error),
            // A second process on a machine finds the usual port taken: no reason not to work.
            Err(error) => tracing::warn!("no /metrics here: {}", failure::line(&error)),
        }
    }
    Ok(())
}

/// A summary in a line per role.
fn told(outcome: &Outcome) -> String {
    let mut text = String::new();
    let seconds = outcome.elapsed.as_secs_f64();
    if let Some(published) = &outcome.published {
        let (events, truth) = (live::count(published.events(), "event"), live::count(published.truth, "truth record"));
        text.push_str(&format!("produce   {events} and {truth}, {} in {seconds:.1} s\n", live::bytes(published.bytes)));
        if published.failed > 0 {
            text.push_str(&format!("          {} were not taken by Kafka\n", live::count(published.failed, "event")));
        }
    }
    if let Some(processed) = &outcome.processed {
        let counts = processed.counts;
        let ledger = [
            (counts.scored, "scored"),
            (counts.late, "late"),
            (counts.dead_lettered, "dead-lettered"),
            (counts.duplicate, "duplicate"),
            (counts.filtered, "filtered"),
        ];
        let ledger = ledger.map(|(number, what)| format!("{} {what}", live::grouped(number))).join(" + ");
        let mark = if counts.residue() == 0 { "✓" } else { "✗ does not add up" };
        text.push_str(&format!("process   {} read = {ledger} {mark}\n", live::grouped(counts.read)));
        let followed = [
            live::count(counts.windows, "window"),
            live::count(counts.revisions, "revision"),
            live::count(counts.alerts, "alert record"),
            live::count(processed.transactions, "transaction"),
        ];
        text.push_str(&format!("          {}\n", followed.join(", ")));
        if counts.quiet > 0 {
            let quiet = live::count(counts.quiet, "alert record");
            text.push_str(&format!("          {quiet} not written, of what the topics held before: bootstrap\n"));
        }
        if counts.evicted > 0 {
            let evicted = live::grouped(counts.evicted);
            text.push_str(&format!("          {evicted} entities forgotten to make room: entities_max\n"));
        }
        if counts.missed > 0 {
            let missed = live::count(counts.missed, "window");
            text.push_str(&format!(
                "          {missed} missed an event that came when they were final, and that is in later ones\n"
            ));
        }
    }
    if let Some(processed) = &outcome.processed {
        for row in summary::forecasts(&processed.accuracies) {
            text.push_str(&format!("          {row}\n"));
        }
    }
    if let Some(delivered) = &outcome.delivered {
        let (rows, files) = (live::count(delivered.rows(), "row"), live::count(delivered.files(), "file"));
        text.push_str(&format!("sink      {rows} in {files}, {}\n", live::bytes(delivered.bytes())));
    }
    if let Some(judgement) = &outcome.judgement {
        text.push_str(&score::table::render(judgement));
    }
    text
}

//! What each fault is, step by step. Each returns when it is over; what is left is recovery.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::Signal;
use tidewatch_broker::{ApiKey, Fault as RequestFault, FaultRule, ResponseError, RuleId};
use tidewatch_schemas::catalogue::Topics;
use tidewatch_topic_io::Admin;

use crate::dice::Dice;
use crate::fault::{Burst, Fault, Moment};
use crate::fleet::{MemberId, Role};
use crate::oracle::check_shutdown;
use crate::settings::{POLL_INTERVAL_MAX, SESSION_TIMEOUT, TRANSACTION_TIMEOUT};
use crate::stage::Stage;
use crate::{hold, local, storage, tamper};

/// How long a fault waits for the request that it is about.
const STRIKE_WITHIN: Duration = Duration::from_secs(15);
/// SIGTERM to exit, at most.
pub(crate) const SHUTDOWN_MAX: Duration = Duration::from_secs(10);
/// The processors' names begin with it, and so their clients' ids.
pub(crate) const PROCESSOR: &str = "p";

/// Whether it befell anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Struck {
    Yes,
    No,
}

impl From<bool> for Struck {
    fn from(struck: bool) -> Self {
        if struck { Self::Yes } else { Self::No }
    }
}

/// Does it.
///
/// # Errors
/// What the fault forbids has happened, or the run has come apart.
pub(crate) fn inject(fault: Fault, stage: &mut Stage, mut dice: Dice) -> anyhow::Result<Struck> {
    let victim = dice.pick(&stage.fleet.of(Role::Processor));
    let struck = match fault {
        Fault::Kill => stage.fleet.kill(victim)?,
        Fault::KillAll => kill_all(stage)?,
        Fault::KillInRestore => kill_in_restore(stage, victim, &mut dice)?,
        Fault::KillInSnapshot => kill_in_snapshot(stage)?,
        Fault::KillAt(moment) => kill_at(stage, victim, moment, &mut dice)?,
        Fault::Zombie => stop_and_go_on(stage, victim, SESSION_TIMEOUT * 2)?,
        Fault::TransactionTimeout => {
            let between = TRANSACTION_TIMEOUT + (SESSION_TIMEOUT - TRANSACTION_TIMEOUT) / 2;
            // Its end is on its way, and does not arrive.
            let is_open = transaction_end(stage, victim, RequestFault::DropRequest)?;
            stop_and_go_on(stage, victim, between)? && is_open
        }
        Fault::SlowDetector => slow_detector(stage, victim)?,
        Fault::Clock(seconds) => clock_off(stage, victim, seconds, &mut dice)?,
        Fault::Terminate => terminate(stage, victim, &mut dice)?,
        Fault::Twin => twin(stage, victim, &mut dice)?,
        Fault::RebalanceInTransaction => rebalance_in_transaction(stage, &mut dice)?,
        Fault::JoinStorm => join_storm(stage, &mut dice)?,
        Fault::KillSink => {
            let sink = dice.pick(&stage.fleet.of(Role::Sink));
            stage.fleet.kill(sink)?
        }
        Fault::ZombieSink => {
            let sink = dice.pick(&stage.fleet.of(Role::Sink));
            stop_and_go_on(stage, sink, SESSION_TIMEOUT * 2)?
        }
        Fault::BrokerKill => {
            settle_input(stage)?;
            stage.cluster.kill();
            broker_returns(stage, &mut dice)?
        }
        Fault::BrokerRestart => {
            settle_input(stage)?;
            stage.cluster.stop();
            broker_returns(stage, &mut dice)?
        }
        Fault::BrokerFreeze => freeze(stage)?,
        Fault::Cut => cut(stage, &mut dice)?,
        Fault::LostReply(api) => lost_reply(stage, victim, api, &mut dice)?,
        Fault::LateEndTxn => late_end_txn(stage, &mut dice)?,
        Fault::Errors(burst) => errors(stage, victim, burst, &mut dice)?,
        Fault::Slow => slow(stage, &mut dice)?,
        Fault::Throttled => throttled(stage, &mut dice)?,
        Fault::OutputTooLarge => output_too_large(stage)?,
        Fault::DiskFull => storage::fill(stage, &mut dice)?,
        Fault::DiskReadOnly => storage::write_protect(stage, &mut dice)?,
        Fault::ClaimDamaged => local::damage_claim(stage, &mut dice)?,
        Fault::ClaimTorn => local::tear_claim(stage, &mut dice)?,
        Fault::FileTorn => local::tear_file(stage, &mut dice)?,
        Fault::FileDamaged => local::damage_file(stage, &mut dice)?,
        Fault::StateBitFlipped => tamper::state(stage, &mut dice, tamper::StateDamage::BitFlipped)?,
        Fault::StateNewer => tamper::state(stage, &mut dice, tamper::StateDamage::Newer)?,
        Fault::PartitionsAdded => tamper::add_partitions(stage, &mut dice)?,
        Fault::TopicRecreated => tamper::recreate_topic(stage, &mut dice)?,
        Fault::InputExpired => tamper::expire_input(stage, &mut dice)?,
    };
    Ok(struck.into())
}

/// Has the input answered for before an Apache Kafka ends. When it is back it goes by the timestamps of a producer's records for how long
/// that one has been silent, and those of the input are older than `producer.id.expiration.ms` by far: it knows nothing of who wrote them,
/// and takes a batch whose answer was lost a second time. Whoever has a transaction open is not forgotten.
fn settle_input(stage: &mut Stage) -> anyhow::Result<()> {
    if stage.cluster.is_kafka() { stage.quiesce_source() } else { Ok(()) }
}

fn kill_all(stage: &mut Stage) -> anyhow::Result<bool> {
    let mut struck = false;
    for member in stage.fleet.of(Role::Processor) {
        struck |= stage.fleet.kill(member)?;
    }
    Ok(struck)
}

/// Kills it, and again while its next lives join, read their state and repeat input: at least once before one has its state back.
fn kill_in_restore(stage: &mut Stage, victim: MemberId, dice: &mut Dice) -> anyhow::Result<bool> {
    let restores = |stage: &Stage| stage.fleet.log(victim).matches("restored partitions=").count();
    stage.fleet.kill(victim)?;
    let mut struck = false;
    for _ in 0..1 + dice.below(3) {
        let before = restores(stage);
        stage.wait_until(STRIKE_WITHIN, |stage| Ok(stage.fleet.is_up(victim)))?;
        stage.wait(dice.millis(20, 1_500))?;
        struck |= stage.fleet.kill(victim)? && restores(stage) == before;
    }
    Ok(struck)
}

/// Kills all of them when there are records of an open transaction on the state topic.
fn kill_in_snapshot(stage: &mut Stage) -> anyhow::Result<bool> {
    let (admin, topic) = (Admin::connect(&stage.kafka)?, Topics::default().state);
    let caught = stage.wait_until(STRIKE_WITHIN, |_| {
        let (Ok(committed), Ok(written)) = (admin.offsets(&topic), admin.written(&topic)) else { return Ok(false) };
        Ok(committed.iter().zip(&written).any(|(committed, written)| written.high > committed.high))
    })?;
    Ok(kill_all(stage)? && caught)
}

/// A rule about the processors' requests, or only those of one.
fn rule(api: Option<ApiKey>, client_id: &str, fault: RequestFault) -> FaultRule {
    FaultRule { api, client_id: Some(client_id.to_owned()), ..FaultRule::new(fault) }
}

fn befallen(stage: &Stage, id: RuleId) -> anyhow::Result<u64> {
    Ok(stage.cluster.faults()?.befallen().get(&id).copied().unwrap_or(0))
}

/// Puts a rule in force until it has struck so often.
fn strike(stage: &mut Stage, rule: FaultRule, times: u64) -> anyhow::Result<(RuleId, bool)> {
    let id = stage.cluster.faults()?.add(FaultRule { times: Some(times), ..rule });
    let struck = stage.wait_until(STRIKE_WITHIN, |stage| Ok(befallen(stage, id)? >= times))?;
    Ok((id, struck))
}

fn kill_at(stage: &mut Stage, victim: MemberId, moment: Moment, dice: &mut Dice) -> anyhow::Result<bool> {
    let (api, fault) = match moment {
        Moment::ProduceToOffsets => (ApiKey::AddOffsetsToTxn, RequestFault::DropRequest),
        Moment::OffsetsAnnounced => (ApiKey::TxnOffsetCommit, RequestFault::DropRequest),
        Moment::OffsetsToEnd => (ApiKey::EndTxn, RequestFault::DropRequest),
        Moment::EndSent => (ApiKey::EndTxn, RequestFault::DropReply),
    };
    let skip = dice.below(4);
    let client_id = stage.fleet.client_id(victim).to_owned();
    let (id, struck) = strike(stage, FaultRule { skip, ..rule(Some(api), &client_id, fault) }, 1)?;
    let killed = stage.fleet.kill(victim)?;
    stage.cluster.faults()?.remove(id);
    Ok(struck && killed)
}

fn stop_and_go_on(stage: &mut Stage, victim: MemberId, time: Duration) -> anyhow::Result<bool> {
    let struck = stage.fleet.signal(victim, Signal::STOP);
    stage.wait(time)?;
    Ok(stage.fleet.signal(victim, Signal::CONT) && struck)
}

/// Holds the thread that processes; those of its clients go on, and their heartbeats with them.
fn slow_detector(stage: &mut Stage, victim: MemberId) -> anyhow::Result<bool> {
    const WORKER: &str = "worker-0";
    let time = POLL_INTERVAL_MAX + Duration::from_millis(1_500);
    let is_up = stage.wait_until(STRIKE_WITHIN, |stage| Ok(stage.fleet.is_up(victim)))?;
    let (true, Some(process)) = (is_up, stage.fleet.process_id(victim)) else { return Ok(false) };
    let before = stage.fleet.log(victim).len();
    let held = std::thread::spawn(move || hold::thread(process, WORKER, time));
    let waited = stage.wait_until(time * 2, |_| Ok(held.is_finished()));
    let held = held.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread that holds another panicked")));
    waited?;
    // The group has given its partitions to others: it is given some again, or finds that its commit is not wanted.
    let is_out =
        |stage: &mut Stage| Ok(has_said(stage, victim, before, RESTORED) || has_said(stage, victim, before, FAILED));
    Ok(held? && stage.wait_until(STRIKE_WITHIN, is_out)?)
}

/// A life with a clock that is off, and the next ones with a right one again.
fn clock_off(stage: &mut Stage, victim: MemberId, seconds: i64, dice: &mut Dice) -> anyhow::Result<bool> {
    let environment = stage.clock.as_ref().context("a run with this fault has a clock")?.environment(seconds);
    stage.fleet.set_environment(victim, environment);
    stage.fleet.kill(victim)?;
    let is_up = stage.wait_until(STRIKE_WITHIN, |stage| Ok(stage.fleet.is_up(victim)))?;
    stage.wait(dice.millis(2_500, 6_000))?;
    stage.fleet.set_environment(victim, Vec::new());
    Ok(stage.fleet.kill(victim)? && is_up)
}

/// Waits until one is about to end a transaction, which this befalls.
fn transaction_end(stage: &mut Stage, victim: MemberId, fault: RequestFault) -> anyhow::Result<bool> {
    let client_id = stage.fleet.client_id(victim).to_owned();
    let (id, struck) = strike(stage, rule(Some(ApiKey::EndTxn), &client_id, fault), 1)?;
    stage.cluster.faults()?.remove(id);
    Ok(struck)
}

/// SIGTERM while the end of a transaction is under way.
fn terminate(stage: &mut Stage, victim: MemberId, dice: &mut Dice) -> anyhow::Result<bool> {
    let is_open = transaction_end(stage, victim, RequestFault::Delay(dice.millis(200, 1_500)))?;
    let said = stage.fleet.log(victim).len();
    let Some((status, took)) = stage.fleet.terminate(victim, stage.patience)? else { return Ok(false) };
    let name = stage.fleet.client_id(victim);
    anyhow::ensure!(took <= SHUTDOWN_MAX, "{name} took {took:?} to end after SIGTERM, longer than {SHUTDOWN_MAX:?}");
    check_shutdown(stage, victim, status, said)?;
    Ok(is_open)
}

/// Runs a second process with the instance of another: whoever comes later fences the other, and both come back.
fn twin(stage: &mut Stage, victim: MemberId, dice: &mut Dice) -> anyhow::Result<bool> {
    let instance = stage.fleet.client_id(victim).trim_start_matches(PROCESSOR).to_owned();
    let name = stage.next_name("twin");
    let before = stage.fleet.log(victim).len();
    let twin = stage.fleet.add(&name, Role::Processor, &instance)?;
    stage.wait(dice.millis(3_000, 8_000))?;
    leave(stage, twin, dice.flip())?;
    Ok(has_said(stage, victim, before, FAILED) || has_said(stage, twin, 0, FAILED))
}

/// What a processor says of a cycle that failed, of an end by itself, and of partitions that it has brought back.
const FAILED: &[&str] = &["cycle failed", "error:"];
const RESTORED: &[&str] = &["restored"];

/// Whether one has said any of these words since it had said so many bytes.
fn has_said(stage: &Stage, member: MemberId, before: usize, words: &[&str]) -> bool {
    let log = stage.fleet.log(member);
    words.iter().any(|word| log.get(before..).unwrap_or_default().contains(word))
}

/// Ends a process for good, in order or by SIGKILL.
fn leave(stage: &mut Stage, member: MemberId, in_order: bool) -> anyhow::Result<()> {
    stage.fleet.unwanted(member);
    if in_order {
        // What it ends with is not asked for: a rebalance or a fence may be in its way.
        stage.fleet.terminate(member, stage.patience)?;
    } else {
        stage.fleet.kill(member)?;
    }
    Ok(())
}

fn rebalance_in_transaction(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let slow = rule(Some(ApiKey::EndTxn), PROCESSOR, RequestFault::Delay(dice.millis(300, 1_500)));
    let id = stage.cluster.faults()?.add(slow);
    let name = stage.next_name("p9");
    let member = stage.fleet.add(&name, Role::Processor, &name)?;
    stage.wait(dice.millis(3_000, 6_000))?;
    leave(stage, member, true)?;
    let struck = befallen(stage, id)? > 0;
    stage.cluster.faults()?.remove(id);
    Ok(struck)
}

fn join_storm(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let (mut members, mut all) = (Vec::new(), Vec::new());
    for _ in 0..3 + dice.below(4) {
        let name = stage.next_name("p9");
        let member = stage.fleet.add(&name, Role::Processor, &name)?;
        members.push(member);
        all.push(member);
        stage.wait(dice.millis(300, 2_500))?;
        if members.len() > 1 {
            let leaver = members.swap_remove(dice.below(members.len() as u64) as usize);
            leave(stage, leaver, dice.flip())?;
        }
    }
    for member in members {
        leave(stage, member, dice.flip())?;
    }
    Ok(all.into_iter().any(|member| has_said(stage, member, 0, RESTORED)))
}

fn broker_returns(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    stage.wait(dice.millis(100, 5_000))?;
    stage.cluster.restart()?;
    Ok(true)
}

/// All of the broker, for ten seconds.
fn freeze(stage: &mut Stage) -> anyhow::Result<bool> {
    const FOR: Duration = Duration::from_secs(10);
    let Some(processes) = stage.cluster.processes() else {
        let (id, struck) = strike(stage, FaultRule::new(RequestFault::Freeze(FOR)), 1)?;
        stage.wait(FOR)?;
        stage.cluster.faults()?.remove(id);
        return Ok(struck);
    };
    rustix::process::kill_process_group(processes, Signal::STOP)?;
    let waited = stage.wait(FOR);
    rustix::process::kill_process_group(processes, Signal::CONT)?;
    waited.map(|()| true)
}

/// The longest cut of all requests.
const CUT_MAX: Duration = Duration::from_secs(60);

fn cut(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let id = stage.cluster.faults()?.add(rule(None, "", RequestFault::Disconnect));
    // Half of the time for as long as an outage is taken to last; else for less, so that it meets each time-out on its way.
    let time = if dice.flip() { CUT_MAX } else { dice.millis(5_000, CUT_MAX.as_millis() as u64) };
    stage.wait(time)?;
    let struck = befallen(stage, id)? > 0;
    stage.cluster.faults()?.remove(id);
    Ok(struck)
}

/// Requests that are sent at a start only have to be provoked by one.
fn is_of_a_start(api: ApiKey) -> bool {
    matches!(api, ApiKey::InitProducerId | ApiKey::OffsetFetch | ApiKey::JoinGroup)
}

/// How many requests are left alone first. A start asks for its id and its offsets once.
fn skipped(api: ApiKey, most: u64, dice: &mut Dice) -> u64 {
    match api {
        ApiKey::InitProducerId | ApiKey::OffsetFetch => 0,
        _ if is_of_a_start(api) => dice.below(2),
        _ => dice.below(most),
    }
}

fn lost_reply(stage: &mut Stage, victim: MemberId, api: ApiKey, dice: &mut Dice) -> anyhow::Result<bool> {
    let (times, skip) = (1 + dice.below(3), skipped(api, 6, dice));
    if is_of_a_start(api) {
        stage.fleet.kill(victim)?;
    }
    let lost = FaultRule { skip, times: Some(times), ..rule(Some(api), PROCESSOR, RequestFault::DropReply) };
    let id = stage.cluster.faults()?.add(lost);
    let struck = stage.wait_until(STRIKE_WITHIN, |stage| Ok(befallen(stage, id)? > 0))?;
    // The rest of them may come while the first is being got over.
    stage.wait(dice.millis(0, 3_000))?;
    stage.cluster.faults()?.remove(id);
    Ok(struck)
}

/// EndTxn is held back for longer than its sender waits, and carried out then: into the next transaction, if nobody is careful.
fn late_end_txn(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let (delay, skip) = (dice.millis(2_500, 9_000), dice.below(5));
    let late = FaultRule { skip, ..rule(Some(ApiKey::EndTxn), PROCESSOR, RequestFault::Delay(delay)) };
    let (id, struck) = strike(stage, late, 1)?;
    stage.wait(delay)?;
    stage.cluster.faults()?.remove(id);
    Ok(struck)
}

fn errors(stage: &mut Stage, victim: MemberId, burst: Burst, dice: &mut Dice) -> anyhow::Result<bool> {
    let (error, apis) = burst.error();
    let mut ids = Vec::new();
    for &api in apis {
        let probability = if is_of_a_start(api) { 1.0 } else { 0.7 };
        let skip = skipped(api, 4, dice);
        let some = FaultRule {
            probability,
            skip,
            times: Some(1 + dice.below(6)),
            ..rule(Some(api), PROCESSOR, RequestFault::Error(error))
        };
        ids.push(stage.cluster.faults()?.add(some));
    }
    if apis.iter().any(|&api| is_of_a_start(api)) {
        stage.fleet.kill(victim)?;
    }
    let has_struck = |stage: &Stage| ids.iter().try_fold(false, |any, &id| Ok(any || befallen(stage, id)? > 0));
    // The next life may have to wait for its partitions until the session of the last is over.
    let struck = stage.wait_until(STRIKE_WITHIN, |stage| has_struck(stage))?;
    stage.wait(dice.millis(2_000, 6_000))?;
    for &id in &ids {
        stage.cluster.faults()?.remove(id);
    }
    Ok(struck)
}

fn slow(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let some = FaultRule { probability: 0.33, ..rule(None, PROCESSOR, RequestFault::Delay(dice.millis(50, 250))) };
    let id = stage.cluster.faults()?.add(some);
    stage.wait(dice.millis(3_000, 8_000))?;
    let struck = befallen(stage, id)? > 0;
    stage.cluster.faults()?.remove(id);
    Ok(struck)
}

/// Answers that ask to wait, as a broker gives them to clients over their quota; the requests that they answer are carried out.
fn throttled(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let some =
        FaultRule { probability: 0.25, ..rule(None, PROCESSOR, RequestFault::Throttle(dice.millis(100, 1_000))) };
    let id = stage.cluster.faults()?.add(some);
    stage.wait(dice.millis(3_000, 8_000))?;
    let struck = befallen(stage, id)? > 0;
    stage.cluster.faults()?.remove(id);
    Ok(struck)
}

/// No output is taken: the processors are to end by an error, and not to abort for ever.
fn output_too_large(stage: &mut Stage) -> anyhow::Result<bool> {
    let error = RequestFault::Error(ResponseError::MessageTooLarge);
    let id = stage.cluster.faults()?.add(rule(Some(ApiKey::Produce), PROCESSOR, error));
    let ended = expect_refusal(stage, Role::Processor, &[], &["too large"]);
    let struck = befallen(stage, id)? > 0;
    stage.cluster.faults()?.remove(id);
    // With nothing to write, nobody has a reason to end.
    if struck { ended.map(|()| true) } else { Ok(false) }
}

/// Takes all processors down at once and keeps them down, until no transaction of theirs is open any more.
pub(crate) fn hold_processors(stage: &mut Stage) -> anyhow::Result<Vec<MemberId>> {
    let members = stage.fleet.of(Role::Processor);
    for &member in &members {
        stage.fleet.hold(member)?;
    }
    let began = Instant::now();
    let admin = Admin::connect(&stage.kafka)?;
    let settled =
        stage.wait_until(TRANSACTION_TIMEOUT * 5, |_| Ok(crate::oracle::open_transaction(&admin)?.is_none()))?;
    anyhow::ensure!(settled, "a transaction is open {:?} after all processors were killed", began.elapsed());
    Ok(members)
}

/// Lets them come back, and waits for one that refuses to go on with these words in its last line.
pub(crate) fn expect_refusal(stage: &mut Stage, role: Role, held: &[MemberId], words: &[&str]) -> anyhow::Result<()> {
    let before = stage.fleet.exits().len();
    for &member in held {
        stage.fleet.let_go(member);
    }
    let patience = stage.patience;
    let refused = stage.wait_until(patience, |stage| {
        let exits = &stage.fleet.exits()[before..];
        let names = |said: &str| said.starts_with("error:") && words.iter().all(|word| said.contains(word));
        Ok(exits.iter().any(|exit| names(&exit.said)))
    })?;
    let said = || {
        let mut exits = stage.fleet.exits()[before..].iter().map(|exit| exit.said.as_str());
        exits.next_back().unwrap_or("nothing, all are up").to_owned()
    };
    anyhow::ensure!(
        refused,
        "no {role:?} has refused to go on, with the words {words:?}; the last to end said: {}",
        said()
    );
    Ok(())
}

/// The input topic that a fault is about.
pub(crate) fn an_input(dice: &mut Dice) -> anyhow::Result<String> {
    let topics = crate::input::topics();
    topics.get(dice.below(topics.len() as u64) as usize).cloned().context("there are inputs")
}

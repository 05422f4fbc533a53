//! What has to be true of a run that has come to its end, asked as a consumer, an operator and a reader of the files would.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_sink::TopicKind;
use tidewatch_topic_io::Admin;

use crate::fault::FaultKind;
use crate::files;
use crate::fleet::{Exit, MemberId, Role};
use crate::inject::SHUTDOWN_MAX;
use crate::outputs::{self, Extent, Outputs};
use crate::settings::{OUTPUT, TRANSACTION_TIMEOUT};
use crate::stage::Stage;

/// Allowance over the memory that was configured.
const MEMORY_ALLOWANCE: f64 = 1.10;

/// What a processor says that gives up what it has open.
const UNSETTLED: &str = "not settled within";

/// The first output topic, if any, that holds records of a transaction which is neither committed nor aborted.
pub(crate) fn open_transaction(admin: &Admin) -> anyhow::Result<Option<String>> {
    let topics = Topics::default();
    let results = TopicKind::ALL.map(|kind| kind.topic_name(&topics));
    for topic in results.into_iter().chain([topics.state.as_str(), topics.ledger.as_str()]) {
        let (committed, written) = (admin.offsets(topic)?, admin.written(topic)?);
        let open = committed.iter().zip(&written).find(|(committed, written)| committed.high < written.high);
        if let Some((at, end)) = open {
            let (partition, stable, high) = (at.partition, at.high, end.high);
            return Ok(Some(format!(
                "{topic} partition {partition}: the last stable offset is {stable}, the end {high}"
            )));
        }
    }
    Ok(None)
}

/// Ends the processes in order, lets Delivery store the rest, and checks all there is to check.
///
/// # Errors
/// The first that is not as it has to be.
pub(crate) fn check_whole(stage: &mut Stage, golden: &Outputs, memory_max_mib: u64) -> anyhow::Result<()> {
    // What somebody who died has left open is over when none is; what is open after that is of those who live.
    check_none_open(stage, stage.patience)?;
    for role in [Role::Processor, Role::Sink] {
        end_in_order(stage, role)?;
        // Before the broker's time-out could have done it for them.
        check_none_open(stage, TRANSACTION_TIMEOUT / 2).with_context(|| format!("after SIGTERM of each {role:?}"))?;
    }
    let (status, _, said) = stage.fleet.ask(Role::Sink, &["sink", "--drain"])?;
    anyhow::ensure!(status.success(), "`tidewatch sink --drain` ended by {status}: {said}");
    let found = check_settled(stage, golden, Extent::Whole, memory_max_mib)?;
    let (status, balance, said) = stage.fleet.ask(Role::Processor, &["ledger", "--json"])?;
    anyhow::ensure!(status.success(), "`tidewatch ledger` ended by {status}: {said}");
    check_balance(&balance)?;
    let stored = files::stored(&stage.folder.join(OUTPUT)).context("reading what Delivery has stored")?;
    let written = found.offsets.into_iter().filter(|(_, offsets)| !offsets.is_empty()).collect();
    anyhow::ensure!(stored.values().any(|offsets| !offsets.is_empty()), "Delivery has stored nothing");
    files::first_difference(&written, &stored).map_or(Ok(()), |difference| Err(anyhow::anyhow!("files: {difference}")))
}

/// SIGTERM to all of a role together, as each takes its seconds.
fn end_in_order(stage: &mut Stage, role: Role) -> anyhow::Result<()> {
    let members = stage.fleet.of(role);
    stage.wait_until(stage.patience, |stage| Ok(members.iter().all(|&member| stage.fleet.is_up(member))))?;
    let mut asked = Vec::new();
    for member in members {
        stage.fleet.unwanted(member);
        let said = stage.fleet.log(member).len();
        asked.extend(stage.fleet.ask_to_end(member).map(|at| (member, at, said)));
    }
    for (member, at, said) in asked {
        if let Some((status, _)) = stage.fleet.await_end(member, at, SHUTDOWN_MAX)? {
            check_shutdown(stage, member, status, said)?;
        }
    }
    Ok(())
}

/// Holds a process that was asked to end to its word; before that it had said so much, in bytes.
pub(crate) fn check_shutdown(stage: &Stage, member: MemberId, status: ExitStatus, said: usize) -> anyhow::Result<()> {
    let (name, log) = (stage.fleet.client_id(member), stage.fleet.log(member));
    anyhow::ensure!(status.success(), "{name} was asked to end by SIGTERM and ended by {status}");
    let has_settled = !log.get(said..).unwrap_or_default().contains(UNSETTLED);
    anyhow::ensure!(has_settled, "{name} was asked to end by SIGTERM and has not settled its transaction");
    Ok(())
}

/// No output topic holds records of a transaction that is neither committed nor aborted, or not for long.
fn check_none_open(stage: &mut Stage, within: Duration) -> anyhow::Result<()> {
    let admin = Admin::connect(&stage.kafka)?;
    let mut open = None;
    let settled = stage.wait_until(within, |_| {
        open = open_transaction(&admin)?;
        Ok(open.is_none())
    })?;
    anyhow::ensure!(settled, "a transaction was left open: {}", open.unwrap_or_default());
    Ok(())
}

/// What has to be true of a run that was refused to go on: what it has committed is the beginning of the golden run's.
///
/// # Errors
/// As [`check_whole`].
pub(crate) fn check_refused(stage: &mut Stage, golden: &Outputs, memory_max_mib: u64) -> anyhow::Result<()> {
    for role in [Role::Processor, Role::Sink] {
        for member in stage.fleet.of(role) {
            stage.fleet.unwanted(member);
            stage.fleet.kill(member)?;
        }
    }
    check_settled(stage, golden, Extent::Prefix, memory_max_mib).map(|_| ())
}

/// No process has ended by itself but with a word on the fault that was in force, or on the one before, which may have been at work still.
///
/// # Errors
/// The first that has.
pub(crate) fn check_exits(exits: &[Exit], faults: &[&FaultKind]) -> anyhow::Result<()> {
    let is_foreseen = |exit: &&Exit| {
        let at_work = faults.iter().take(exit.begun).rev().take(2);
        at_work.flat_map(|kind| kind.fault.last_words()).any(|words| exit.said.contains(words))
    };
    match exits.iter().find(|exit| !is_foreseen(exit)) {
        Some(Exit { member, status, said, .. }) => Err(anyhow::anyhow!("{member} ended by itself ({status}): {said}")),
        None => Ok(()),
    }
}

/// What holds in both cases.
fn check_settled(stage: &mut Stage, golden: &Outputs, extent: Extent, memory_max_mib: u64) -> anyhow::Result<Outputs> {
    // The broker aborts what a dead process left open at its time-out.
    check_none_open(stage, stage.patience)?;
    let found = Outputs::read(&stage.kafka).context("reading the outputs")?;
    if let Some(difference) = outputs::first_difference(golden, &found, extent) {
        anyhow::bail!("{difference}");
    }
    for (member, log) in stage.fleet.logs() {
        let panicked = log.lines().find(|line| line.contains("panicked"));
        anyhow::ensure!(panicked.is_none(), "{member} panicked: {}", panicked.unwrap_or_default());
    }
    for role in [Role::Processor, Role::Sink] {
        let (peak, most) = (stage.fleet.memory_peak_mib(role), memory_max_mib as f64 * MEMORY_ALLOWANCE);
        anyhow::ensure!(peak as f64 <= most, "a {role:?} took {peak} MiB, more than {most:.0} MiB; see --memory-mib");
    }
    Ok(found)
}

/// Nothing is unaccounted for, nothing is to go, nothing is left to store.
fn check_balance(balance: &str) -> anyhow::Result<()> {
    let balance: serde_json::Value = serde_json::from_str(balance).context("the ledger's JSON")?;
    let number = |value: &serde_json::Value, key: &str| {
        value[key].as_i64().with_context(|| format!("the ledger says no `{key}`: {value}"))
    };
    anyhow::ensure!(balance["problems"] == serde_json::json!([]), "the ledger: {}", balance["problems"]);
    for line in balance["partitions"].as_array().context("the ledger's partitions")? {
        let parts = ["scored", "late", "dead_lettered", "duplicate", "filtered"].map(|part| number(line, part));
        let sum: i64 = parts.into_iter().sum::<anyhow::Result<i64>>()?;
        anyhow::ensure!(number(line, "read")? == sum, "the ledger has a residue: {line}");
        anyhow::ensure!(number(line, "lag")? == 0, "committed offset and end differ: {line}");
    }
    for kind in balance["results"].as_array().context("the ledger's results")? {
        anyhow::ensure!(number(kind, "not_stored_yet")? == 0, "not all is stored: {kind}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(read: i64, lag: i64, not_stored_yet: i64) -> String {
        let partition = serde_json::json!({
            "read": read, "scored": 5, "late": 1, "dead_lettered": 1, "duplicate": 1, "filtered": 0, "lag": lag,
        });
        let result = serde_json::json!({ "kind": "metrics", "not_stored_yet": not_stored_yet });
        serde_json::json!({ "problems": [], "partitions": [partition], "results": [result] }).to_string()
    }

    fn check(balance: &str, expected: Option<&str>) {
        match (check_balance(balance), expected) {
            (Ok(()), None) => {}
            (Err(error), Some(part)) if error.to_string().contains(part) => {}
            (said, _) => panic!("{balance}: {said:?}, not {expected:?}"),
        }
    }

    #[test]
    fn who_ends_by_itself_has_a_word_on_a_fault_that_is_at_work() {
        let all = crate::fault::of(tidewatch_benches::BrokerKind::Embedded, &[]).unwrap();
        let named = |name: &str| all.iter().copied().find(|kind| kind.name == name).unwrap();
        let faults = [named("cut"), named("kill"), named("kill-sink")];
        let said = "error: no broker answers at 127.0.0.1:1";
        let exit = |begun| Exit { member: "p0".into(), status: "exit status: 1".into(), said: said.into(), begun };
        for (begun, is_foreseen) in [(0, false), (1, true), (2, true), (3, false)] {
            assert_eq!(check_exits(&[exit(begun)], &faults).is_ok(), is_foreseen, "{begun}");
        }
        let other = Exit { said: "error: something else".into(), ..exit(1) };
        assert!(check_exits(&[exit(1), other], &faults).unwrap_err().to_string().contains("something else"));
    }

    #[test]
    fn a_ledger_that_does_not_add_up_is_told() {
        check(&balance(8, 0, 0), None);
        check(&balance(9, 0, 0), Some("residue"));
        check(&balance(8, 3, 0), Some("committed offset"));
        check(&balance(8, 0, 2), Some("not all is stored"));
        check("{}", Some("the ledger"));
    }
}

//! Faults of what Delivery keeps in its folder: claims, the files that they name, and what a killed writer leaves beside them. What
//! Delivery can have left behind itself it repairs; the rest it or the ledger names, and then it is as it was.
//!
//! Delivery puts a file under its name in one step (`object_store` writes beside it, as `<name>#<number>`, and renames), and a claim before
//! its files. So a file that is cut is one whose data a loss of power has taken, and it can be met below the newest claim alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use tidewatch_schemas::catalogue::Topics;

use crate::dice::Dice;
use crate::fleet::{MemberId, Role};
use crate::inject::expect_refusal;
use crate::settings::{OUTPUT, SINK_GROUP};
use crate::stage::Stage;

/// The partition whose claims are damaged.
const PARTITION: i32 = 0;

/// A claim: its file, and what it says.
struct Claim {
    file: PathBuf,
    text: Vec<u8>,
    json: Value,
}

impl Claim {
    fn offset(&self, name: &str) -> anyhow::Result<i64> {
        self.json[name].as_i64().with_context(|| format!("{}: no `{name}`", self.file.display()))
    }

    /// One of the files that it names, with its size.
    fn a_file(&self, output: &Path, dice: &mut Dice) -> anyhow::Result<(PathBuf, u64)> {
        let files = self.json["files"].as_array().filter(|files| !files.is_empty()).context("a claim names files")?;
        let file = &files[dice.below(files.len() as u64) as usize];
        let path = file["path"].as_str().context("a claimed file has a path")?;
        Ok((output.join(path), file["bytes"].as_u64().context("a claimed file has a size")?))
    }
}

fn output(stage: &Stage) -> PathBuf {
    stage.folder.join(OUTPUT)
}

/// The claims of the partition, oldest first.
fn claims(output: &Path) -> anyhow::Result<Vec<Claim>> {
    let folder = output.join("_tidewatch/claims").join(Topics::default().metrics).join(PARTITION.to_string());
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    // Claims are linked into place under a name that ends in `.json`.
    files.retain(|path| path.extension().is_some_and(|is| is == "json"));
    files.sort();
    let read = |file: PathBuf| {
        let text = std::fs::read(&file)?;
        let json = serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))?;
        Ok(Claim { file, text, json })
    };
    files.into_iter().map(read).collect()
}

/// Waits for so many claims and takes Delivery down, by SIGKILL or in order; the newest claim. Nothing if none came.
fn hold_with_claims(stage: &mut Stage, dice: &mut Dice, in_order: bool) -> anyhow::Result<Option<(MemberId, Claim)>> {
    let (output, patience) = (output(stage), stage.patience);
    if !stage.wait_until(patience, |_| Ok(!claims(&output)?.is_empty()))? {
        return Ok(None);
    }
    let sink = dice.pick(&stage.fleet.of(Role::Sink));
    if in_order {
        stage.fleet.hold_in_order(sink, patience)?;
    } else {
        stage.fleet.hold(sink)?;
    }
    let newest = claims(&output)?.pop().context("claims are not removed")?;
    Ok(Some((sink, newest)))
}

/// Damages the newest claim of a partition: Delivery is to name it and end, again and again, until it is repaired.
pub(crate) fn damage_claim(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let Some((sink, newest)) = hold_with_claims(stage, dice, false)? else { return Ok(false) };
    let mut damaged = newest.text.clone();
    // An empty one is another matter: a loss of power leaves it.
    let at = 1 + dice.below(damaged.len() as u64 - 2) as usize;
    if dice.flip() {
        damaged.truncate(at)
    } else {
        damaged[at] = b'\0'
    }
    std::fs::write(&newest.file, damaged)?;
    let name = newest.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let refused = expect_refusal(stage, Role::Sink, &[sink], &["claim", &name]);
    std::fs::write(&newest.file, &newest.text)?;
    refused.map(|()| true)
}

/// A claim of which nothing but the name has reached the disk: Delivery is to take it for none.
pub(crate) fn tear_claim(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let Some((sink, newest)) = hold_with_claims(stage, dice, false)? else { return Ok(false) };
    let next = newest.offset("last_offset")? + 1 + dice.below(50).cast_signed();
    let torn = newest.file.with_file_name(format!("{next:020}.json"));
    std::fs::write(&torn, b"")?;
    stage.fleet.let_go(sink);
    let patience = stage.patience;
    let is_repaired = stage.wait_until(patience, |_| Ok(std::fs::metadata(&torn).map_or(true, |at| at.len() > 0)))?;
    anyhow::ensure!(is_repaired, "Delivery has left the empty claim {} where it was", torn.display());
    Ok(true)
}

/// The state that a loss of power leaves between the newest claim and its commit: one of its files is cut or not there, a part of it
/// lies beside, and the group has not come so far. Delivery is to write the file again.
pub(crate) fn tear_file(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let Some((sink, newest)) = hold_with_claims(stage, dice, true)? else { return Ok(false) };
    let (file, bytes) = newest.a_file(&output(stage), dice)?;
    let whole = std::fs::read(&file)?;
    go_back(stage, newest.offset("first_offset")?)?;
    let cut = &whole[..dice.below(whole.len() as u64) as usize];
    let mut beside = file.clone().into_os_string();
    beside.push("#1");
    let beside = PathBuf::from(beside);
    std::fs::write(&beside, cut)?;
    if dice.flip() {
        std::fs::write(&file, cut)?;
    } else {
        std::fs::remove_file(&file)?;
    }
    stage.fleet.let_go(sink);
    let is_whole = |file: &Path| std::fs::metadata(file).is_ok_and(|at| at.len() == bytes);
    let patience = stage.patience;
    let is_repaired = stage.wait_until(patience, |_| Ok(is_whole(&file) && !beside.exists()))?;
    anyhow::ensure!(is_repaired, "Delivery has not repaired {}", file.display());
    Ok(true)
}

/// Commits an earlier offset of Delivery's group, which it has left.
fn go_back(stage: &mut Stage, offset: i64) -> anyhow::Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &stage.kafka.bootstrap_servers).set("group.id", SINK_GROUP);
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&Topics::default().metrics, PARTITION, Offset::Offset(offset))?;
    let patience = stage.patience;
    // A broker takes it when there is no member any more.
    let is_taken = stage.wait_until(patience, |_| Ok(consumer.commit(&list, CommitMode::Sync).is_ok()))?;
    anyhow::ensure!(is_taken, "the broker does not take an offset of {SINK_GROUP}, which has no member");
    Ok(())
}

/// A file that was finished is cut or gone: the ledger is to name it.
pub(crate) fn damage_file(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let (folder, patience) = (output(stage), stage.patience);
    // The newest may be unfinished.
    if !stage.wait_until(patience, |_| Ok(claims(&folder)?.len() > 1))? {
        return Ok(false);
    }
    let claims = claims(&folder)?;
    let claim = &claims[dice.below(claims.len() as u64 - 1) as usize];
    let (file, bytes) = claim.a_file(&folder, dice)?;
    let whole = std::fs::read(&file)?;
    if dice.flip() {
        std::fs::write(&file, &whole[..dice.below(bytes) as usize])?;
    } else {
        std::fs::remove_file(&file)?;
    }
    // A broker under another fault may need a moment.
    let path = file.strip_prefix(&folder)?.display().to_string();
    let mut said = String::new();
    let is_named = stage.wait_until(patience.min(Duration::from_secs(20)), |stage| {
        let (status, balance, _) = stage.fleet.ask(Role::Processor, &["ledger", "--json"])?;
        let balance: Value = serde_json::from_str(&balance).unwrap_or_default();
        said = balance["problems"].to_string();
        Ok(status.code() == Some(1) && said.contains(&path))
    });
    std::fs::write(&file, whole)?;
    anyhow::ensure!(is_named?, "the ledger does not name {path}, which is damaged; it says {said}");
    Ok(true)
}

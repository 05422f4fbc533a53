//! Random members, transactions, restarts and full disks; whatever they do, this holds:
//! - a generation has one leader and one protocol, whoever is told of it, and generations only grow;
//! - a member is given an assignment of its own generation or none;
//! - every request that waits is answered when all time-outs have passed;
//! - what a restart would find is what is settled, committed and staged now.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use proptest::prelude::*;

use super::local::Local;
use super::world::World;
use crate::config::BrokerConfig;
use crate::groups::Groups;
use crate::groups::group::{Group, State};

/// Clients, and how they join. The last two of the static ones share an instance id.
const DYNAMIC: [(&str, &str); 4] = [
    ("a", "v3 with range,sticky"),
    ("b", "v9 with sticky,range"),
    ("c", "v9 with sticky session 3s rebalance 4s"),
    ("d", "v5 with range:u,sticky:u rebalance 20s"),
];
const STATIC: [(&str, &str); 4] = [
    ("a", "v3 with range,sticky"),
    ("s", "v9 as i with sticky session 30s rebalance 4s"),
    ("t", "v9 as j with sticky,range session 20s"),
    ("u", "v8 as j with range,sticky session 20s"),
];

/// What happens next. Whoever does it is a number, as the clients differ from run to run.
#[derive(Clone, Copy, Debug)]
enum Step {
    Join(usize),
    Sync(usize),
    Beat(usize),
    Leave(usize),
    Forget(usize),
    Commit(usize, i32),
    Stage(u8, i32),
    End(u8, bool),
    Wait(u64),
    Delete,
    DeleteOffset(i32),
    Restart,
    Rewrite,
    Disk(bool),
}

fn steps() -> impl Strategy<Value = Step> {
    let who = || 0..4_usize;
    let partition = || 0..3_i32;
    prop_oneof![
        10 => who().prop_map(Step::Join),
        8 => who().prop_map(Step::Sync),
        4 => who().prop_map(Step::Beat),
        1 => who().prop_map(Step::Leave),
        1 => who().prop_map(Step::Forget),
        2 => (who(), partition()).prop_map(|(who, partition)| Step::Commit(who, partition)),
        1 => (1..3_u8, partition()).prop_map(|(producer, partition)| Step::Stage(producer, partition)),
        1 => (1..3_u8, any::<bool>()).prop_map(|(producer, is_commit)| Step::End(producer, is_commit)),
        4 => prop_oneof![0..500_u64, 500..5_000_u64, 5_000..30_000_u64].prop_map(Step::Wait),
        1 => Just(Step::Delete),
        1 => partition().prop_map(Step::DeleteOffset),
        1 => Just(Step::Restart),
        1 => Just(Step::Rewrite),
        1 => any::<bool>().prop_map(Step::Disk),
    ]
}

/// What was told so far.
struct Told {
    world: World<Local>,
    clients: [(&'static str, &'static str); 4],
    transcript: String,
    /// Leader and protocol of each generation since the last restart or deletion, as far as they may not change.
    generations: BTreeMap<i32, String>,
}

impl Told {
    fn step(&mut self, step: Step, number: usize) {
        let name = |who: usize| self.clients[who].0;
        let line = match step {
            Step::Join(who) => format!("{} joins {}", name(who), self.clients[who].1),
            Step::Sync(who) => {
                let mut line = format!("{} syncs", name(who));
                for (client, _) in self.clients {
                    let _ = write!(line, " {client}=g{}-{client}", self.world.generation(name(who)));
                }
                line
            }
            Step::Beat(who) => format!("{} beats", name(who)),
            Step::Leave(who) => format!("{} leaves", name(who)),
            Step::Forget(who) => format!("{} forgets", name(who)),
            Step::Commit(who, partition) => format!("{} commits t/{partition}={number}", name(who)),
            Step::Stage(producer, partition) => format!("p{producer} stages t/{partition}={number}"),
            Step::End(producer, true) => format!("p{producer} commits"),
            Step::End(producer, false) => format!("p{producer} aborts"),
            Step::Wait(ms) => format!("wait {ms}ms"),
            Step::Delete => "delete".to_owned(),
            Step::DeleteOffset(partition) => format!("delete t/{partition}"),
            Step::Restart => "restart".to_owned(),
            Step::Rewrite => "rewrite".to_owned(),
            Step::Disk(is_full) => format!("disk {}", if is_full { "full" } else { "free" }),
        };
        self.run(&line);
    }

    fn run(&mut self, line: &str) {
        let answers = self.world.run(line, None);
        let _ = writeln!(self.transcript, "{line} => {answers}");
        if line == "restart" || self.world.broker.node.borrow().groups.groups.is_empty() {
            // What was not settled is forgotten, and the numbers of its generations are used again.
            self.generations.clear();
        }
        let actor = line.split(' ').next().unwrap();
        for answer in answers.split("; ") {
            let (who, answer) = answer.split_once(": ").unwrap_or((actor, answer));
            if let Some(assigned) = answer.strip_prefix("assigned g") {
                let (generation, _) = assigned.split_once('-').unwrap();
                assert_eq!(generation, self.world.generation(who).to_string(), "{who} of another generation");
            }
        }
        for (generation, leader, protocol) in std::mem::take(&mut self.world.told) {
            // The place of a static leader, and so its id, may be taken by another.
            let has_static = self.clients.iter().any(|(_, options)| options.contains(" as "));
            let told = if has_static { protocol } else { format!("{protocol} of {leader}") };
            let known = self.generations.entry(generation).or_insert_with(|| told.clone());
            assert_eq!(*known, told, "generation {generation}");
            assert_eq!(self.generations.keys().last(), Some(&generation), "an old generation");
        }
        let groups = &self.world.broker.node.borrow().groups;
        check_consistency(groups);
        assert_eq!(self.world.broker.reopened().snapshot(), groups.snapshot(), "what a restart would find");
    }
}

/// The invariants that the modules state.
fn check_consistency(groups: &Groups) {
    for group in groups.groups.values() {
        check_group(group);
    }
    let deadline = groups.next_deadline();
    assert!(
        deadline.is_none() || groups.wake.is_some_and(|wake| Some(wake) <= deadline),
        "a deadline is slept through"
    );
}

fn check_group(group: &Group) {
    let members = &group.members;
    assert_eq!(group.leader.is_some(), !members.is_empty(), "a leader where there are members");
    assert!(group.leader.iter().all(|leader| members.contains_key(leader)), "the leader is a member");
    assert!(!group.is_empty() || members.is_empty(), "an empty group has no members");
    let instances = members.iter().filter_map(|(id, member)| Some((member.instance_id.clone()?, id.clone())));
    assert_eq!(instances.collect::<BTreeMap<_, _>>(), group.static_members, "instance ids lead to their members");
    let mut known = BTreeMap::<String, usize>::new();
    for (name, _) in members.values().flat_map(|member| &member.protocols) {
        *known.entry(name.clone()).or_default() += 1;
    }
    assert_eq!(known, group.known, "the protocols that members know");
    assert!(members.is_empty() || group.vote().is_some(), "a protocol that all know");
    assert!(group.pending_sync.iter().all(|id| members.contains_key(id)), "members are awaited");
    assert!(group.pending.keys().all(|id| !members.contains_key(id)), "no member is pending");
    let is_told = matches!(group.state, State::CompletingRebalance | State::Stable);
    assert!(is_told || group.sync_deadline.is_none(), "syncs are awaited of a generation that was told");
    for member in members.values() {
        assert!(!member.is_waiting_to_join() || group.is_preparing(), "joins wait while a rebalance is prepared");
        let is_sync = member.is_waiting() && !member.is_waiting_to_join();
        assert!(!is_sync || group.state == State::CompletingRebalance, "syncs wait while it is completed");
        assert!(member.session_end.is_some() || member.is_waiting(), "who does not wait has a session");
    }
}

fn simulate(clients: [(&'static str, &'static str); 4], delay: Duration, steps: &[Step]) {
    let mut config = BrokerConfig::in_memory();
    config.initial_rebalance_delay = delay;
    config.limits.group_members_max = 3;
    let world = World::new(Local::new(config), "");
    let mut told = Told { world, clients, transcript: String::new(), generations: BTreeMap::new() };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for (number, step) in steps.iter().enumerate() {
            told.step(*step, number);
        }
        told.run("disk free");
        told.run("wait 10min");
        assert!(!told.world.is_anybody_waiting(), "somebody is forgotten");
    }));
    if let Err(panic) = outcome {
        eprintln!("{}", told.transcript);
        std::panic::resume_unwind(panic);
    }
}

/// A history takes milliseconds: folders, files and restarts.
fn fewer_cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.div_ceil(4), ..default }
}

proptest! {
    #![proptest_config(fewer_cases())]

    #[test]
    fn dynamic_members(steps in prop::collection::vec(steps(), 1..120), delay_ms in prop_oneof![Just(0), 1..3_000_u64]) {
        simulate(DYNAMIC, Duration::from_millis(delay_ms), &steps);
    }

    #[test]
    fn static_members(steps in prop::collection::vec(steps(), 1..120), delay_ms in prop_oneof![Just(0), 1..3_000_u64]) {
        simulate(STATIC, Duration::from_millis(delay_ms), &steps);
    }
}

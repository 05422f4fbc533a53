//! The groups by scripts: each line is what somebody does, and after `=>` what everybody is answered. See [`world`].

mod commits;
mod members;
mod restarts;
mod simulation;
mod statics;
mod world;

use std::time::Duration;

use crate::config::BrokerConfig;
use world::World;

/// Runs a script on groups of the default settings.
fn check(script: &str) {
    check_with(script, |_| {});
}

/// Runs a script on groups of other settings; shows the whole transcript where it differs.
fn check_with(script: &str, set: impl FnOnce(&mut BrokerConfig)) {
    let mut config = BrokerConfig::in_memory();
    config.session_timeout = (Duration::from_secs(1), Duration::from_secs(1_800));
    set(&mut config);
    let mut world = World::new(config);
    let (mut expected, mut seen) = (String::new(), String::new());
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, answer) = line.split_once("=>").unwrap_or((line, "-"));
        let (command, answer) = (command.trim(), answer.trim());
        expected += &format!("{command:<32} => {answer}\n");
        seen += &format!("{command:<32} => {}\n", world.run(command));
    }
    assert!(expected == seen, "expected:\n{expected}\nseen:\n{seen}");
}

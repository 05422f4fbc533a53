//! The groups by scripts: each line is what somebody does, and after `=>` what everybody is answered. See [`world`].

mod commits;
mod local;
mod members;
mod requests;
mod restarts;
mod scripts;
mod simulation;
mod statics;
mod world;

use std::time::Duration;

use crate::config::BrokerConfig;
use local::Local;
use world::World;

/// Makes a test of each script.
macro_rules! tests {
    ([$($name:ident)*] [$($restarting:ident)*]) => {
        $(#[test] fn $name() { check(scripts::$name); })*
        $(#[test] fn $restarting() { check(scripts::$restarting); })*
    };
}

scripts::scripts!(tests);

/// Runs a script on groups of the default settings.
fn check(script: &str) {
    check_with(script, |_| {});
}

/// Runs a script on groups of other settings.
fn check_with(script: &str, set: impl FnOnce(&mut BrokerConfig)) {
    let mut config = BrokerConfig::in_memory();
    config.session_timeout = (Duration::from_secs(1), Duration::from_secs(1_800));
    set(&mut config);
    let transaction_timeout = config.transaction_timeout_max;
    let mut world = World::new(Local::new(config), "");
    world.transaction_timeout_ms = i32::try_from(transaction_timeout.as_millis()).unwrap();
    world.check(script);
}

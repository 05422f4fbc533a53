//! A real broker is started, killed, restarted and dropped; it never outlives its holder.
#![allow(clippy::unwrap_used)]

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tidewatch_kafka::{KafkaServer, StartOptions};

fn start(options: StartOptions) -> KafkaServer {
    KafkaServer::start(options).unwrap_or_else(|error| panic!("{error}"))
}

/// The living members of a process group, from /proc (fields 3 and 5 of `stat`: state and group).
fn group_members(group: u32) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    let in_group = |stat: &String| {
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        fields.len() > 2 && fields[0] != "Z" && fields[2].parse() == Ok(group)
    };
    stats.filter(in_group).count()
}

#[test]
fn it_answers_survives_a_kill_with_its_data_and_is_gone_when_dropped() {
    let server = start(StartOptions::default());
    let address = server.bootstrap_servers().to_owned();
    let data_dir = server.data_dir().to_path_buf();
    let first = server.watchdog_id().unwrap();
    assert!(TcpStream::connect(&address).is_ok());
    assert!(group_members(first) >= 2, "the watchdog and the JVM");

    server.kill();
    assert!(TcpStream::connect(&address).is_err());
    assert_eq!(group_members(first), 0);
    assert!(data_dir.join("data/meta.properties").exists(), "a kill leaves the data");

    server.restart().unwrap();
    let second = server.watchdog_id().unwrap();
    assert_eq!(server.bootstrap_servers(), address);
    assert!(TcpStream::connect(&address).is_ok());

    drop(server);
    assert!(TcpStream::connect(&address).is_err());
    assert_eq!(group_members(second), 0);
    assert!(!data_dir.exists(), "a temporary folder is removed");
}

/// The child of [`a_holder_that_is_killed_takes_the_broker_with_it`]: starts a broker, says so, and waits to be killed.
#[test]
fn holder() {
    let Ok(said) = std::env::var("TIDEWATCH_TEST_HOLDER") else {
        return;
    };
    let server = start(StartOptions::default());
    let line = format!("{} {}", server.watchdog_id().unwrap(), server.data_dir().display());
    std::fs::write(format!("{said}.tmp"), line).unwrap();
    std::fs::rename(format!("{said}.tmp"), said).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_holder_that_is_killed_takes_the_broker_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let this = std::env::current_exe().unwrap();
    let mut holder =
        Command::new(this).args(["--exact", "holder"]).env("TIDEWATCH_TEST_HOLDER", &said).spawn().unwrap();
    eventually("the holder starts its broker", || said.exists());
    let line = std::fs::read_to_string(&said).unwrap();
    let (group, data_dir) = line.split_once(' ').unwrap();
    assert!(group_members(group.parse().unwrap()) >= 2);

    holder.kill().unwrap(); // SIGKILL: nothing of the holder's runs any more
    holder.wait().unwrap();
    eventually("the broker dies", || group_members(group.parse().unwrap()) == 0);
    assert!(!Path::new(data_dir).exists(), "the watchdog removed the temporary folder");
}

#[test]
fn a_broker_that_cannot_start_says_why_in_one_line() {
    let properties = vec![("log.segment.bytes".to_owned(), "many".to_owned())];
    let error = KafkaServer::start(StartOptions { quiet: true, properties, ..StartOptions::default() }).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("log.segment.bytes") && !text.contains('\n'), "{text}");
}

/// Waits for another process to get somewhere; the bound only ends a test that has failed.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: it did not");
        std::thread::sleep(Duration::from_millis(20));
    }
}

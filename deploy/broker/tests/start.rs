//! Why a broker does not start, word for word, and that it does start again at once after any end.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

mod wire;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use kafka_protocol::messages::FetchRequest;
use tidewatch_broker::{Broker, BrokerConfig, StartError};
use wire::{Wire, batch, fetch};

/// Starts a broker that is expected not to, and gives what it says and what that comes from, the folder's name shown as `DIR`.
fn refused(config: BrokerConfig, folder: &Path) -> String {
    let error = Broker::start(config).unwrap_err();
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default()).replace(&*folder.to_string_lossy(), "DIR")
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(BrokerConfig::at(folder.path())).unwrap();
    let message = refused(BrokerConfig::at(folder.path()), folder.path());
    let address = broker.address();
    assert_eq!(
        message,
        format!("DIR is in use by another broker at {address}; stop it, or choose another data folder")
    );
    Wire::connect(broker.address()).expect_alive();
    broker.stop();
    Broker::start(BrokerConfig::at(folder.path())).unwrap();
}

#[test]
fn a_folder_of_a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("format"), "format 4000000000\n").unwrap();
    assert_eq!(
        refused(BrokerConfig::at(folder.path()), folder.path()),
        "DIR/format has format 4000000000, this broker knows up to 1; \
         start it with a newer version, or choose another data folder"
    );
}

#[test]
fn a_folder_that_cannot_be_used_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(refused(BrokerConfig::at(&file), folder.path()), "cannot make DIR/file: File exists (os error 17)");
    assert_eq!(
        refused(BrokerConfig::at(file.join("data")), folder.path()),
        "cannot make DIR/file/data: Not a directory (os error 20)"
    );
    assert_eq!(
        refused(BrokerConfig::at(folder.path()), folder.path()),
        "cannot use DIR: it holds \"file\" and no broker's data; choose an empty folder"
    );
}

/// Root may write everywhere: so this thread, and no other, is root no more.
#[cfg(target_os = "linux")]
fn be_nobody() {
    const NOBODY: u32 = 65_534;
    if rustix::process::geteuid().is_root() {
        let nobody = rustix::process::Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")] // Nowhere else has a thread a user of its own.
fn a_folder_without_rights_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let path = folder.path().to_owned();
    let refused = std::thread::spawn(move || {
        be_nobody();
        Broker::start(BrokerConfig::at(&path)).unwrap_err()
    });
    let error = refused.join().unwrap();
    let lock = folder.path().join("lock");
    assert!(error.to_string().starts_with(&format!("cannot open {}", lock.display())), "{error}");
    let StartError::File { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_taken_port_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Broker::start(BrokerConfig { listen: address, ..BrokerConfig::in_memory() }).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}; choose another port"));
    let StartError::Listen { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn a_broker_that_did_not_start_leaves_the_folder_free() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    Broker::start(BrokerConfig { listen, ..BrokerConfig::at(folder.path()) }).unwrap_err();
    Broker::start(BrokerConfig::at(folder.path())).unwrap();
}

#[test]
fn the_advertised_address_is_what_clients_reach() {
    let check = |listen: &str, host: Option<&str>, expected: &str| {
        let advertised_host = host.map(str::to_owned);
        let config = BrokerConfig { listen: listen.parse().unwrap(), advertised_host, ..BrokerConfig::in_memory() };
        let broker = Broker::start(config).unwrap();
        assert_eq!(broker.bootstrap_servers(), format!("{expected}:{}", broker.address().port()));
    };
    check("127.0.0.1:0", None, "127.0.0.1");
    check("0.0.0.0:0", None, "127.0.0.1");
    check("127.0.0.1:0", Some("broker.example"), "broker.example");
}

/// Writes one batch, ends the broker, starts it again on the same port and folder, and reads.
fn check_restart(config: BrokerConfig, end: fn(Broker)) {
    let folder = tempfile::tempdir().unwrap();
    let config = BrokerConfig { storage: tidewatch_broker::Storage::Folder(folder.path().to_owned()), ..config };
    let broker = Broker::start(config.clone()).unwrap();
    let address = broker.address();
    let mut wire = Wire::connect(address);
    wire.create_topic("kept");
    wire.write("kept", batch(&[b"a", b"b"]));
    // A request that waits is cut too.
    wire.send(12, &fetch("kept", 2));
    end(broker);
    wire.expect_end();
    let broker = Broker::start(BrokerConfig { listen: address, ..config }).unwrap();
    let read = Wire::connect(broker.address()).ask(12, &fetch("kept", 0))
        as <FetchRequest as kafka_protocol::protocol::Request>::Response;
    let partition = &read.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 2));
    assert!(!partition.records.as_ref().unwrap().is_empty());
}

#[test]
fn a_broker_starts_again_at_once_where_it_was() {
    check_restart(BrokerConfig::in_memory(), Broker::stop);
    check_restart(BrokerConfig::in_memory(), Broker::kill);
    check_restart(BrokerConfig::in_memory(), drop);
    let synced_at_once = BrokerConfig { flush_interval: std::time::Duration::ZERO, ..BrokerConfig::in_memory() };
    check_restart(synced_at_once, Broker::kill);
}

/// Flips a bit of a file, counted from its end.
fn damage(file: &Path, from_end: usize) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// The only file whose path ends so, below a folder.
fn find(folder: &Path, end: &str) -> PathBuf {
    let entries = || fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let inside = entries().filter(|path| path.is_dir()).map(|path| find(&path, end));
    entries().chain(inside).find(|path| path.to_string_lossy().ends_with(end)).unwrap_or_default()
}

/// Makes two topics and writes to the first, ends the broker, and flips a bit of a file.
fn damaged(file: &str, from_end: usize, end: fn(Broker)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(BrokerConfig::at(folder.path())).unwrap();
    let mut wire = Wire::connect(broker.address());
    wire.create_topic("orders");
    wire.write("orders", batch(&[b"a"]));
    wire.write("orders", batch(&[b"b", b"c"]));
    wire.create_topic("other");
    end(broker);
    damage(&find(folder.path(), file), from_end);
    folder
}

/// What starts in this folder, and the end of the topic.
fn end_offset(config: BrokerConfig) -> i64 {
    let broker = Broker::start(config).unwrap();
    let read = Wire::connect(broker.address()).ask(12, &fetch("orders", 0))
        as <FetchRequest as kafka_protocol::protocol::Request>::Response;
    let end = read.responses[0].partitions[0].high_watermark;
    broker.kill();
    end
}

/// After a stop in order a bad end is no torn write: what was acknowledged does not go unasked, however often one starts.
#[test]
fn a_damaged_end_is_refused_after_a_stop() {
    let folder = damaged("/0/00000000000000000000.log", 1, Broker::stop);
    for _ in 0..2 {
        let message = refused(BrokerConfig::at(folder.path()), folder.path());
        assert!(message.ends_with("which loses orders-0 from offset 1 on"), "{message}");
    }
    let repair = BrokerConfig { repair: true, ..BrokerConfig::at(folder.path()) };
    assert_eq!(end_offset(repair), 1);
    assert_eq!(end_offset(BrokerConfig::at(folder.path())), 1);

    let folder = damaged("topics.journal", 1, Broker::stop);
    let message = refused(BrokerConfig::at(folder.path()), folder.path());
    assert!(message.starts_with("DIR/topics.journal is corrupt at byte "), "{message}");
    let aside = "; the folders of topics that are then not known are set aside in lost+found";
    assert!(message.ends_with(&format!("which loses the last append{aside}")), "{message}");
}

/// The price of `--repair` is told in the names of what is lost, before it is paid.
#[test]
fn a_refusal_names_what_a_cut_loses() {
    let folder = damaged("topics.journal", 60, Broker::stop);
    let message = refused(BrokerConfig::at(folder.path()), folder.path());
    let aside = "; the folders of topics that are then not known are set aside in lost+found";
    assert!(
        message.ends_with(&format!("which loses an append and 1 record after it (of topic other){aside}")),
        "{message}"
    );
    let folder = damaged("/0/00000000000000000000.log", 100, Broker::kill);
    let message = refused(BrokerConfig::at(folder.path()), folder.path());
    assert!(message.ends_with("which loses offsets 0 to 2 of orders-0"), "{message}");
}

/// After a kill the same is what a write leaves that never was acknowledged.
#[test]
fn a_damaged_end_is_cut_after_a_kill() {
    let folder = damaged("/0/00000000000000000000.log", 1, Broker::kill);
    assert_eq!(end_offset(BrokerConfig::at(folder.path())), 1);
    // A stop, a start and a kill: the note of the stop is gone.
    let broker = Broker::start(BrokerConfig::at(folder.path())).unwrap();
    Wire::connect(broker.address()).write("orders", batch(&[b"d"]));
    broker.stop();
    Broker::start(BrokerConfig::at(folder.path())).unwrap().kill();
    damage(&find(folder.path(), "/0/00000000000000000000.log"), 1);
    assert_eq!(end_offset(BrokerConfig::at(folder.path())), 1);
}

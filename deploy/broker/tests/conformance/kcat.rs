//! kcat, as Debian and Ubuntu have it (1.7.1 with librdkafka 2.0): lists, writes, reads, reads in a group, asks for offsets.
//!
//! The one on the path is taken; else Debian's package and its libraries are unpacked in the target folder, without root.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::ask::topic;
use crate::subject::{Subject, unique};

/// A kcat that can be run, and where its libraries are if not in the system.
struct Kcat {
    program: PathBuf,
    libraries: Option<PathBuf>,
}

impl Kcat {
    fn find() -> Self {
        let is_there = Command::new("kcat").arg("-V").output().is_ok_and(|output| output.status.success());
        if is_there {
            return Self { program: "kcat".into(), libraries: None };
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kcat");
        unpack_once(&folder).unwrap_or_else(|problem| {
            panic!("kcat is needed and cannot be fetched here ({problem}): install it, on Debian and Ubuntu by apt-get install kcat")
        });
        Self { program: folder.join("usr/bin/kcat"), libraries: Some(folder.join("usr/lib")) }
    }

    /// Runs to the end with standard input `input`, and gives what it printed.
    fn run(&self, subject: &Subject, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new(&self.program);
        command.args(["-b", subject.bootstrap()]).args(arguments);
        if let Some(libraries) = &self.libraries {
            // Debian's folders of libraries have the machine's name between: usr/lib/x86_64-linux-gnu.
            let of_machine = fs::read_dir(libraries).unwrap().flatten().map(|entry| entry.path());
            command.env("LD_LIBRARY_PATH", std::env::join_paths(of_machine).unwrap());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kcat {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Downloads and unpacks kcat and the libraries that it needs; one process at a time, and once.
fn unpack_once(folder: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    fs::create_dir_all(folder).map_err(told)?;
    let lock = File::create(folder.join("lock")).map_err(told)?;
    lock.lock().map_err(told)?; // let go when the file is closed
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(());
    }
    // Lists of packages and a cache of its own: the system's need root, and may be empty.
    let (lists, cache) = (folder.join("lists"), folder.join("cache"));
    fs::create_dir_all(lists.join("partial")).map_err(told)?;
    let of_ours = [("Dir::State::lists=", &lists), ("Dir::Cache=", &cache)];
    let apt = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(folder);
        command.args(of_ours.iter().flat_map(|(name, path)| ["-o".to_owned(), format!("{name}{}", path.display())]));
        command
    };
    succeed(apt("apt-get").arg("update"))?;
    let only = ["--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"];
    let depends = succeed(apt("apt-cache").arg("depends").args(only).args(["--no-enhances", "kcat"]))?;
    // The C library and what configures packages are the system's; names in <> are virtual.
    let is_system =
        |name: &str| ["libc6", "libc-", "debconf", "cdebconf", "dpkg", "perl"].iter().any(|own| name.starts_with(own));
    let names = depends.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    let names: Vec<&str> = names.filter(|name| !is_system(name)).collect();
    succeed(apt("apt-get").arg("download").args(names))?;
    for entry in fs::read_dir(folder).map_err(told)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            succeed(Command::new("dpkg").arg("-x").arg(entry.path()).arg(folder))?;
        }
    }
    File::create(complete).map_err(told).map(drop)
}

/// Standard output, or the last line of the errors.
fn succeed(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name}: {}", errors.trim().lines().last().unwrap_or("it failed")))
}

fn kcat_lists_topics_and_brokers(subject: &Subject) {
    let topic = topic(subject, "kcat-list", 2, &[]);
    let said = Kcat::find().run(subject, &["-L", "-t", &topic], "");
    assert!(said.contains(&format!("topic \"{topic}\" with 2 partitions:")), "{said}");
    assert!(said.contains("partition 1, leader 1, replicas: 1, isrs: 1"), "{said}");
    assert!(said.contains(&format!("broker 1 at {}", subject.bootstrap())), "{said}");
}

fn kcat_writes_and_reads_with_every_codec(subject: &Subject) {
    let kcat = Kcat::find();
    let topic = topic(subject, "kcat", 1, &[]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let arguments =
            ["-P", "-t", &topic, "-p", "0", "-K", ":", "-z", codec, "-H", "codec=x", "-X", "enable.idempotence=true"];
        kcat.run(subject, &arguments, &format!("k1:{codec} one\nk2:{codec} two\n"));
    }
    let said = kcat.run(subject, &["-C", "-q", "-t", &topic, "-o", "beginning", "-e", "-f", "%p %o %k %s %h\\n"], "");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[9]), (10, "0 0 k1 none one codec=x", "0 9 k2 zstd two codec=x"));
    let tail = kcat.run(subject, &["-C", "-q", "-t", &topic, "-o", "-2", "-e", "-f", "%o\\n"], "");
    assert_eq!(tail, "8\n9\n");
    let asked = kcat.run(subject, &["-Q", "-t", &format!("{topic}:0:-1")], "");
    assert!(asked.contains("offset 10"), "{asked}");
}

fn kcat_reads_in_a_group_from_where_it_was(subject: &Subject) {
    let kcat = Kcat::find();
    let (topic, group) = (topic(subject, "kcat-group", 2, &[]), unique("kcat-group"));
    let write = |values: &str| kcat.run(subject, &["-P", "-t", &topic], values);
    let read = |count: &str| {
        let settings = ["-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000"];
        let arguments = ["-G", &group, "-q", "-c", count, "-f", "%s\\n", &topic];
        let said = kcat.run(subject, &[&settings[..], &arguments[..]].concat(), "");
        let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    write("a\nb\nc\n");
    assert_eq!(read("3"), ["a", "b", "c"]);
    write("d\n");
    assert_eq!(read("1"), ["d"], "the group goes on");
}

on_both!(
    kcat_lists_topics_and_brokers,
    kcat_writes_and_reads_with_every_codec,
    kcat_reads_in_a_group_from_where_it_was,
);

//! The Java client and Kafka's console tools, from the same jars as the real broker.
//!
//! `tests/java/Client.java` says what it does and sees, line by line; `tests/java/expected.txt` is what it is to say.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tidewatch_kafka::JavaTools;

use crate::ask::{topic, values};
use crate::raw::Connection;
use crate::subject::{Subject, unique};

const EXPECTED: &str = include_str!("../java/expected.txt");

fn java() -> Command {
    let tools = JavaTools::find().unwrap_or_else(|error| panic!("{error}"));
    let mut java = Command::new(tools.java);
    java.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    java.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp"]).arg(tools.class_path);
    java
}

/// Runs to the end and gives what was said on standard output; standard input is `input`.
fn run(mut command: Command, input: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.contains("jdk.compiler"),
        "a JDK is needed to compile the Java client's test, found only a JRE: install openjdk-17-jdk-headless"
    );
    assert!(output.status.success(), "{}: {said}\n{errors}", output.status);
    said
}

fn the_java_client_does_all_that_it_does(subject: &Subject) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/java/Client.java");
    let mut client = java();
    client.arg(source).args([subject.bootstrap(), &unique("java")]);
    let said = run(client, "");
    for (said, expected) in said.lines().zip(EXPECTED.lines()) {
        assert_eq!(said, expected);
    }
    assert_eq!(said.lines().count(), EXPECTED.lines().count(), "{said}");
}

fn the_console_tools_write_and_read(subject: &Subject) {
    let topic = topic(subject, "console", 1, &[]);
    let mut writer = java();
    writer.arg("org.apache.kafka.tools.ConsoleProducer");
    writer.args(["--bootstrap-server", subject.bootstrap(), "--topic", &topic, "--property", "parse.key=true"]);
    run(writer, "a\tone\nb\ttwo\na\tthree\n");
    assert_eq!(values(&mut Connection::open(subject), &topic, 0, 0), ["one", "two", "three"]);
    let mut reader = java();
    reader.arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
    reader.args(["--bootstrap-server", subject.bootstrap(), "--topic", &topic, "--group", &unique("console")]);
    reader.args(["--from-beginning", "--max-messages", "3", "--property", "print.key=true"]);
    assert_eq!(run(reader, ""), "a\tone\nb\ttwo\na\tthree\n");
}

on_both!(the_java_client_does_all_that_it_does, the_console_tools_write_and_read);

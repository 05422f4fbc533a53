//! Tidewatch's measuring instruments. Nothing here is part of the product.
//!
//! `cargo bench -p tidewatch-benches --bench decode` holds the decode plan of `tidewatch-schemas` against apache-avro's paths, in one
//! run on the same records. `cargo run --release -p tidewatch-benches --bin broker` holds the embedded broker against Apache Kafka.
//! `--bin windows`, `garbage` and `exactly-once` measure what windows, bad records and exactly once cost. `--bin faults` breaks a pipeline
//! in every way there is and holds its results, record by record, against an undisturbed one's. `--bin quality` holds the detectors
//! against labelled data.

pub mod figures;
pub mod report;

use std::process::ExitCode;

/// Which broker an instrument works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BrokerKind {
    /// The embedded one, in this process, its records on disk
    Embedded,
    /// An Apache Kafka that is started for it
    Kafka,
}

impl BrokerKind {
    /// As the option has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Kafka => "kafka",
        }
    }
}

/// How an instrument ends: an error is one line.
#[must_use]
pub fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

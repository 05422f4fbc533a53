//! How the program ends when it cannot go on: one line, and an exit code that says whose turn it is.

use std::process::ExitCode;

use tidewatch_broker::StartError;
use tidewatch_processor::ProcessorError;
use tidewatch_processor_core::config::ConfigError;
use tidewatch_producer::publisher::PublishError;
use tidewatch_producer::replay::ReplayError;
use tidewatch_sink::DeliveryError;
use tidewatch_topic_io::KafkaError;

use crate::settings::SettingsError;

/// Settings or the command line have to change (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;

/// Something went wrong, though the settings could be right.
pub(crate) const EXIT_FAILED: u8 = 1;

/// No progress though there is input: whoever runs us may start us again (`EX_TEMPFAIL`).
const EXIT_STALLED: u8 = 75;

/// The exit code for an error: 75 if the processor made no progress, 78 if a setting, a flag or a declaration is to be changed, else 1.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    let is_config = error.chain().any(|cause| {
        cause.is::<SettingsError>()
            || cause.is::<ConfigError>()
            || cause.is::<tidewatch_sink::ConfigError>()
            || cause.is::<clap::Error>()
            || cause.downcast_ref::<KafkaError>().is_some_and(is_setting)
            || matches!(cause.downcast_ref(), Some(StartError::Setting { .. }))
            || matches!(cause.downcast_ref(), Some(PublishError::Setting { .. }))
            || matches!(cause.downcast_ref(), Some(ReplayError::Setting { .. }))
            || matches!(cause.downcast_ref(), Some(ProcessorError::Schema { .. } | ProcessorError::Settings(_)))
            || matches!(cause.downcast_ref(), Some(ProcessorError::Kafka(kafka)) if is_setting(kafka))
            || matches!(cause.downcast_ref(), Some(DeliveryError::Kafka(kafka)) if is_setting(kafka))
    });
    let is_stalled = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ProcessorError::Stalled { .. })));
    ExitCode::from(if is_config {
        EXIT_CONFIG
    } else if is_stalled {
        EXIT_STALLED
    } else {
        EXIT_FAILED
    })
}

const fn is_setting(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Setting { .. })
}

/// The error and its causes as one line.
pub(crate) fn line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // A transparent error repeats the words of its source.
        if !text.ends_with(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn causes_are_said_once_in_one_line() {
        let broken = std::io::Error::other("disk\nfull");
        let error = Err::<(), _>(broken).context("cannot write").unwrap_err();
        assert_eq!(line(&error), "cannot write: disk full");
        assert_eq!(exit_code(&error), ExitCode::from(EXIT_FAILED));
        let error = anyhow::Error::from(SettingsError::Invalid("x".into()));
        assert_eq!(exit_code(&error.context("while starting")), ExitCode::from(EXIT_CONFIG));
        let stalled = ProcessorError::Stalled { worker: 0, waited: std::time::Duration::from_secs(30), times: 3 };
        assert_eq!(exit_code(&stalled.into()), ExitCode::from(EXIT_STALLED));
    }
}

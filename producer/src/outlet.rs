//! Where messages go: Kafka, or in tests a list.
//!
//! Invariant: the publisher and the replay know Kafka through this trait only.

use std::time::Duration;
use tidewatch_topic_io::{Admin, KafkaConfig, KafkaError, Outgoing, Writer};

/// How long Kafka may take to acknowledge what is still under way at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// Takes messages in order.
pub(crate) trait Outlet {
    /// Hands a message over; waits while the queue is full.
    fn send(&mut self, message: Outgoing<'_>) -> Result<(), KafkaError>;
    /// Waits until everything is acknowledged, or says what was not.
    fn finish(&mut self) -> Result<(), KafkaError>;
    /// Messages that were not taken so far.
    fn failed(&self) -> u64;
}

impl Outlet for Writer {
    fn send(&mut self, message: Outgoing<'_>) -> Result<(), KafkaError> {
        Self::send(self, message)
    }

    fn finish(&mut self) -> Result<(), KafkaError> {
        self.flush(FLUSH_TIMEOUT)
    }

    fn failed(&self) -> u64 {
        Self::failed(self)
    }
}

/// Connects, and finds the topics there and with as many partitions as wanted (`None`: any number): an entity's events
/// would go to another partition otherwise.
pub(crate) fn check_topics(kafka: &KafkaConfig, topics: &[(&str, Option<i32>)]) -> Result<(), KafkaError> {
    let admin = Admin::connect(kafka)?;
    for (topic, wanted) in topics {
        let found = admin.partitions(topic)?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            let (found, wanted) = (found.max(0) as usize, wanted.max(0) as usize);
            return Err(KafkaError::PartitionCount { topic: (*topic).to_owned(), found, wanted });
        }
    }
    Ok(())
}

/// Decimal digits of a time in ms without an allocation: the header that carries the intended send time.
#[derive(Debug)]
pub(crate) struct Digits {
    digits: [u8; 20],
    from: usize,
}

impl Digits {
    pub(crate) fn of(mut number: u64) -> Self {
        let (mut digits, mut from) = ([0; 20], 20);
        loop {
            from -= 1;
            digits[from] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { digits, from };
            }
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.digits[self.from..]
    }
}

/// A list as an outlet.
#[cfg(test)]
pub(crate) mod memory {
    use super::Outlet;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use tidewatch_topic_io::{KafkaError, Outgoing};

    /// A message that arrived: partition, key, value, time, headers.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct Arrived {
        pub(crate) key: Vec<u8>,
        pub(crate) value: Vec<u8>,
        pub(crate) timestamp_ms: Option<i64>,
        pub(crate) headers: BTreeMap<String, Vec<u8>>,
    }

    /// Messages by topic and partition.
    pub(crate) type Log = BTreeMap<(String, Option<i32>), Vec<Arrived>>;

    /// A log; clones share it.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Memory(pub(crate) Arc<Mutex<Log>>);

    impl Outlet for Memory {
        fn send(&mut self, message: Outgoing<'_>) -> Result<(), KafkaError> {
            let headers = message.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
            let arrived = Arrived {
                key: message.key.unwrap_or_default().to_vec(),
                value: message.value.unwrap_or_default().to_vec(),
                timestamp_ms: message.timestamp_ms,
                headers,
            };
            let place = (message.topic.to_owned(), message.partition);
            self.0.lock().unwrap().entry(place).or_default().push(arrived);
            Ok(())
        }

        fn finish(&mut self) -> Result<(), KafkaError> {
            Ok(())
        }

        fn failed(&self) -> u64 {
            0
        }
    }

    #[test]
    fn digits_are_what_to_string_gives() {
        for number in [0, 7, 10, 1_767_571_200_000, u64::MAX] {
            assert_eq!(super::Digits::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}

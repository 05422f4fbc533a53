//! From settings to the client's properties, per role: connection, reader, writer, transactional writer.
//!
//! Invariant: every property that differs from librdkafka's default says why.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError as ClientError;
use secrecy::ExposeSecret as _;

use super::KafkaConfig;
use super::properties::is_secret;
use crate::error::KafkaError;

/// Largest request that a reader lets one broker send at once, in bytes.
const FETCH_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The client's own minimum for it: one batch of the default largest size.
const FETCH_BYTES_MIN: u64 = 1_048_576;

/// What a compressed batch may become, in bytes: a few times what anybody sends on purpose, and no more than a small machine has.
const DECOMPRESSED_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// What a reader's properties depend on.
pub(crate) struct ReaderRole<'a> {
    pub(crate) group_id: &'a str,
    pub(crate) instance_id: Option<&'a str>,
    pub(crate) read_committed: bool,
    pub(crate) prefetch_kbytes_total: u32,
    pub(crate) report_end: bool,
}

impl KafkaConfig {
    /// What every client gets: the connection, and the user's own properties.
    pub(crate) fn base_properties(&self) -> Result<ClientConfig, KafkaError> {
        self.properties.validate()?;
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", &self.client_id);
        config.set("security.protocol", self.security_protocol.as_str());
        // A broker that comes back is found within seconds, not after the default's ten.
        config.set("reconnect.backoff.max.ms", "2000");
        // A topic that is not there is said to be unknown after 5 s, not 30.
        config.set("topic.metadata.propagation.max.ms", "5000");
        // A topic that is not there is said to be missing, not made with the broker's defaults by being asked for.
        config.set("allow.auto.create.topics", "false");
        // Nothing about this process goes to the brokers unasked.
        config.set("enable.metrics.push", "false");
        // Firewalls forget idle connections silently.
        config.set("socket.keepalive.enable", "true");
        self.set_security(&mut config);
        for (name, value) in self.properties.iter() {
            config.set(name, value);
        }
        Ok(config)
    }

    /// Tokens are not the client's business: `oauth` gives it one.
    fn set_security(&self, config: &mut ClientConfig) {
        let secret = |secret: &Option<secrecy::SecretString>| secret.as_ref().map(|s| s.expose_secret().to_owned());
        for (name, value) in [
            ("sasl.mechanism", self.sasl_mechanism.map(|mechanism| mechanism.as_str().to_owned())),
            ("sasl.username", self.sasl_username.clone()),
            ("sasl.password", secret(&self.sasl_password)),
            ("ssl.ca.location", self.ssl_ca_location.clone()),
            ("ssl.certificate.location", self.ssl_certificate_location.clone()),
            ("ssl.key.location", self.ssl_key_location.clone()),
            ("ssl.key.password", secret(&self.ssl_key_password)),
        ] {
            if let Some(value) = value {
                config.set(name, value);
            }
        }
        if self.security_protocol.is_ssl() {
            let identification = if self.ssl_verify_hostname { "https" } else { "none" };
            config.set("ssl.endpoint.identification.algorithm", identification);
            if self.ssl_ca_location.is_none() {
                // OpenSSL is linked in and does not know where this system keeps its authorities.
                config.set("ssl.ca.location", "probe");
            }
        }
    }

    /// A consumer's properties.
    pub(crate) fn reader_properties(&self, role: &ReaderRole<'_>) -> Result<ClientConfig, KafkaError> {
        let mut config = ClientConfig::new();
        // Cooperative: partitions that stay keep being read while others move.
        config.set("partition.assignment.strategy", "cooperative-sticky");
        // A member learns of a rebalance by its heartbeat: after a second, not three.
        config.set("heartbeat.interval.ms", "1000");
        // When the prefetch is full, look again soon: the default second would be a pause in a fast reader.
        config.set("fetch.queue.backoff.ms", "5");
        // All partitions are forwarded to one queue, whose length and size the client compares with these two, so they
        // bound the whole process; one response per broker may come on top.
        let fetch_bytes = (u64::from(role.prefetch_kbytes_total) * 1024 / 2).clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
        config.set("queued.max.messages.kbytes", role.prefetch_kbytes_total.to_string());
        config.set("fetch.max.bytes", fetch_bytes.to_string());
        config.set("message.max.bytes", "1000000");
        // The client bounds what zstd may decompress to by the largest response, 100 MB by default: a batch beyond it can never be
        // read, and stops its partition. Responses themselves are bounded by what is asked for.
        config.set("receive.message.max.bytes", DECOMPRESSED_BYTES_MAX.to_string());
        config.extend(self.base_properties()?.config_map_owned());
        config.set_log_level(RDKafkaLogLevel::Warning);
        // What correctness rests on comes last.
        config.set("check.crcs", "true"); // off by default
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "error"); // a lost record is an error, not a jump
        config.set("isolation.level", if role.read_committed { "read_committed" } else { "read_uncommitted" });
        config.set("enable.partition.eof", if role.report_end { "true" } else { "false" });
        if role.report_end {
            // The end of a partition is known when a fetch comes back empty: not to wait for records that may come is what it is for.
            config.set("fetch.wait.max.ms", "10");
        }
        config.set("group.id", role.group_id);
        if let Some(instance_id) = role.instance_id {
            config.set("group.instance.id", instance_id);
        }
        Ok(config)
    }

    /// An idempotent producer's properties; a transactional one's with an id.
    pub(crate) fn writer_properties(&self, transactional_id: Option<&str>) -> Result<ClientConfig, KafkaError> {
        let mut config = ClientConfig::new();
        // A transaction waits for its last batch, a stream of records gains from fuller ones.
        config.set("linger.ms", if transactional_id.is_some() { "2" } else { "10" });
        // Cheap for both sides, and halves what the brokers store.
        config.set("compression.type", "lz4");
        // The default of a gigabyte is no bound for a small machine; a full queue slows the sender down.
        config.set("queue.buffering.max.kbytes", "65536").set("queue.buffering.max.messages", "200000");
        // A dead letter wraps a record that was as large as its topic allowed.
        config.set("message.max.bytes", "16777216");
        // An answer within two minutes, or the record has failed.
        config.set("message.timeout.ms", "120000");
        config.extend(self.base_properties()?.config_map_owned());
        config.set_log_level(RDKafkaLogLevel::Warning);
        // What correctness rests on comes last.
        config.set("enable.idempotence", "true"); // with it acks=all and order within a partition
        config.set("partitioner", "murmur2_random"); // the Java client's, see `partitioner`
        config.set("delivery.report.only.error", "true"); // a report per delivered record costs more than the record
        if let Some(transactional_id) = transactional_id {
            config.set("transactional.id", transactional_id);
        }
        Ok(config)
    }

    /// Turns the client's refusal of a configuration into the setting to change.
    pub(crate) fn refused(&self, error: &ClientError) -> KafkaError {
        self.without_secrets(refused(error))
    }
}

/// Asks the client whether it knows every property and accepts every value.
pub(super) fn check(config: &ClientConfig) -> Result<(), KafkaError> {
    config.create_native_config().map(|_| ()).map_err(|error| refused(&error))
}

fn refused(error: &ClientError) -> KafkaError {
    match error {
        ClientError::ClientConfig(_, reason, name, value) => {
            let value = if is_secret(name) { super::secret::REDACTED } else { value };
            KafkaError::Setting { setting: format!("{} = {value:?}", setting_of(name)), reason: one_line(reason) }
        }
        ClientError::ClientCreation(reason) => {
            let name =
                reason.split(|c: char| c.is_whitespace() || c == '`').find(|word| word.contains('.')).unwrap_or("");
            let setting =
                if name.is_empty() { "kafka".to_owned() } else { setting_of(name.trim_matches(['`', ',', ':'])) };
            KafkaError::Setting { setting, reason: one_line(reason) }
        }
        other => KafkaError::client("creating a kafka client", other),
    }
}

/// Our setting that a property of the client comes from.
fn setting_of(property: &str) -> String {
    const OURS: [&str; 10] = [
        "bootstrap.servers",
        "client.id",
        "security.protocol",
        "sasl.mechanism",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
    ];
    if OURS.contains(&property) {
        format!("kafka.{}", property.replace('.', "_"))
    } else {
        format!("kafka.properties.{property:?}")
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `ClientConfig` shows its values only by `get`, or redacted.
trait Owned {
    fn config_map_owned(&self) -> Vec<(String, String)>;
}

impl Owned for ClientConfig {
    fn config_map_owned(&self) -> Vec<(String, String)> {
        let names: Vec<String> = self.config_map().into_keys().map(str::to_owned).collect();
        names
            .into_iter()
            .filter_map(|name| self.get(&name).map(str::to_owned).map(|value| (name.clone(), value)))
            .collect()
    }
}

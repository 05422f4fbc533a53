//! Connection and security settings of Kafka, and the client properties that we choose and why.
//!
//! Invariants: unknown keys are refused; a secret is shown by no `Debug`, no serialisation and no error; a property that
//! correctness rests on cannot be overridden. Source: librdkafka's `CONFIGURATION.md`.

mod duration;
mod properties;
mod roles;
mod secret;

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::KafkaError;

pub use properties::Properties;
pub(crate) use roles::ReaderRole;

/// How to reach and enter a Kafka cluster. As a settings table: `[kafka]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// Where to ask first, `host:port` separated by commas. Default `127.0.0.1:9092`.
    pub bootstrap_servers: String,
    /// The name that brokers log and apply quotas by. Default `tidewatch`.
    pub client_id: String,
    /// Encryption and authentication of the connection. Default `PLAINTEXT`.
    pub security_protocol: SecurityProtocol,
    /// How to authenticate under a `SASL_*` protocol. No default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl_mechanism: Option<SaslMechanism>,
    /// The user for PLAIN and SCRAM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl_username: Option<String>,
    /// The password for PLAIN and SCRAM.
    #[serde(with = "secret", skip_serializing_if = "Option::is_none")]
    pub sasl_password: Option<SecretString>,
    /// How OAUTHBEARER gets its token. Default `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl_oauthbearer_method: Option<OauthMethod>,
    /// OAUTHBEARER, method `default`: an unsecured token's claims, for example `principal=me scope=telemetry`.
    #[serde(with = "secret", skip_serializing_if = "Option::is_none")]
    pub sasl_oauthbearer_config: Option<SecretString>,
    /// OAUTHBEARER, method `oidc`: where to get a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl_oauthbearer_token_endpoint_url: Option<String>,
    /// OAUTHBEARER, method `oidc`: the client's public id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl_oauthbearer_client_id: Option<String>,
    /// OAUTHBEARER, method `oidc`: the client's secret.
    #[serde(with = "secret", skip_serializing_if = "Option::is_none")]
    pub sasl_oauthbearer_client_secret: Option<SecretString>,
    /// OAUTHBEARER, method `oidc`: what the token is to be good for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl_oauthbearer_scope: Option<String>,
    /// OAUTHBEARER, method `oidc`: extensions sent to the broker, `key=value` separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl_oauthbearer_extensions: Option<String>,
    /// File or folder of the certificate authorities to trust. Default: the system's, searched in the usual places.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_ca_location: Option<String>,
    /// File of the client's certificate (PEM), for mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_certificate_location: Option<String>,
    /// File of the client's private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_key_location: Option<String>,
    /// The private key's pass phrase.
    #[serde(with = "secret", skip_serializing_if = "Option::is_none")]
    pub ssl_key_password: Option<SecretString>,
    /// Check that the broker's certificate is for the name that was asked for. Default true.
    pub ssl_verify_hostname: bool,
    /// Any client property, name and value as librdkafka spells them; overrides what we choose, except where
    /// correctness rests on it.
    #[serde(skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
    /// How long the first connection may take before the program gives up. Default `5s`.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            bootstrap_servers: "127.0.0.1:9092".to_owned(),
            client_id: "tidewatch".to_owned(),
            security_protocol: SecurityProtocol::Plaintext,
            sasl_mechanism: None,
            sasl_username: None,
            sasl_password: None,
            sasl_oauthbearer_method: None,
            sasl_oauthbearer_config: None,
            sasl_oauthbearer_token_endpoint_url: None,
            sasl_oauthbearer_client_id: None,
            sasl_oauthbearer_client_secret: None,
            sasl_oauthbearer_scope: None,
            sasl_oauthbearer_extensions: None,
            ssl_ca_location: None,
            ssl_certificate_location: None,
            ssl_key_location: None,
            ssl_key_password: None,
            ssl_verify_hostname: true,
            properties: Properties::default(),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// Encryption and authentication of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum SecurityProtocol {
    /// Neither.
    #[default]
    #[serde(rename = "PLAINTEXT", alias = "plaintext")]
    Plaintext,
    /// TLS; the client may have a certificate.
    #[serde(rename = "SSL", alias = "ssl")]
    Ssl,
    /// SASL in the clear.
    #[serde(rename = "SASL_PLAINTEXT", alias = "sasl_plaintext")]
    SaslPlaintext,
    /// SASL over TLS.
    #[serde(rename = "SASL_SSL", alias = "sasl_ssl")]
    SaslSsl,
}

impl SecurityProtocol {
    /// Kafka's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    fn is_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    fn is_ssl(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// How to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum SaslMechanism {
    /// User and password as they are.
    #[serde(rename = "PLAIN", alias = "plain")]
    Plain,
    /// Salted challenge and response with SHA-256.
    #[serde(rename = "SCRAM-SHA-256", alias = "scram-sha-256")]
    ScramSha256,
    /// Salted challenge and response with SHA-512.
    #[serde(rename = "SCRAM-SHA-512", alias = "scram-sha-512")]
    ScramSha512,
    /// A bearer token.
    #[serde(rename = "OAUTHBEARER", alias = "oauthbearer")]
    OauthBearer,
}

impl SaslMechanism {
    /// Kafka's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// How OAUTHBEARER gets its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OauthMethod {
    /// An unsecured token made from `sasl_oauthbearer_config`: for trying only.
    #[default]
    Default,
    /// OpenID Connect: client id and secret against a token endpoint.
    Oidc,
}

impl KafkaConfig {
    /// The settings for a plain connection to `bootstrap_servers`, everything else by default.
    pub fn at(bootstrap_servers: &str) -> Self {
        Self { bootstrap_servers: bootstrap_servers.to_owned(), ..Self::default() }
    }

    /// Checks what can be checked without a broker.
    ///
    /// # Errors
    /// The setting that is missing, contradicts another one, names no file, or is no client property.
    pub fn validate(&self) -> Result<(), KafkaError> {
        require(!self.bootstrap_servers.trim().is_empty(), "kafka.bootstrap_servers", "is empty: give host:port")?;
        require(
            !self.connect_timeout.is_zero(),
            "kafka.connect_timeout",
            "must be longer than nothing, for example \"5s\"",
        )?;
        self.validate_sasl()?;
        for (setting, file) in [
            ("kafka.ssl_ca_location", &self.ssl_ca_location),
            ("kafka.ssl_certificate_location", &self.ssl_certificate_location),
            ("kafka.ssl_key_location", &self.ssl_key_location),
        ] {
            let Some(file) = file else { continue };
            require(
                self.security_protocol.is_ssl(),
                setting,
                "is set, but kafka.security_protocol is not SSL or SASL_SSL",
            )?;
            let found = file == "probe" || Path::new(file).exists();
            require(found, &format!("{setting} = {file:?}"), "there is no such file")?;
        }
        self.properties.validate()?;
        let native = self.base_properties().and_then(|config| roles::check(&config).map(|_| ()));
        native.map_err(|error| self.without_secrets(error))
    }

    /// After how long without a heartbeat the group takes a member for dead: `session.timeout.ms`, as it is in force.
    pub fn session_timeout(&self) -> Duration {
        self.milliseconds("session.timeout.ms", 45_000)
    }

    /// How long a member may be at work before the group takes it for hung: `max.poll.interval.ms`, as it is in force.
    pub fn max_poll_interval(&self) -> Duration {
        self.milliseconds("max.poll.interval.ms", 300_000)
    }

    /// How long an answer is waited for: `socket.timeout.ms`, as it is in force.
    pub(crate) fn socket_timeout(&self) -> Duration {
        self.milliseconds("socket.timeout.ms", 60_000)
    }

    /// A property in milliseconds; `default` is the client's own. What is no number the client refuses.
    fn milliseconds(&self, property: &str, default: u64) -> Duration {
        let found = self.properties.iter().find(|(name, _)| *name == property);
        Duration::from_millis(found.and_then(|(_, value)| value.parse().ok()).unwrap_or(default))
    }

    fn validate_sasl(&self) -> Result<(), KafkaError> {
        let Some(mechanism) = self.sasl_mechanism else {
            let free = !self.security_protocol.is_sasl() || self.properties.contains("sasl.mechanism");
            return require(
                free,
                "kafka.sasl_mechanism",
                "is needed: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
            );
        };
        let protocol = "is set, but kafka.security_protocol is not SASL_PLAINTEXT or SASL_SSL";
        require(self.security_protocol.is_sasl(), "kafka.sasl_mechanism", protocol)?;
        if mechanism != SaslMechanism::OauthBearer {
            let why = format!("is needed for kafka.sasl_mechanism = {:?}", mechanism.as_str());
            require(self.sasl_username.is_some(), "kafka.sasl_username", &why)?;
            return require(self.sasl_password.is_some(), "kafka.sasl_password", &why);
        }
        if self.sasl_oauthbearer_method == Some(OauthMethod::Oidc) {
            let why = "is needed for kafka.sasl_oauthbearer_method = \"oidc\"";
            for (setting, is_set) in [
                ("kafka.sasl_oauthbearer_token_endpoint_url", self.sasl_oauthbearer_token_endpoint_url.is_some()),
                ("kafka.sasl_oauthbearer_client_id", self.sasl_oauthbearer_client_id.is_some()),
                ("kafka.sasl_oauthbearer_client_secret", self.sasl_oauthbearer_client_secret.is_some()),
            ] {
                require(is_set, setting, why)?;
            }
        }
        Ok(())
    }

    /// The secrets in use, to be kept out of what a user reads.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let own = [
            &self.sasl_password,
            &self.sasl_oauthbearer_config,
            &self.sasl_oauthbearer_client_secret,
            &self.ssl_key_password,
        ];
        let own = own.into_iter().flatten().map(|secret| secret.expose_secret());
        own.chain(self.properties.secrets()).filter(|secret| !secret.is_empty())
    }

    /// librdkafka may quote a value in an error text: not one of ours.
    fn without_secrets(&self, error: KafkaError) -> KafkaError {
        let KafkaError::Setting { mut setting, mut reason } = error else { return error };
        for secret in self.secrets() {
            setting = setting.replace(secret, secret::REDACTED);
            reason = reason.replace(secret, secret::REDACTED);
        }
        KafkaError::Setting { setting, reason }
    }
}

fn require(holds: bool, setting: &str, reason: &str) -> Result<(), KafkaError> {
    if holds { Ok(()) } else { Err(KafkaError::Setting { setting: setting.to_owned(), reason: reason.to_owned() }) }
}

#[cfg(test)]
mod tests;

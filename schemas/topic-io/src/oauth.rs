//! Tokens for OAUTHBEARER: fetched, given to the client, and renewed before they expire.
//!
//! Why not by librdkafka itself: its configure script does not find the static libcurl that we build with, so it is built
//! without OpenID Connect, and rdkafka's event interface swallows its request for an unsecured token. Invariant: a client
//! has a token before its first connection. Sources: RFC 6749 §4.4 (client credentials), RFC 7515 appendix A.5 (unsecured).

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use curl::easy::Easy;
use rdkafka::client::{Client, ClientContext};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::batch::set_oauth_token;
use crate::config::{KafkaConfig, OauthMethod, SaslMechanism};
use crate::error::KafkaError;

/// A token as the client wants it.
pub(crate) struct Token {
    pub(crate) value: SecretString,
    pub(crate) principal: String,
    /// When it expires, milliseconds since the epoch.
    pub(crate) expires_ms: i64,
    /// Names and values for the broker, in turn.
    pub(crate) extensions: Vec<String>,
}

/// Where a client's tokens come from, and when the next one is due.
pub(crate) struct Tokens {
    config: KafkaConfig,
    renew_at_ms: Mutex<i64>,
}

/// A token is renewed when this part of its life is over.
const RENEWAL_PERCENT: i64 = 80;
/// After a failed renewal it is tried again so much later.
const RENEWAL_PAUSE_MS: i64 = 10_000;
/// What RFC 6749 leaves open: the life of a token whose endpoint does not say.
const DEFAULT_LIFE_SECONDS: i64 = 300;

impl Tokens {
    /// `None` if the connection needs no tokens.
    pub(crate) fn of(config: &KafkaConfig) -> Option<Self> {
        let needed = config.sasl_mechanism == Some(SaslMechanism::OauthBearer);
        needed.then(|| Self { config: config.clone(), renew_at_ms: Mutex::new(0) })
    }

    /// Gives the client its first token.
    pub(crate) fn start<C: ClientContext>(tokens: Option<&Self>, client: &Client<C>) -> Result<(), KafkaError> {
        tokens.map_or(Ok(()), |tokens| tokens.renew(client))
    }

    /// Gives the client a new token if the last one is getting old; called wherever the client is polled.
    pub(crate) fn keep<C: ClientContext>(tokens: Option<&Self>, client: &Client<C>) {
        let Some(tokens) = tokens else { return };
        if now_ms() < *tokens.renew_at_ms.lock().unwrap_or_else(PoisonError::into_inner) {
            return;
        }
        if let Err(error) = tokens.renew(client) {
            tracing::warn!(%error, "no new token: trying again");
            tokens.set_renewal(now_ms() + RENEWAL_PAUSE_MS);
        }
    }

    fn renew<C: ClientContext>(&self, client: &Client<C>) -> Result<(), KafkaError> {
        let token = fetch(&self.config)?;
        let life_ms = token.expires_ms - now_ms();
        set_oauth_token(client, &token).map_err(|reason| refused("kafka.sasl_oauthbearer_method", reason))?;
        self.set_renewal(now_ms() + life_ms * RENEWAL_PERCENT / 100);
        Ok(())
    }

    fn set_renewal(&self, at_ms: i64) {
        *self.renew_at_ms.lock().unwrap_or_else(PoisonError::into_inner) = at_ms;
    }
}

fn fetch(config: &KafkaConfig) -> Result<Token, KafkaError> {
    match config.sasl_oauthbearer_method.unwrap_or_default() {
        OauthMethod::Default => Ok(unsecured(config, now_ms() / 1000)),
        OauthMethod::Oidc => {
            let url = config.sasl_oauthbearer_token_endpoint_url.clone().unwrap_or_default();
            oidc(config, &url)
                .map_err(|reason| refused(&format!("kafka.sasl_oauthbearer_token_endpoint_url = {url:?}"), reason))
        }
    }
}

fn refused(setting: &str, reason: String) -> KafkaError {
    KafkaError::Setting { setting: setting.to_owned(), reason }
}

/// A token that nobody signed, made from `principal=me scope=a,b lifeSeconds=60`: for trying, as Kafka's own default handler.
fn unsecured(config: &KafkaConfig, now_seconds: i64) -> Token {
    let claims = config.sasl_oauthbearer_config.as_ref().map_or("", |claims| claims.expose_secret());
    let claim = |name: &str| claims.split_whitespace().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let principal = claim("principal").unwrap_or(&config.client_id).to_owned();
    let life_seconds = claim("lifeSeconds").and_then(|text| text.parse().ok()).unwrap_or(3600);
    let expires = now_seconds + life_seconds;
    let mut body = json!({ "sub": principal, "iat": now_seconds, "exp": expires });
    if let Some(scope) = claim("scope") {
        body["scope"] = scope.split(',').collect();
    }
    let value = format!("{}.{}.", base64_url(br#"{"alg":"none"}"#), base64_url(body.to_string().as_bytes()));
    Token { value: value.into(), principal, expires_ms: expires * 1000, extensions: extensions(config) }
}

/// Exchanges client id and secret for a token.
fn oidc(config: &KafkaConfig, url: &str) -> Result<Token, String> {
    let client_id = config.sasl_oauthbearer_client_id.clone().unwrap_or_default();
    let secret = config.sasl_oauthbearer_client_secret.clone().unwrap_or_default();
    let mut form = "grant_type=client_credentials".to_owned();
    if let Some(scope) = &config.sasl_oauthbearer_scope {
        let _ = write!(form, "&scope={}", percent_encoded(scope));
    }
    let (status, answer) =
        post(config.connect_timeout, url, &client_id, &secret, form.as_bytes()).map_err(|e| e.to_string())?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| format!("answered {status}, not with JSON"))?;
    let Some(value) = answer["access_token"].as_str() else {
        // What the endpoint says is for people; it does not repeat the secret, but be sure.
        let said = answer["error_description"].as_str().or(answer["error"].as_str()).unwrap_or("no access_token");
        return Err(format!("answered {status}: {}", said.replace(secret.expose_secret(), "<redacted>")));
    };
    let life_seconds = answer["expires_in"].as_i64().unwrap_or(DEFAULT_LIFE_SECONDS);
    let expires_ms = now_ms() + life_seconds * 1000;
    Ok(Token { value: value.into(), principal: client_id, expires_ms, extensions: extensions(config) })
}

fn post(
    timeout: Duration,
    url: &str,
    user: &str,
    password: &SecretString,
    form: &[u8],
) -> Result<(u32, Vec<u8>), curl::Error> {
    let mut answer = Vec::new();
    let mut easy = Easy::new();
    easy.url(url)?;
    easy.post(true)?;
    easy.post_fields_copy(form)?;
    easy.username(user)?;
    easy.password(password.expose_secret())?;
    easy.timeout(timeout)?;
    let mut transfer = easy.transfer();
    transfer.write_function(|data| {
        answer.extend_from_slice(data);
        Ok(data.len())
    })?;
    transfer.perform()?;
    drop(transfer);
    Ok((easy.response_code()?, answer))
}

fn extensions(config: &KafkaConfig) -> Vec<String> {
    let pairs = config.sasl_oauthbearer_extensions.as_deref().unwrap_or("");
    let pairs = pairs.split(',').filter_map(|pair| pair.trim().split_once('='));
    pairs.flat_map(|(name, value)| [name.to_owned(), value.to_owned()]).collect()
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Base64 with the URL alphabet and no padding (RFC 4648 §5).
fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for index in 0..=group.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * index) & 63) as usize]));
        }
    }
    text
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// RFC 4648 §10, without the padding.
    #[test]
    fn base64_has_the_rfcs_values() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64_url(bytes.as_bytes()), text);
        }
        assert_eq!(base64_url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn an_unsecured_token_says_who_until_when_and_what_for() {
        let config = KafkaConfig {
            sasl_oauthbearer_config: Some("principal=me scope=a,b lifeSeconds=60".into()),
            sasl_oauthbearer_extensions: Some("logicalCluster=lkc-1, pool=p".to_owned()),
            ..KafkaConfig::default()
        };
        let token = unsecured(&config, 1_000);
        let body = base64_url(br#"{"exp":1060,"iat":1000,"scope":["a","b"],"sub":"me"}"#);
        assert_eq!(token.value.expose_secret(), format!("eyJhbGciOiJub25lIn0.{body}."));
        assert_eq!((token.principal.as_str(), token.expires_ms), ("me", 1_060_000));
        assert_eq!(token.extensions, ["logicalCluster", "lkc-1", "pool", "p"]);
    }

    /// Answers one request with `body` and returns the request.
    fn endpoint(status: &'static str, body: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            while !request.contains("grant_type") {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).unwrap();
                request.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            request
        });
        (url, served)
    }

    fn oidc_config() -> KafkaConfig {
        KafkaConfig {
            sasl_oauthbearer_client_id: Some("me".to_owned()),
            sasl_oauthbearer_client_secret: Some("hush".into()),
            sasl_oauthbearer_scope: Some("read write".to_owned()),
            ..KafkaConfig::default()
        }
    }

    #[test]
    fn an_endpoint_gives_a_token_for_id_and_secret() {
        let (url, served) = endpoint("200 OK", "{\"access_token\":\"abc\", \"expires_in\": 600}");
        let before = now_ms();
        let token = oidc(&oidc_config(), &url).unwrap();
        assert_eq!((token.value.expose_secret(), token.principal.as_str()), ("abc", "me"));
        assert!(token.expires_ms >= before + 600_000);
        let request = served.join().unwrap();
        assert!(request.contains("Authorization: Basic bWU6aHVzaA=="), "{request}"); // me:hush
        assert!(request.ends_with("grant_type=client_credentials&scope=read%20write"), "{request}");
    }

    #[test]
    fn a_refusal_says_why_and_not_the_secret() {
        let (url, _served) = endpoint("401 Unauthorized", "{\"error_description\": \"not hush-hush\"}");
        let error = oidc(&oidc_config(), &url).err().unwrap();
        assert!(error.starts_with("answered 401"), "{error}");
        assert!(!error.contains("hush"), "{error}");
        let error = oidc(&oidc_config(), "http://127.0.0.1:1/token").err().unwrap();
        assert!(error.contains("connect"), "{error}");
    }
}

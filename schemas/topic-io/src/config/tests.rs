//! What a settings table may say, and what it never gives away.

use super::*;

fn parse(text: &str) -> Result<KafkaConfig, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

fn check(text: &str) -> Result<(), String> {
    parse(text)?.validate().map_err(|error| error.to_string())
}

#[test]
fn a_full_table_is_read_and_accepted_by_the_client() {
    check(
        r#"
        bootstrap_servers = "one:9093,two:9093"
        client_id = "me"
        security_protocol = "SASL_SSL"
        sasl_mechanism = "SCRAM-SHA-512"
        sasl_username = "reader"
        sasl_password = "hush"
        ssl_ca_location = "/dev/null"
        ssl_verify_hostname = false
        connect_timeout = "2s"
        [properties]
        "linger.ms" = 5
        "socket.keepalive.enable" = true
        "#,
    )
    .unwrap();
    check(
        "security_protocol = \"SASL_SSL\"\nsasl_mechanism = \"OAUTHBEARER\"\nsasl_oauthbearer_method = \"oidc\"\n\
        sasl_oauthbearer_token_endpoint_url = \"https://id.example/token\"\nsasl_oauthbearer_client_id = \"me\"\n\
        sasl_oauthbearer_client_secret = \"hush\"\nsasl_oauthbearer_scope = \"telemetry\"",
    )
    .unwrap();
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        check(&format!("security_protocol = \"sasl_plaintext\"\nsasl_mechanism = \"{mechanism}\"\nsasl_username = \"u\"\nsasl_password = \"p\"")).unwrap();
    }
}

#[test]
fn what_is_wrong_is_named_with_its_setting() {
    for (text, part) in [
        ("bootstrap_server = \"x\"", "unknown field `bootstrap_server`"),
        ("bootstrap_servers = \"\"", "kafka.bootstrap_servers: is empty"),
        ("connect_timeout = \"soon\"", "no duration"),
        ("security_protocol = \"TLS\"", "SASL_SSL"),
        ("security_protocol = \"SASL_SSL\"", "kafka.sasl_mechanism: is needed"),
        ("sasl_mechanism = \"PLAIN\"", "kafka.security_protocol is not SASL"),
        ("security_protocol = \"SASL_SSL\"\nsasl_mechanism = \"PLAIN\"", "kafka.sasl_username: is needed"),
        (
            "security_protocol = \"SASL_SSL\"\nsasl_mechanism = \"PLAIN\"\nsasl_username = \"u\"",
            "kafka.sasl_password: is needed",
        ),
        (
            "security_protocol = \"SASL_SSL\"\nsasl_mechanism = \"OAUTHBEARER\"\nsasl_oauthbearer_method = \"oidc\"",
            "token_endpoint_url: is needed",
        ),
        (
            "security_protocol = \"SSL\"\nssl_ca_location = \"/no/such\"",
            "kafka.ssl_ca_location = \"/no/such\": there is no such file",
        ),
        (
            "properties = { \"linger.mss\" = 5 }",
            "kafka.properties.\"linger.mss\" = \"5\": No such configuration property",
        ),
        ("properties = { \"linger.ms\" = \"soon\" }", "kafka.properties.\"linger.ms\" = \"soon\": "),
        (
            "properties = { \"enable.auto.commit\" = true }",
            "kafka.properties.\"enable.auto.commit\": cannot be set here",
        ),
    ] {
        let error = check(text).unwrap_err();
        assert!(error.contains(part), "{text}\n gave {error:?}\n instead of {part:?}");
    }
}

#[test]
fn no_secret_is_ever_shown() {
    let config = parse(
        r#"
        security_protocol = "SASL_SSL"
        sasl_mechanism = "PLAIN"
        sasl_username = "u"
        sasl_password = "hush-1"
        sasl_oauthbearer_config = "hush-2"
        sasl_oauthbearer_client_secret = "hush-3"
        ssl_key_password = "hush-4"
        [properties]
        "ssl.keystore.password" = "hush-5"
        "ssl.key.pem" = "hush-6"
        "sasl.oauthbearer.assertion.private.key.passphrase" = "hush-7"
        "sasl.oauthbearer.client.credentials.client.secret" = "hush-8"
        "no.such.token" = "hush-9"
        "#,
    )
    .unwrap();
    let error = config.validate().unwrap_err();
    let shown =
        [format!("{config:?}"), serde_json::to_string(&config).unwrap(), error.to_string(), format!("{error:?}")];
    for text in shown {
        assert!(!text.contains("hush"), "{text}");
        assert!(text.contains("redacted") || text.contains("REDACTED"), "{text}");
    }
    assert_eq!(config.sasl_password.unwrap().expose_secret(), "hush-1", "and it is still there to be used");
}

#[test]
fn what_is_shown_can_be_read_again() {
    let config = parse("connect_timeout = \"1m 30s\"\nproperties = { \"linger.ms\" = 5 }").unwrap();
    let again = parse(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again.connect_timeout, Duration::from_secs(90));
    assert_eq!(again.properties, config.properties);
}

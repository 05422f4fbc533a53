//! A topic's name: what Kafka allows, and which names it holds for the same.
//!
//! Source: Kafka's `Topic`. Metrics write `.` as `_`, so two names that differ in these only may not both exist.

/// The longest name.
const LENGTH_MAX: usize = 249;

/// The topics that Kafka keeps for itself. Here they do not exist, and are not made.
const INTERNAL: [&str; 4] = ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

/// Whether Kafka marks a topic of this name as its own.
pub(crate) fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Kafka's rules; the error is its message.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let problem = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        // Kafka counts UTF-16 units; past the bound of the length only the message could tell.
        _ if name.encode_utf16().count() > LENGTH_MAX => {
            format!("the length of '{name}' is longer than the max allowed length {LENGTH_MAX}")
        }
        _ if !name.bytes().all(is_legal) => {
            format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
        }
        _ => return Ok(()),
    };
    Err(format!("Topic name is invalid: {problem}"))
}

/// The name as metrics have it: two topics with the same one collide.
pub(crate) fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_in_kafkas_words() {
        let long = "x".repeat(250);
        for (name, problem) in [
            ("a", None),
            ("...", None),
            ("A.b_c-9", None),
            (&long[..249], None),
            ("", Some("the empty string is not allowed".to_owned())),
            (".", Some("'.' is not allowed".to_owned())),
            ("..", Some("'..' is not allowed".to_owned())),
            (&long, Some(format!("the length of '{long}' is longer than the max allowed length 249"))),
            (
                "a b",
                Some(
                    "'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'".to_owned(),
                ),
            ),
            (
                "ä/",
                Some(
                    "'ä/' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'".to_owned(),
                ),
            ),
        ] {
            let expected = problem.map(|problem| format!("Topic name is invalid: {problem}"));
            assert_eq!(check(name).err(), expected, "{name}");
        }
    }
}

//! An entity's key: the values of its fields, joined into one string that can be split again.
//!
//! Invariant: `split(&join(values)) == values` for any values; the key sorts and reads like a path.

use std::borrow::Cow;

/// Joins the values of the entity fields by `/`; `%` and `/` inside a value become `%25` and `%2F`.
///
/// A single value without either is borrowed, which is the common case.
pub fn join<'a>(values: &[&'a str]) -> Cow<'a, str> {
    if let [only] = values
        && !only.contains(['%', '/'])
    {
        return Cow::Borrowed(only);
    }
    let mut key = String::with_capacity(values.iter().map(|value| value.len() + 1).sum());
    join_into(values, &mut key);
    Cow::Owned(key)
}

/// As [`join`], appended to a reused string.
pub fn join_into(values: &[&str], key: &mut String) {
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            key.push('/');
        }
        let mut rest = *value;
        while let Some(at) = rest.find(['%', '/']) {
            key.push_str(&rest[..at]);
            key.push_str(if rest.as_bytes()[at] == b'%' { "%25" } else { "%2F" });
            rest = &rest[at + 1..];
        }
        key.push_str(rest);
    }
}

/// The values that [`join`] joined. A key that it did not write is split at `/` and otherwise kept as it is.
pub fn split(key: &str) -> Vec<Cow<'_, str>> {
    key.split('/')
        .map(|part| {
            if part.contains('%') {
                Cow::Owned(part.replace("%2F", "/").replace("%25", "%"))
            } else {
                Cow::Borrowed(part)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_read_like_paths() {
        assert_eq!(join(&["checkout", "i-1"]), "checkout/i-1");
        assert_eq!(join(&["a/b", "50%"]), "a%2Fb/50%25");
        assert!(matches!(join(&["plain"]), Cow::Borrowed("plain")));
    }

    proptest! {
        #[test]
        fn split_undoes_join(values in prop::collection::vec("[a-f%/2F5]{0,8}", 1..5)) {
            let refs: Vec<&str> = values.iter().map(String::as_str).collect();
            let key = join(&refs);
            prop_assert_eq!(split(&key), refs);
        }
    }
}

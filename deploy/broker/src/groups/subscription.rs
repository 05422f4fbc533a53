//! The topics in a consumer's metadata, which is otherwise the assignors' own business.
//! Source: Kafka's `ConsumerProtocolSubscription`; every version begins with that of version 0.

use bytes::Buf;

/// The topics that a member reads, or `None` if these bytes are no subscription.
pub(super) fn topics(mut metadata: &[u8]) -> Option<Vec<String>> {
    let _version = metadata.try_get_i16().ok()?;
    let count = metadata.try_get_i32().ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        let (name, rest) = metadata.split_at_checked(length)?;
        topics.push(String::from_utf8(name.to_vec()).ok()?);
        metadata = rest;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::ConsumerProtocolSubscription;
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    fn encoded(topics: &[&str], version: i16) -> BytesMut {
        let names = topics.iter().map(|topic| StrBytes::from_string((*topic).to_owned())).collect();
        let mut bytes = BytesMut::from(&version.to_be_bytes()[..]);
        ConsumerProtocolSubscription::default().with_topics(names).encode(&mut bytes, version).unwrap();
        bytes
    }

    #[test]
    fn every_version_tells_its_topics() {
        for version in 0..=3 {
            assert_eq!(topics(&encoded(&["a", "bc"], version)), Some(vec!["a".to_owned(), "bc".to_owned()]));
            assert_eq!(topics(&encoded(&[], version)), Some(vec![]));
        }
    }

    #[test]
    fn other_bytes_are_none() {
        let whole = encoded(&["topic"], 0);
        let no_text = [&[0, 0, 0, 0, 0, 1, 0, 1][..], &[0xff]].concat();
        for bytes in [&[][..], b"\0", b"\0\0\x7f\xff\xff\xff", &whole[..8], &no_text, &[0, 0, 0, 0, 0, 1, 0xff, 0xff]] {
            assert_eq!(topics(bytes), None, "{bytes:?}");
        }
    }
}

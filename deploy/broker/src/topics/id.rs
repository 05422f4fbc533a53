//! A topic's id: a random UUID, written as Kafka writes it: 22 characters of URL-safe base64.

use uuid::Uuid;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters of an id.
pub(crate) const TEXT_LENGTH: usize = 22;

/// A new id; as in Kafka none that begins with `-`, which a command line would take for a flag.
pub(crate) fn random() -> Uuid {
    loop {
        let id = Uuid::new_v4();
        if !text(id).starts_with('-') {
            return id;
        }
    }
}

/// An id as text.
pub(crate) fn text(id: Uuid) -> String {
    // 128 bits in groups of six from the top; the last group has two bits and four zeros.
    let bits = id.as_u128();
    let group = |index: usize| match index {
        21 => (bits & 0b11) << 4,
        index => (bits >> (122 - 6 * index)) & 0b11_1111,
    };
    (0..TEXT_LENGTH).map(|index| char::from(ALPHABET[group(index) as usize])).collect()
}

/// Reads what [`text`] writes, and nothing else.
pub(crate) fn parse(text: &str) -> Option<Uuid> {
    let mut bits = 0_u128;
    for (index, byte) in text.bytes().enumerate() {
        let group = ALPHABET.iter().position(|other| *other == byte)? as u128;
        bits |= match index {
            21 => group >> 4,
            0..21 => group << (122 - 6 * index),
            _ => return None,
        };
    }
    let id = Uuid::from_u128(bits);
    (self::text(id) == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_kafka_writes_them() {
        // From Java: Uuid(mostSignificantBits, leastSignificantBits).toString().
        for (bits, expected) in [
            (0, "AAAAAAAAAAAAAAAAAAAAAA"),
            (1, "AAAAAAAAAAAAAAAAAAAAAQ"),
            (u128::MAX, "_____________________w"),
            (0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, "ASNFZ4mrze_-3LqYdlQyEA"),
        ] {
            let id = Uuid::from_u128(bits);
            assert_eq!(text(id), expected);
            assert_eq!(parse(expected), Some(id));
        }
        for bad in
            ["", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA+"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
        for _ in 0..100 {
            let id = random();
            assert_eq!(parse(&text(id)), Some(id));
        }
    }
}

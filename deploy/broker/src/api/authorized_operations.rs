//! What a client may do, as bits: everything, as there is no authorizer.
//!
//! Source: Kafka's `AclOperation` and `AclEntry.supportedOperations`.

const CREATE: i32 = 1 << 5;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;

/// On a topic: read, write, create, delete, alter, describe, describe and alter its settings.
pub(crate) const TOPIC: i32 =
    (1 << 3) | (1 << 4) | CREATE | (1 << 6) | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;

/// On the cluster: create, alter, describe, act as a broker, describe and alter settings, write idempotently.
pub(crate) const CLUSTER: i32 = CREATE | ALTER | DESCRIBE | (1 << 9) | DESCRIBE_CONFIGS | ALTER_CONFIGS | (1 << 12);

#[cfg(test)]
mod tests {
    #[test]
    fn the_bits_are_kafkas() {
        assert_eq!((super::TOPIC, super::CLUSTER), (3576, 8096));
    }
}

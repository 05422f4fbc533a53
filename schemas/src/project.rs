//! A few fields out of anybody's records: Avro by the writer's schema, or JSON.

//! The conformance suite: each expectation is written once and held against the embedded broker *and* against Apache Kafka.
//!
//! Invariant: a check knows its broker only as a [`subject::Subject`]; where the two may differ lawfully, the check accepts
//! what Apache Kafka documents as undefined and says so where it does. Real Kafka is right: an expectation that it does not
//! meet is wrong. Source: Apache Kafka 4.1's behaviour on the wire.
//!
//! `cargo test -p tidewatch-broker --test conformance embedded` runs one side, `kafka` the other.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

/// Turns checks `fn(&Subject)` into two tests each, `embedded::NAME` and `kafka::NAME`.
macro_rules! on_both {
    ($($check:ident),+ $(,)?) => {
        mod embedded {
            $(#[test] fn $check() { super::$check(crate::subject::Subject::shared(crate::subject::Kind::Embedded)); })+
        }
        mod kafka {
            $(#[test] fn $check() { super::$check(crate::subject::Subject::shared(crate::subject::Kind::Kafka)); })+
        }
    };
}

/// As [`on_both`], each test with a broker of its own, which it may stop and kill.
macro_rules! on_both_alone {
    ($($check:ident),+ $(,)?) => {
        mod embedded {
            $(#[test] fn $check() { super::$check(&crate::subject::Subject::own(crate::subject::Kind::Embedded)); })+
        }
        mod kafka {
            $(#[test] fn $check() { super::$check(&crate::subject::Subject::own(crate::subject::Kind::Kafka)); })+
        }
    };
}

mod administration;
mod ask;
mod clients;
mod coordinator;
mod group_protocol;
mod group_scripts;
mod groups;
mod idempotence;
mod java;
mod kcat;
mod member;
mod protocol;
mod raw;
mod reading;
mod records;
mod restarts;
mod retention;
mod settings;
mod subject;
mod transaction_protocol;
mod transactions;
mod transactor;

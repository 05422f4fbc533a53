//! Transcripts: what producers send, line by line, and what the log answers.
//!
//! `ID:EPOCH FIRST+COUNT` is a batch of COUNT records from the sequence FIRST on, `txn` in a transaction that the coordinator
//! knows of, `stray` in one that it does not; `ID:EPOCH commit` and `abort` are markers, `again` a retry. `at` is the offset written to,
//! `again` that of the batch which this one repeats, `lso` the last stable offset after it.

use kafka_protocol::ResponseError;

use super::super::batch::{BatchHeader, control_batch};
use super::super::testing::TestBatch;
use super::{Producers, REFUSED_MAX};

/// Plays a transcript; each line must get the answer that stands after its arrow.
fn check(transcript: &str) {
    let mut producers = Producers::default();
    let mut end = 0;
    for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (sent, expected) = line.split_once("->").unwrap();
        let mut answer = match play(&mut producers, &mut end, sent.trim()) {
            Ok(answer) => answer,
            Err(error) => format!("{error:?}"),
        };
        if expected.contains("lso") {
            answer += &format!(", lso {}", producers.first_open_offset().unwrap_or(end));
        }
        assert_eq!(answer, expected.trim(), "{sent}");
    }
}

fn play(producers: &mut Producers, end: &mut i64, sent: &str) -> Result<String, ResponseError> {
    let words: Vec<&str> = sent.split_whitespace().collect();
    let (id, epoch) = words[0].split_once(':').unwrap();
    let (id, epoch) = (id.parse().unwrap(), epoch.parse().unwrap());
    let (header, marker) = match words[1] {
        end_of @ ("commit" | "abort") => {
            producers.check_marker(id, epoch)?;
            if words.get(2) == Some(&"again") && producers.has_ended(id, epoch) {
                return Ok("nothing".to_owned());
            }
            let (header, payload) = control_batch(*end, id, epoch, end_of == "commit", 0);
            (header, header.marker(&payload))
        }
        sequences => {
            let (first, count) = sequences.split_once('+').unwrap();
            let mut batch = TestBatch::of_producer(count.parse().unwrap(), id, epoch, first.parse().unwrap());
            if words.len() > 2 {
                batch = batch.transactional();
            }
            let header = BatchHeader { base_offset: *end, ..BatchHeader::parse(&batch.build()).unwrap() };
            let checked = producers.check(&header, words.get(2) == Some(&"txn"));
            if checked.is_err() {
                producers.learn_refused(&header);
            }
            if let Some(duplicate) = checked? {
                return Ok(format!("again {}", duplicate.base_offset));
            }
            (header, None)
        }
    };
    producers.learn(&header, marker, Some(0));
    let at = std::mem::replace(end, header.next_offset());
    Ok(format!("at {at}"))
}

#[test]
fn sequences_follow_each_other() {
    check(
        "1:0 0+3 -> at 0
         1:0 3+1 -> at 3
         1:0 5+1 -> OutOfOrderSequenceNumber
         1:0 4+2 -> at 4
         1:0 0+1 -> OutOfOrderSequenceNumber
         2:0 0+1 -> at 6",
    );
}

#[test]
fn one_of_the_last_five_batches_is_known_again() {
    check(
        "1:0 0+3 -> at 0
         1:0 3+1 -> at 3
         1:0 4+1 -> at 4
         1:0 5+1 -> at 5
         1:0 6+1 -> at 6
         1:0 0+3 -> again 0
         1:0 4+1 -> again 4
         1:0 6+1 -> again 6
         1:0 3+2 -> OutOfOrderSequenceNumber
         1:0 7+1 -> at 7
         1:0 0+3 -> OutOfOrderSequenceNumber
         1:0 3+1 -> again 3",
    );
}

#[test]
fn after_the_greatest_sequence_comes_zero() {
    check(
        "1:0 2147483645+2 -> at 0
         1:0 2147483647+1 -> at 2
         1:0 1+1          -> OutOfOrderSequenceNumber
         1:0 0+2          -> at 3
         1:0 2+1          -> at 5
         1:0 2147483647+1 -> again 2
         2:0 2147483646+4 -> at 6
         2:0 2+1          -> at 10
         2:0 2147483646+4 -> again 6",
    );
}

#[test]
fn a_producer_that_is_not_known_may_begin_anywhere() {
    check(
        "1:5 77+1 -> at 0
         1:5 78+1 -> at 1
         1:5 77+1 -> again 0",
    );
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
    check(
        "1:0 0+3 -> at 0
         1:1 3+1 -> OutOfOrderSequenceNumber
         1:1 0+1 -> at 3
         1:0 3+1 -> InvalidProducerEpoch
         1:0 0+3 -> InvalidProducerEpoch
         1:1 1+1 -> at 4",
    );
}

#[test]
fn a_transaction_holds_the_stable_offset_until_its_marker() {
    check(
        "1:0 0+2 txn  -> at 0, lso 0
         2:0 0+1      -> at 2, lso 0
         3:0 0+1 txn  -> at 3, lso 0
         1:0 2+1 stray -> at 4, lso 0
         1:0 commit   -> at 5, lso 3
         1:0 commit again -> nothing, lso 3
         3:0 abort again -> at 6, lso 7
         1:0 3+1 txn  -> at 7, lso 7
         1:0 abort    -> at 8, lso 9",
    );
}

#[test]
fn records_outside_the_transaction_that_the_coordinator_knows_are_refused() {
    check(
        "1:0 0+1 stray -> InvalidTxnState
         1:0 0+1 txn   -> at 0
         1:0 0+1 stray -> again 0
         1:0 1+1       -> InvalidTxnState
         1:0 2+1       -> OutOfOrderSequenceNumber
         1:1 0+1 stray -> InvalidTxnState
         1:0 commit    -> at 1
         1:0 1+1 stray -> InvalidTxnState
         1:0 1+1       -> at 2",
    );
}

#[test]
fn a_marker_of_a_newer_epoch_fences_the_producer() {
    check(
        "1:0 0+1 txn -> at 0
         1:1 abort   -> at 1
         1:0 1+1 txn -> InvalidProducerEpoch
         1:0 abort   -> InvalidProducerEpoch
         1:1 1+1 txn -> OutOfOrderSequenceNumber
         1:1 0+1 txn -> at 2
         1:1 0+1 txn -> again 2",
    );
}

#[test]
fn a_marker_fences_also_where_nothing_was_written() {
    check(
        "1:1 abort       -> at 0, lso 1
         1:1 abort again -> nothing
         1:0 0+1         -> InvalidProducerEpoch
         1:1 1+1 txn     -> OutOfOrderSequenceNumber
         1:1 0+1 txn     -> at 1, lso 1
         1:2 abort again -> at 2, lso 3
         2:0 commit again -> at 3, lso 4",
    );
}

#[test]
fn a_batch_of_a_transaction_that_has_ended_is_not_known_again() {
    check(
        "1:0 0+1 txn   -> at 0
         1:0 0+1 stray -> again 0
         1:0 commit    -> at 1
         1:0 0+1 stray -> InvalidTxnState
         1:0 0+1 txn   -> again 0",
    );
}

#[test]
fn what_comes_after_a_refused_batch_waits_for_it() {
    check(
        "1:0 5+1 stray -> InvalidTxnState
         1:0 6+1 txn   -> OutOfOrderSequenceNumber
         1:0 7+1       -> OutOfOrderSequenceNumber
         1:0 5+1 txn   -> at 0
         1:0 6+1 txn   -> at 1
         2:0 5+1 stray -> InvalidTxnState
         2:0 3+1 stray -> InvalidTxnState
         2:0 4+1 txn   -> OutOfOrderSequenceNumber
         2:1 4+1 txn   -> at 2
         3:0 5+1 stray -> InvalidTxnState
         3:0 abort     -> at 3
         3:0 0+1 txn   -> at 4",
    );
}

#[test]
fn of_so_many_producers_the_refused_batches_are_remembered() {
    let mut producers = Producers::default();
    for id in 0..2 * REFUSED_MAX as i64 {
        assert!(play(&mut producers, &mut 0, &format!("{id}:0 0+1 stray")).is_err());
    }
    assert_eq!(producers.refused.len(), REFUSED_MAX);
}

/// What a reader is told of aborted transactions, by first and last offset of what it reads.
#[test]
fn aborted_transactions_are_listed_where_they_overlap() {
    let mut producers = Producers::default();
    let mut end = 0;
    let transcript =
        ["1:0 0+2 txn", "2:0 0+1 txn", "1:0 abort", "3:0 0+1", "2:0 abort", "1:0 2+1 txn", "1:0 commit", "2:0 1+1 txn"];
    for line in transcript {
        play(&mut producers, &mut end, line).unwrap();
    }
    let check = |from, until, expected: &[(i64, i64)]| {
        assert_eq!(producers.aborted_between(from, until), expected, "{from}..{until}");
    };
    check(0, 1, &[(1, 0)]);
    check(0, 3, &[(1, 0), (2, 2)]);
    check(3, 4, &[(1, 0), (2, 2)]);
    check(4, 6, &[(2, 2)]);
    check(6, 9, &[]);
    let mut pruned = producers;
    pruned.forget_before(4);
    assert_eq!(pruned.aborted_between(0, 9), [(2, 2)]);
}

#[test]
fn idle_producers_are_forgotten_unless_a_transaction_is_open() {
    let mut producers = Producers::default();
    let mut end = 0;
    play(&mut producers, &mut end, "1:0 0+1").unwrap();
    play(&mut producers, &mut end, "2:0 0+1 txn").unwrap();
    // One that is known from the log alone.
    let header = BatchHeader::parse(&TestBatch::of_producer(1, 3, 0, 0).build()).unwrap();
    producers.learn(&header, None, None);
    let ids = |producers: &Producers| producers.active().iter().map(|active| active.producer_id).collect::<Vec<_>>();
    producers.forget_idle(9, 10);
    assert_eq!(ids(&producers), [1, 2, 3]);
    producers.forget_idle(10, 10);
    assert_eq!(ids(&producers), [2, 3]);
    producers.forget_idle(19, 10);
    assert_eq!(ids(&producers), [2]);
}

/// What a log tells when it is read back is what was known while it was written.
#[test]
fn a_producer_that_was_forgotten_in_between_is_read_back_as_it_was() {
    let batch = |sequence: i32, base_offset: i64| {
        let batch = TestBatch::of_producer(2, 7, 0, sequence).build();
        BatchHeader { base_offset, ..BatchHeader::parse(&batch).unwrap() }
    };
    let (mut read_back, mut live) = (Producers::default(), Producers::default());
    for (sequence, base_offset) in [(0, 0), (2, 2), (0, 4)] {
        read_back.learn(&batch(sequence, base_offset), None, None);
    }
    live.learn(&batch(0, 4), None, Some(0));
    for producers in [read_back, live] {
        assert_eq!(producers.check(&batch(2, 6), false), Ok(None), "no duplicate of the one at 2");
        assert_eq!(producers.check(&batch(0, 6), false).unwrap().map(|known| known.base_offset), Some(4));
    }
}

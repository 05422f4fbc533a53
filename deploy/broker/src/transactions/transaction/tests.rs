//! Every request in every state, as one table; then what a table of single steps cannot say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::*;

const ID: i64 = 7;
const NEW_ID: i64 = 99;
const EPOCH: i16 = 5;

/// A producer that raised its own epoch from 4 to 5.
fn state(state: State) -> Transaction {
    let mut transaction = Transaction::new(ID, 1_000, 10);
    transaction.producer.epoch = EPOCH;
    transaction.last_epoch = Some(EPOCH - 1);
    transaction.state = state;
    if state != State::Empty {
        transaction.started_ms = Some(20);
    }
    if state.is_pending() {
        transaction.enlisted = partition(0);
    }
    transaction
}

fn partition(partition: i32) -> Enlisted {
    Enlisted { partitions: BTreeMap::from([("t".to_owned(), BTreeSet::from([partition]))]), ..Enlisted::default() }
}

fn group() -> Enlisted {
    Enlisted { groups: BTreeSet::from(["g".to_owned()]), ..Enlisted::default() }
}

fn producer(id: i64, epoch: i16) -> Producer {
    Producer { id, epoch }
}

/// The cell of an error: Kafka's name, shortened.
fn cell(error: ResponseError) -> String {
    match error {
        ResponseError::ConcurrentTransactions => "concurrent".to_owned(),
        ResponseError::InvalidProducerIdMapping => "mapping".to_owned(),
        ResponseError::InvalidTxnState => "invalid".to_owned(),
        ResponseError::ProducerFenced => "fenced".to_owned(),
        ResponseError::TransactionAbortable => "abortable".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The cell of a new state: its name, its producer, its last epoch.
fn shown(transaction: &Transaction) -> String {
    let Transaction { producer, last_epoch, .. } = transaction;
    let last = last_epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
    format!("{} {}/{} last {last}", transaction.state.name(), producer.id, producer.epoch)
}

fn change(result: Result<Option<Transaction>, ResponseError>) -> String {
    match result {
        Ok(Some(new)) => shown(&new),
        Ok(None) => "same".to_owned(),
        Err(error) => cell(error),
    }
}

fn initialise(transaction: &Transaction, claimed: Option<Producer>) -> String {
    match transaction.initialise(claimed, 2_000, 30, || Ok(NEW_ID)) {
        Ok(Initialised::Ready(new)) => shown(&new),
        Ok(Initialised::Fenced(new)) => format!("fence: {}", shown(&new)),
        Err(error) => cell(error),
    }
}

type Ask = fn(&Transaction) -> String;

/// What can be asked of a transactional id.
const REQUESTS: [(&str, Ask); 22] = [
    ("initialise, another instance", |t| initialise(t, None)),
    ("initialise, own epoch", |t| initialise(t, Some(producer(ID, EPOCH)))),
    ("initialise, last epoch (a retry)", |t| initialise(t, Some(producer(ID, EPOCH - 1)))),
    ("initialise, older epoch", |t| initialise(t, Some(producer(ID, EPOCH - 2)))),
    ("initialise, newer epoch", |t| initialise(t, Some(producer(ID, EPOCH + 1)))),
    ("initialise, other id", |t| initialise(t, Some(producer(ID + 1, EPOCH)))),
    ("enlist a partition that is in it", |t| change(t.enlist(producer(ID, EPOCH), &partition(0), 30))),
    ("enlist another partition", |t| change(t.enlist(producer(ID, EPOCH), &partition(1), 30))),
    ("enlist a group", |t| change(t.enlist(producer(ID, EPOCH), &group(), 30))),
    ("enlist, older epoch", |t| change(t.enlist(producer(ID, EPOCH - 1), &partition(0), 30))),
    ("enlist, newer epoch", |t| change(t.enlist(producer(ID, EPOCH + 1), &partition(0), 30))),
    ("enlist, other id", |t| change(t.enlist(producer(ID + 1, EPOCH), &partition(0), 30))),
    ("write to a partition that is in it", |t| verify(t, EPOCH, 0)),
    ("write to another partition", |t| verify(t, EPOCH, 1)),
    ("write, older epoch", |t| verify(t, EPOCH - 1, 0)),
    ("commit", |t| change(t.end(producer(ID, EPOCH), true, 30))),
    ("abort", |t| change(t.end(producer(ID, EPOCH), false, 30))),
    ("commit, older epoch", |t| change(t.end(producer(ID, EPOCH - 1), true, 30))),
    ("abort, newer epoch", |t| change(t.end(producer(ID, EPOCH + 1), false, 30))),
    ("abort, other id", |t| change(t.end(producer(ID + 1, EPOCH), false, 30))),
    ("time-out", |t| if t.state == State::Ongoing { shown(&t.fence(30)) } else { "never".to_owned() }),
    ("markers are written", |t| match t.state {
        State::PrepareCommit | State::PrepareAbort => shown(&t.complete(30)),
        _ => "never".to_owned(),
    }),
];

fn verify(transaction: &Transaction, epoch: i16, partition: i32) -> String {
    transaction
        .verify(producer(ID, epoch), |enlisted| enlisted.has_partition("t", partition))
        .map_or_else(cell, |()| "yes".to_owned())
}

#[test]
fn every_request_in_every_state() {
    let settled = [State::Empty, State::CompleteCommit, State::CompleteAbort];
    let prepared = [State::PrepareCommit, State::PrepareAbort];
    let mut table = String::new();
    for (request, ask) in REQUESTS {
        writeln!(table, "{request}").unwrap();
        for states in [&settled[..], &[State::Ongoing], &prepared[..]] {
            let cells: Vec<String> = states.iter().map(|&of| ask(&state(of))).collect();
            if cells.iter().all(|cell| *cell == cells[0]) {
                let names: Vec<&str> = states.iter().map(|state| state.name()).collect();
                writeln!(table, "  {}: {}", names.join(", "), cells[0]).unwrap();
            } else {
                for (state, cell) in states.iter().zip(cells) {
                    writeln!(table, "  {}: {cell}", state.name()).unwrap();
                }
            }
        }
    }
    assert_eq!(table, include_str!("table.txt"), "\n{table}");
}

#[test]
fn a_transaction_starts_with_its_first_enlistment_and_keeps_nothing_of_the_last_one() {
    let producer = producer(ID, EPOCH);
    let ongoing = state(State::CompleteAbort).enlist(producer, &partition(3), 30).unwrap().unwrap();
    assert_eq!((&ongoing.enlisted, ongoing.started_ms), (&partition(3), Some(30)));
    let more = ongoing.enlist(producer, &group(), 40).unwrap().unwrap();
    assert_eq!((more.started_ms, more.updated_ms), (Some(30), 40));
    assert!(more.enlisted.has_partition("t", 3) && more.enlisted.groups.contains("g"));
    let complete = more.end(producer, true, 50).unwrap().unwrap().complete(60);
    assert_eq!((complete.enlisted, complete.started_ms, complete.updated_ms), (Enlisted::default(), Some(30), 60));
}

#[test]
fn an_initialisation_takes_the_new_time_out() {
    let Ok(Initialised::Ready(new)) = state(State::CompleteCommit).initialise(None, 2_000, 30, || Ok(NEW_ID)) else {
        panic!("a settled state is initialised");
    };
    assert_eq!((new.timeout_ms, new.started_ms, new.updated_ms), (2_000, None, 30));
}

/// KIP-360: an id whose epochs are used up is exchanged, and the exchange can be asked for twice.
#[test]
fn used_up_epochs_change_the_id() {
    let at = |epoch| {
        let mut transaction = state(State::CompleteAbort);
        transaction.producer.epoch = epoch;
        transaction.last_epoch = Some(epoch - 1);
        transaction
    };
    let last = i16::MAX - 1;
    // One before the last is still raised; the last is not.
    assert_eq!(initialise(&at(last - 1), None), "Empty 7/32766 last -");
    assert_eq!(initialise(&at(last), None), "Empty 99/0 last -");
    assert_eq!(initialise(&at(last), Some(producer(ID, last))), "Empty 99/0 last 32766");
    // A retry of what led to the last one needs no new epoch.
    assert_eq!(initialise(&at(last), Some(producer(ID, last - 1))), "Empty 7/32766 last 32765");
    // Fencing can go one further, and nobody is given that epoch.
    let mut ongoing = at(last);
    ongoing.state = State::Ongoing;
    let fenced = ongoing.fence(30).complete(40);
    assert_eq!(fenced.producer, producer(ID, i16::MAX));
    assert_eq!(initialise(&fenced, Some(producer(ID, last))), "Empty 99/0 last 32766");
    assert_eq!(initialise(&fenced, Some(producer(ID, last - 1))), "fenced");
    assert_eq!(initialise(&fenced, None), "Empty 99/0 last -");

    let Ok(Initialised::Ready(changed)) = at(last).initialise(Some(producer(ID, last)), 1_000, 30, || Ok(NEW_ID))
    else {
        panic!("the id is changed");
    };
    // Its answer was lost: the same producer asks again, as often as it likes; an older one is fenced.
    assert_eq!(initialise(&changed, Some(producer(ID, last))), "Empty 99/0 last 32766");
    assert_eq!(initialise(&changed, Some(producer(ID, last - 1))), "fenced");
    // Another instance, or a transaction, ends that.
    let Ok(Initialised::Ready(other)) = changed.initialise(None, 1_000, 30, || Ok(NEW_ID)) else {
        panic!("another instance is let in");
    };
    assert_eq!(initialise(&other, Some(producer(ID, last))), "fenced");
    let begun = changed.enlist(producer(NEW_ID, 0), &partition(0), 40).unwrap().unwrap();
    assert_eq!(initialise(&begun, Some(producer(ID, last))), "fenced");
}

/// KIP-588: who was fenced may come back, until another instance is let in.
#[test]
fn a_fenced_producer_comes_back_once_its_transaction_has_ended() {
    let own = Some(producer(ID, EPOCH));
    let fenced = state(State::Ongoing).fence(30);
    assert_eq!(initialise(&fenced, own), "concurrent");
    let aborted = fenced.complete(40);
    assert_eq!(initialise(&aborted, Some(producer(ID, EPOCH - 1))), "fenced");
    assert_eq!(initialise(&aborted, own), "Empty 7/6 last 5");
    let Ok(Initialised::Ready(other)) = aborted.initialise(None, 1_000, 50, || Ok(NEW_ID)) else {
        panic!("another instance is let in");
    };
    assert_eq!(other.producer, producer(ID, EPOCH + 2));
    assert_eq!(initialise(&other, own), "fenced");
}

#[test]
fn no_new_id_is_taken_unless_it_is_needed() {
    for of in [State::Empty, State::Ongoing, State::PrepareAbort] {
        let result = state(of).initialise(None, 1_000, 30, || panic!("asked for an id"));
        assert_eq!(result.is_ok(), of != State::PrepareAbort);
    }
    let mut used_up = state(State::Empty);
    used_up.producer.epoch = i16::MAX;
    let refused = used_up.initialise(None, 1_000, 30, || Err(ResponseError::CoordinatorLoadInProgress));
    assert_eq!(refused, Err(ResponseError::CoordinatorLoadInProgress));
}

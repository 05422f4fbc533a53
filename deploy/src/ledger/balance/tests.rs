//! Chains that hold and chains that do not, as a person would write them.

use super::*;

/// A record of group `g`, stream `s`, partition 0, in which every offset is one scored record.
fn ledger(begin_offset: i64, from_offset: i64, to_offset: i64) -> Ledger {
    let read = to_offset - begin_offset;
    Ledger {
        group: "g".into(),
        stream: "s".into(),
        topic: "in".into(),
        partition: 0,
        begin_offset,
        from_offset,
        to_offset,
        read,
        scored: read,
        late: 0,
        dead_lettered: 0,
        duplicate: 0,
        filtered: 0,
        windows: 0,
        revisions: 0,
        metrics: read,
        forecasts: 0,
        alerts: 0,
    }
}

fn chains(ledgers: impl IntoIterator<Item = Ledger>) -> Chains {
    let mut chains = Chains::default();
    ledgers.into_iter().for_each(|ledger| chains.add(ledger));
    chains
}

fn place(partition: i32) -> Place {
    Place { stream: "s".into(), partition }
}

fn input(committed: Option<i64>) -> Input {
    Input { place: place(0), topic: "in".into(), committed, ends: Some((0, 50)), empty_until: None }
}

fn balance(ledgers: impl IntoIterator<Item = Ledger>, committed: Option<i64>) -> Balance {
    Balance::new("g", vec![input(committed)], &chains(ledgers), "out", &Stored::default(), false)
}

fn check_problem(ledgers: &[Ledger], committed: Option<i64>, expected: Option<&str>) {
    let found = balance(ledgers.iter().cloned(), committed).problem();
    let expected =
        expected.map(|part| format!("the ledger of group `g` does not add up: stream `s` partition 0: {part}"));
    assert_eq!(found, expected, "{ledgers:?}");
}

#[test]
fn intervals_join_or_it_is_said_where_they_do_not() {
    let (first, second) = (ledger(10, 10, 20), ledger(10, 20, 30));
    check_problem(&[], None, None);
    check_problem(&[first.clone(), second.clone()], Some(30), None);
    check_problem(&[first.clone(), second.clone()], None, None);
    check_problem(std::slice::from_ref(&second), Some(30), None);
    // The ledger goes on while it is looked at.
    check_problem(&[first.clone(), second.clone()], Some(20), None);
    // A transaction of the clock's, without records.
    check_problem(&[first.clone(), ledger(10, 20, 20), second.clone()], Some(30), None);

    let hole = Some("offsets 20 to 25 are in no transaction");
    check_problem(&[first.clone(), ledger(10, 25, 30)], Some(30), hole);
    check_problem(&[first.clone(), ledger(10, 25, 30), ledger(10, 30, 31)], Some(31), hole);
    check_problem(&[first.clone(), ledger(10, 15, 30)], Some(30), Some("offsets 15 to 20 are in two transactions"));
    check_problem(std::slice::from_ref(&first), Some(33), Some("offsets 20 to 33 are in no transaction"));
    check_problem(&[], Some(33), Some("offset 33 is committed, but no transaction is in the ledger"));
    let backwards = Some("offsets 20 to 15 of a ledger that begins at 10");
    check_problem(&[ledger(10, 20, 15)], Some(15), backwards);
    let less = Some("the totals up to offset 30 are less than those up to 20");
    check_problem(&[first.clone(), Ledger { metrics: 9, ..second.clone() }], Some(30), less);
    check_problem(&[first, Ledger { begin_offset: 11, ..second }], Some(30), less);
}

#[test]
fn a_residue_is_named_and_stays() {
    let broken = Ledger { scored: 8, ..ledger(10, 10, 20) };
    let expected = Some("10 records read, 8 accounted for: a residue of 2");
    check_problem(std::slice::from_ref(&broken), Some(20), expected);
    check_problem(&[broken, ledger(10, 20, 30)], Some(30), expected);
    let spread = Ledger { scored: 1, late: 2, dead_lettered: 3, duplicate: 3, filtered: 1, ..ledger(0, 0, 10) };
    check_problem(&[spread], Some(10), None);
    let overflowing = Ledger { read: i64::MIN, scored: i64::MAX, ..ledger(0, 0, 10) };
    assert!(balance([overflowing], Some(10)).problem().unwrap().contains("a residue of 1"));
}

#[test]
fn totals_are_by_stream_and_in_all_and_say_what_is_to_go() {
    let other = Ledger { partition: 1, ..ledger(5, 5, 9) };
    let stranger = Ledger { group: "other".into(), ..ledger(0, 0, 7) };
    let inputs = [
        Input { place: place(1), ..input(Some(9)) },
        Input { empty_until: Some(48), ..input(Some(20)) },
        Input { place: Place { stream: "t".into(), partition: 0 }, ends: None, ..input(None) },
    ];
    let chains = chains([ledger(10, 10, 20), other, stranger]);
    let balance = Balance::new("g", inputs.to_vec(), &chains, "out", &metrics(Held::default()), false);
    assert_eq!(balance.problems, Vec::<String>::new());
    assert_eq!((balance.total.read, balance.streams["s"].read, balance.streams["t"].read), (14, 14, 0));
    let lines = balance.partitions.iter().map(|line| (line.partition, line.to_offset, line.lag, line.to_go));
    assert_eq!(lines.collect::<Vec<_>>(), [(0, Some(20), 30, 2), (1, Some(9), 41, 41), (0, None, 0, 0)]);
    // A topic's records are those of all groups.
    assert_eq!((balance.results[0].written, balance.results[0].not_stored_yet), (21, 21));
}

/// An output of metrics only.
fn metrics(held: Held) -> Stored {
    Stored { is_there: true, topics: [(TopicKind::Metrics, held)].into(), ..Stored::default() }
}

fn of_output(stored: &Stored, allow_removed: bool) -> Balance {
    Balance::new("g", vec![input(None)], &chains([ledger(0, 0, 10)]), "out", stored, allow_removed)
}

#[test]
fn what_is_stored_is_what_was_written_or_less() {
    let held = |records, removed| metrics(Held { records, removed, rejected: 1, ..Held::default() });
    let some = of_output(&held(6, 3), false);
    let line =
        KindBalance { kind: TopicKind::Metrics, written: 10, stored: 6, rejected: 1, removed: 3, not_stored_yet: 1 };
    assert_eq!((some.results.as_slice(), some.not_stored_yet(), some.problem()), (&[line][..], 1, None));
    assert_eq!(of_output(&held(10, 0), false).not_stored_yet(), 0);
    let problem = of_output(&held(10, 1), false).problem().unwrap();
    assert!(problem.ends_with("11 metrics records are stored in out, but 10 were written"), "{problem}");
}

fn check_output(stored: &Stored, allow_removed: bool, expected: &[&str]) {
    assert_eq!(of_output(stored, allow_removed).problems, expected, "{stored:?}");
}

#[test]
fn what_was_stored_is_there_or_it_is_said_what_is_not() {
    let files = |number, first: &str| Files { number, first: first.into() };
    let missing = metrics(Held { missing: files(2, "metrics/a"), ..Held::default() });
    let gone = "metrics: 2 files gone from out: metrics/a, ... (--allow-removed if they were removed on purpose)";
    check_output(&missing, false, &[gone]);
    check_output(&missing, true, &[]);
    let unclaimed = metrics(Held { unclaimed: vec![(3, 7, 9)], ..Held::default() });
    let elsewhere = "metrics partition 3: offsets 7 to 9 are committed as stored, but nothing in out claims them \
                     (--allow-removed if an earlier `sink.output` holds them)";
    check_output(&unclaimed, false, &[elsewhere]);
    check_output(&unclaimed, true, &[]);
    // Nobody cuts a file short, or copies one, on purpose.
    let cut_short = metrics(Held { cut_short: files(1, "metrics/a"), ..Held::default() });
    check_output(&cut_short, true, &["metrics: 1 file in out not as large as stored: metrics/a"]);
    let strays = Stored { strays: files(1, "late/b"), ..Stored::default() };
    let stray =
        "1 file in out that Delivery did not store, though a reader of the folder counts what they hold: late/b";
    check_output(&strays, true, &[stray]);
}

#[test]
fn a_tombstone_takes_a_chain_out() {
    let mut chains = chains([ledger(0, 0, 10), Ledger { partition: 12, ..ledger(0, 0, 4) }]);
    for other in [&b"g/s/1"[..], b"g/s", b"\xff", b"g/s/0/0"] {
        chains.remove(other);
    }
    assert_eq!(chains.of_group("g").count(), 2);
    chains.remove(b"g/s/12");
    assert_eq!(chains.of_group("g").map(|ledger| ledger.partition).collect::<Vec<_>>(), [0]);
}

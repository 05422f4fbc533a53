//! Some thousand runs of each fuzz target, over the seeds and over what is made of them.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// What an error's text and a scratch may take, whatever the message.
const BYTES_MAX: u64 = 1 << 18;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{}", folder.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Bytes put over, into, or in the place of the end of a seed.
#[derive(Clone, Debug)]
struct Change {
    at: prop::sample::Index,
    bytes: Vec<u8>,
    kind: u8,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..5),
        // Long lengths and counts; the openings of JSON.
        Just(vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        Just(vec![0xff; 10]),
        Just(br#"{"n":["#.to_vec()),
        Just(br#""\ud800"#.to_vec()),
        Just(b"[".repeat(200)),
    ];
    let change =
        (any::<prop::sample::Index>(), bytes, 0..5_u8).prop_map(|(at, bytes, kind)| Change { at, bytes, kind });
    prop::collection::vec(change, 0..4)
}

fn changed(seed: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for Change { at, bytes: put, kind } in changes {
        let at = at.index(bytes.len() + 1);
        let end = match kind {
            0 => at,
            1 => bytes.len(),
            _ => bytes.len().min(at + put.len()),
        };
        drop(bytes.splice(at..end, put.iter().copied()));
    }
    bytes
}

fn any_input(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let of_seed = (prop::sample::select(seeds(target)), changes()).prop_map(|(seed, changes)| changed(&seed, &changes));
    prop_oneof![4 => of_seed, 1 => prop::collection::vec(any::<u8>(), 0..400)]
}

#[test]
fn the_seeds_are_read() {
    for seed in seeds("avro_plan") {
        assert!(is_read(&plans()[usize::from(seed[0]) % 3], &seed[1..]), "{seed:?}");
    }
    for seed in seeds("json") {
        let mut scratch = JsonScratch::default();
        let read = JsonReader::new(&["n"]).decode(&seed, &mut scratch, &mut [Value::Absent]);
        assert_eq!(read, Ok(()), "{}", String::from_utf8_lossy(&seed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn any_datum_is_survived(bytes in any_input("avro_plan")) {
        avro_plan(&bytes);
        let plan = &plans()[bytes.first().map_or(0, |kind| usize::from(*kind) % 3)];
        let used = allocation_counter::measure(|| {
            let _ = is_read(plan, bytes.get(1..).unwrap_or_default());
        });
        prop_assert!(used.bytes_max < BYTES_MAX, "{used:?} for {} bytes", bytes.len());
    }

    #[test]
    fn any_json_is_survived(bytes in any_input("json")) {
        json(&bytes);
        let reader = JsonReader::new(&["n", "deep.er.field"]);
        let used = allocation_counter::measure(|| {
            let _ = reader.decode(&bytes, &mut JsonScratch::default(), &mut [Value::Absent; 2]);
        });
        prop_assert!(used.bytes_max < BYTES_MAX, "{used:?} for {} bytes", bytes.len());
    }
}

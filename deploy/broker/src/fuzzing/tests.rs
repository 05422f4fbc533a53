//! Some thousand runs of each fuzz target, over the seeds and over what is made of them.

use proptest::prelude::*;

use super::*;

/// The seeds of a target: what real clients sent, and real files.
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
        Just(vec![0x7f, 0xff, 0xff, 0xff]),
        Just(vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
    ];
    let change =
        (any::<prop::sample::Index>(), bytes, 0..5_u8).prop_map(|(at, bytes, kind)| Change { at, bytes, kind });
    prop::collection::vec(change, 0..6)
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

/// What a node of a hundred partitions, requests and their answers may take: a few times what one answer may, and for each
/// byte of a request what the smallest part of an answer takes.
fn bytes_max(bytes: &[u8]) -> u64 {
    4 * ANSWER_BYTES_MAX as u64 + 500 * bytes.len() as u64
}

#[test]
fn real_frames_are_decoded() {
    for seed in seeds("frame") {
        let request = frame::parse(seed.into()).unwrap();
        frame::check(request.key, request.version, &request.body).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_frame_is_survived(bytes in any_input("frame")) {
        let used = allocation_counter::measure(|| frame(&bytes));
        prop_assert!(used.bytes_max < bytes_max(&bytes), "{:?} for {} bytes", used, bytes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_requests_are_survived(bytes in any_input("requests")) {
        let used = allocation_counter::measure(|| requests(&bytes));
        prop_assert!(used.bytes_max < bytes_max(&bytes), "{:?} for {} bytes", used, bytes.len());
    }

    #[test]
    fn any_files_are_survived(bytes in any_input("recovery")) {
        let folder = tempfile::tempdir().unwrap();
        recovery(folder.path(), &bytes);
    }
}

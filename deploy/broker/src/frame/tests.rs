use bytes::BytesMut;
use kafka_protocol::messages::RequestKind;
use proptest::prelude::*;

use super::check::walk;
use super::shapes::{Field, Kind, Struct};
use super::*;

mod reader;

/// Every API with a shape, in every version that there is.
fn requests() -> impl Iterator<Item = (ApiKey, i16)> {
    let shaped = ApiKey::iter().filter_map(|api| Some((api, shapes::request(api)?.versions)));
    shaped.flat_map(|(api, versions)| (versions.min..=versions.max).map(move |version| (api, version)))
}

/// Random bytes that choose what [`written`] writes; all zeros give the smallest request.
struct Choices<'a> {
    bytes: std::iter::Copied<std::slice::Iter<'a, u8>>,
    /// Null may stand for strings, bytes and arrays.
    has_null: bool,
    /// So many more arrays, and the one after them has so many elements.
    many: Option<(usize, usize)>,
}

impl<'a> Choices<'a> {
    fn of(bytes: &'a [u8], has_null: bool) -> Self {
        Self { bytes: bytes.iter().copied(), has_null, many: None }
    }

    fn next(&mut self) -> u8 {
        self.bytes.next().unwrap_or(0)
    }

    /// Of 0, 1, ... the smaller ones more often.
    fn count(&mut self) -> usize {
        [0, 1, 1, 2, 3, 5, 2, 1][usize::from(self.next() % 8)]
    }

    fn is_null(&mut self) -> bool {
        self.has_null && self.next() > 240
    }

    fn without_null(&mut self, choose: impl FnOnce(&mut Self)) {
        let has_null = std::mem::replace(&mut self.has_null, false);
        choose(self);
        self.has_null = has_null;
    }
}

/// The body of a request of some version; random bytes give a random one.
pub(crate) fn request_of(api: ApiKey, version: i16, choices: &[u8]) -> Vec<u8> {
    written(api, version, &mut Choices::of(choices, true))
}

/// A request of some version by its shape, as Kafka writes it.
fn written(api: ApiKey, version: i16, choices: &mut Choices<'_>) -> Vec<u8> {
    let shape = shapes::request(api).unwrap();
    let mut writer = Writer { bytes: Vec::new(), version, is_flexible: version >= shape.flexible_since };
    writer.fields(shape.fields, choices);
    writer.bytes
}

struct Writer {
    bytes: Vec<u8>,
    version: i16,
    is_flexible: bool,
}

impl Writer {
    fn fields(&mut self, fields: &[Field], choices: &mut Choices<'_>) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version)) {
            self.field(field.kind, choices);
        }
        if self.is_flexible {
            self.tagged_fields(fields, choices);
        }
    }

    fn tagged_fields(&mut self, fields: &[Field], choices: &mut Choices<'_>) {
        let known = |tag| fields.iter().find(|field| field.is_tagged(tag, self.version));
        let mut tagged = Vec::new();
        for (tag, field) in (0..10).filter_map(|tag| Some((tag, known(tag)?))) {
            if choices.next() % 2 == 1 {
                let mut writer = Self { bytes: Vec::new(), ..*self };
                choices.without_null(|choices| writer.field(field.kind, choices));
                tagged.push((tag, writer.bytes));
            }
        }
        let mut tag = 10;
        for _ in 0..choices.count().saturating_sub(1) {
            tag += 1 + u32::from(choices.next());
            let size = choices.count();
            tagged.push((tag, (0..size).map(|_| choices.next()).collect()));
        }
        self.varint(tagged.len());
        for (tag, value) in tagged {
            self.varint(tag as usize);
            self.varint(value.len());
            self.bytes.extend(value);
        }
    }

    fn field(&mut self, kind: Kind, choices: &mut Choices<'_>) {
        match kind {
            Kind::Fixed(1) => self.bytes.push(choices.next() % 2),
            Kind::Fixed(bytes) => self.number(bytes, choices),
            Kind::Struct(Struct { fields, .. }) => self.fields(fields, choices),
            Kind::OptionalStruct(_) if choices.next().is_multiple_of(2) => self.bytes.push(0xff),
            Kind::OptionalStruct(Struct { fields, .. }) => {
                self.bytes.push(1);
                self.fields(fields, choices);
            }
            Kind::Text if choices.is_null() => self.length(None, 2),
            Kind::Text => {
                let text = "añ漢🦀b".chars().cycle().skip(choices.count()).take(choices.count());
                let text: String = text.collect();
                self.length(Some(text.len()), 2);
                self.bytes.extend(text.bytes());
            }
            _ if choices.is_null() => self.length(None, 4),
            Kind::Bytes => {
                let count = self.counted(choices);
                (0..count).for_each(|_| self.bytes.push(choices.next()));
            }
            Kind::FixedArray(bytes) => {
                let count = self.counted(choices);
                (0..count).for_each(|_| self.number(bytes, choices));
            }
            Kind::TextArray => {
                let count = self.counted(choices);
                choices.without_null(|choices| (0..count).for_each(|_| self.field(Kind::Text, choices)));
            }
            Kind::StructArray(Struct { fields, .. }) => {
                let count = self.counted(choices);
                (0..count).for_each(|_| self.fields(fields, choices));
            }
        }
    }

    fn counted(&mut self, choices: &mut Choices<'_>) -> usize {
        let count = match choices.many {
            Some((0, count)) => count,
            Some(_) => 1,
            None => choices.count(),
        };
        choices.many = choices.many.and_then(|(arrays, count)| Some((arrays.checked_sub(1)?, count)));
        self.length(Some(count), 4);
        count
    }

    /// A length of so many bytes, unless it is compact.
    fn length(&mut self, length: Option<usize>, bytes: usize) {
        if self.is_flexible {
            return self.varint(length.map_or(0, |length| length + 1));
        }
        let length = length.map_or(-1, |length| length as i64);
        self.bytes.extend(&length.to_be_bytes()[8 - bytes..]);
    }

    /// Neither 0 nor -1, which are the defaults that tagged fields are not written with.
    fn number(&mut self, bytes: usize, choices: &mut Choices<'_>) {
        self.bytes.push(choices.next() % 0x7f + 1);
        self.bytes.extend((1..bytes).map(|_| choices.next()));
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// Decodes what the check lets pass and holds the decoder's memory against what the check expected of it.
fn decode_within_bounds(api: ApiKey, version: i16, body: &[u8]) {
    /// An error with its context and, where RUST_BACKTRACE asks for it, its backtrace; the counter of a frame's owners.
    const SLACK_BYTES: u64 = 32 << 10;
    let Ok(walked) = walk(api, version, body) else { return };
    let mut body = Bytes::copy_from_slice(body);
    let allocated = allocation_counter::measure(|| drop(RequestKind::decode(api, &mut body, version)));
    assert!(
        allocated.bytes_max <= walked.decoded_bytes as u64 + SLACK_BYTES,
        "{api:?} {version}: {allocated:?} for {walked:?}"
    );
}

#[test]
fn every_version_that_is_answered_has_a_shape() {
    let shaped: Vec<_> = requests().collect();
    for api in crate::api::TABLE {
        for version in api.min..=api.max {
            assert!(shaped.contains(&(api.key, version)), "{:?} {version}", api.key);
        }
    }
}

#[test]
fn the_check_allocates_nothing() {
    let choices: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    for (api, version) in requests() {
        let body = written(api, version, &mut Choices::of(&choices, false));
        assert_eq!(allocation_counter::measure(|| check(api, version, &body).unwrap()).count_total, 0);
    }
}

#[test]
fn the_decoder_takes_no_more_than_the_check_expects() {
    for (api, version) in requests() {
        for arrays in 0..4 {
            // Empty elements, and ones with a tagged field each: both cost most for their bytes.
            for fill in [0, 3] {
                let choices = [fill; 1 << 14];
                let mut choices = Choices { many: Some((arrays, 2_000)), ..Choices::of(&choices, false) };
                let body = written(api, version, &mut choices);
                decode_within_bounds(api, version, &body);
            }
        }
    }
}

#[test]
fn more_memory_than_the_bound_is_refused_though_the_bytes_are_there() {
    // Topics with empty names: two bytes each, and 72 in memory.
    let topics = |count: usize| [&(count as u32).to_be_bytes()[..], &vec![0; 2 * count]].concat();
    check(ApiKey::Metadata, 0, &topics(250_000)).unwrap();
    let error = check(ApiKey::Metadata, 0, &topics(400_000)).unwrap_err();
    assert_eq!(error.to_string(), "topics at byte 4 takes more than 8 times the request and 16777216 bytes in memory");
}

#[test]
fn a_wrong_count_or_length_is_refused_where_it_stands() {
    fn check_error(api: ApiKey, version: i16, body: &[u8], expected: &str) {
        let error = check(api, version, body).expect_err(expected);
        assert_eq!(error.to_string(), expected, "{api:?} {version}");
    }
    const HUGE: [u8; 4] = i32::MAX.to_be_bytes();
    const HUGE_VARINT: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];
    check_error(
        ApiKey::Metadata,
        1,
        &HUGE,
        "topics at byte 4 has 2147483647 elements of at least 2 bytes, with 0 bytes left",
    );
    check_error(
        ApiKey::Metadata,
        12,
        &HUGE_VARINT,
        "topics at byte 5 has 4294967294 elements of at least 18 bytes, with 0 bytes left",
    );
    check_error(ApiKey::Metadata, 1, &(-2_i32).to_be_bytes(), "topics at byte 4 has the length -2");
    check_error(ApiKey::Metadata, 9, &[0xff; 6], "topics at byte 5 has a number of more than five bytes");
    check_error(
        ApiKey::Metadata,
        4,
        &[0, 0, 0, 0],
        "allow_auto_topic_creation at byte 4 has 1 bytes less than it needs",
    );
    check_error(ApiKey::Metadata, 14, &[0; 9], "body at byte 0 is of an API or a version that is not known");
    check_error(ApiKey::Vote, 0, &[0; 9], "body at byte 0 is of an API or a version that is not known");
    check_error(ApiKey::Heartbeat, 0, &[0x80, 0], "group_id at byte 2 has the length -32768");
    check_error(ApiKey::Heartbeat, 0, &[0, 9, b'g'], "group_id at byte 2 has 8 bytes less than it needs");
    check_error(
        ApiKey::ListGroups,
        3,
        &HUGE_VARINT,
        "body at byte 5 has 4294967295 elements of at least 2 bytes, with 0 bytes left",
    );
    check_error(ApiKey::ListGroups, 3, &[1, 7, 9], "tagged fields at byte 3 has 9 bytes less than it needs");
    check_error(ApiKey::ListGroups, 3, &[2, 7, 0, 7, 0], "tagged fields at byte 4 has the tag 7 after the tag 7");
    // A fetch whose replica state, tag 1, claims 20 bytes and takes 13.
    let fetch = [&[0; 21][..], &[1, 1, 1], &[1, 1, 20], &[0; 20]].concat();
    check_error(
        ApiKey::Fetch,
        15,
        &fetch,
        "replica_state at byte 40 has the size 20 as a tagged field and takes 13 bytes",
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The decoder takes each random request to its last byte and writes the same bytes again, and the walk ends there too.
    #[test]
    fn every_request_of_every_version_is_walked_to_its_last_byte(
        choices in prop::collection::vec(any::<u8>(), 0..2_000),
        has_null in any::<bool>(),
    ) {
        for (api, version) in requests() {
            let body = written(api, version, &mut Choices::of(&choices, has_null));
            let mut rest = Bytes::from(body.clone());
            match RequestKind::decode(api, &mut rest, version) {
                Ok(request) => {
                    prop_assert_eq!(rest.len(), 0, "{:?} {}: {:?}", api, version, request);
                    let mut encoded = BytesMut::new();
                    request.encode(&mut encoded, version).unwrap();
                    prop_assert_eq!(&encoded[..], &body, "{:?} {}: {:?}", api, version, request);
                }
                Err(error) => {
                    // Null where the field may not be null.
                    let is_null = error.root_cause().to_string().ends_with("length is negative (-1)");
                    prop_assert!(has_null && is_null, "{:?} {}: {:#}", api, version, error);
                }
            }
            prop_assert_eq!(walk(api, version, &body).unwrap().bytes, body.len(), "{:?} {}", api, version);
        }
    }

    /// Changed, cut or lengthened, a request is refused, or it takes the decoder no more than the check expected, and no panic.
    #[test]
    fn a_damaged_request_is_refused_or_decoded_within_bounds(
        choices in prop::collection::vec(any::<u8>(), 0..500),
        changes in prop::collection::vec((any::<prop::sample::Index>(), damages()), 1..4),
    ) {
        for (api, version) in requests() {
            let mut body = written(api, version, &mut Choices::of(&choices, true));
            for (at, damage) in &changes {
                let at = at.index(body.len() + 1);
                match damage {
                    Damage::Put(bytes) => {
                        let end = body.len().min(at + bytes.len());
                        drop(body.splice(at..end, bytes.iter().copied()));
                    }
                    Damage::Insert(bytes) => drop(body.splice(at..at, bytes.iter().copied())),
                    Damage::Cut => body.truncate(at),
                }
            }
            decode_within_bounds(api, version, &body);
        }
    }

    #[test]
    fn any_bytes_as_a_request_are_survived(body in prop::collection::vec(any::<u8>(), 0..100)) {
        for (api, version) in requests() {
            decode_within_bounds(api, version, &body);
        }
    }
}

#[derive(Clone, Debug)]
enum Damage {
    Put(Vec<u8>),
    Insert(Vec<u8>),
    Cut,
}

fn damages() -> impl Strategy<Value = Damage> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..3),
        // Counts that would end the process if they were believed.
        Just(i32::MAX.to_be_bytes().to_vec()),
        Just(vec![0x00, 0x10, 0x00, 0x00]),
        Just(vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        Just(vec![0xff, 0xff, 0x7f]),
    ];
    prop_oneof![
        4 => bytes.clone().prop_map(Damage::Put),
        2 => bytes.prop_map(Damage::Insert),
        1 => Just(Damage::Cut),
    ]
}

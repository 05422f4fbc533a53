//! Shipped scenarios keep their promises; impossible ones are refused in one line.

use super::*;
use crate::rate::Wave;
use std::collections::{BTreeMap, BTreeSet};

/// A small scenario that is right, with marks where the cases below go wrong.
const RIGHT: &str = r#"
[scenario]
name = "right"
start = "2026-01-05T00:00:00Z"
duration = "4d"

[rate]
profile = "constant"
events = 1000

[[stream]]
kind = "service-calls"
share = 1.0

[[stream]]
kind = "checks"
share = 1.0

[[service]]
name = "web"
depends_on = ["cart"]
regions = ["EMEA"]
latency_ms = 100
daily_amplitude = 0.3

[[service]]
name = "cart"
instances = 2
regions = ["EMEA", "AMER"]
latency_ms = 50

[[check]]
name = "ping"
response_ms = 20
[check.locations]
oslo = "EMEA"

[[fault]]
kind = "spike"
service = "cart"
onset = "3d 4h"
duration = "30m"
magnitude = 3.0
"#;

/// `RIGHT` with one text replaced by another must fail with exactly this line.
fn check(from: &str, to: &str, wanted: &str) {
    assert!(RIGHT.contains(from), "{from} is not in the scenario");
    let text = RIGHT.replacen(from, to, 1);
    match Scenario::from_toml(&text, "a.toml") {
        Ok(_) => panic!("accepted: {from} -> {to}"),
        Err(error) => {
            assert_eq!(error.to_string(), format!("a.toml: {wanted}"));
            assert!(!error.to_string().contains('\n'));
        }
    }
}

#[test]
fn the_right_one_is_accepted() {
    let scenario = Scenario::from_toml(RIGHT, "a.toml").unwrap();
    let keys: Vec<&str> = scenario.entities().iter().map(|entity| entity.key.as_str()).collect();
    assert_eq!(keys, ["cart/amer-1", "cart/emea-1", "web/emea-1", "ping/oslo"]);
    let faults = scenario.faults(1);
    let ids: Vec<(&str, Option<&str>)> = faults.iter().map(|f| (f.id.as_str(), f.cause.as_deref())).collect();
    assert_eq!(ids, [("fault-01.1", None), ("fault-01.2", Some("fault-01.1"))]);
    assert_eq!(faults[0].onset_ms, scenario.start_ms + (3 * 24 + 4) * 3_600_000);
    let dated = RIGHT.replace("3d 4h", "2026-01-08T04:00:00Z");
    assert_eq!(Scenario::from_toml(&dated, "a.toml").unwrap().faults(1), faults);
}

#[test]
fn texts_that_are_no_scenario() {
    check("events = 1000", "events = ", "line 9: string values must be quoted, expected literal string");
    check(
        "events = 1000",
        "evnts = 1000",
        "line 9: unknown field `evnts`, expected one of `profile`, `events`, `events_per_second`, `from`, `to`, `amplitude`, `period`, `peak`, `every`, `length`, `factor`",
    );
    check("events = 1000", "events = \"many\"", "line 9: invalid type: string \"many\", expected u64");
    check(
        "\"service-calls\"",
        "\"calls\"",
        "line 12: unknown variant `calls`, expected one of `service-calls`, `infrastructure`, `beacons`, `checks`",
    );
}

#[test]
fn impossible_rates_and_times() {
    check(
        "2026-01-05T00:00:00Z",
        "yesterday",
        "scenario.start: \"yesterday\" is not a date; write it like \"2026-01-05T00:00:00Z\"",
    );
    check(
        "2026-01-05T00:00:00Z",
        "1969-01-05T00:00:00Z",
        "scenario.start: event times must lie between 1970 and 2200; move the start or shorten the duration",
    );
    check(
        "\"4d\"",
        "\"4 dogs\"",
        "scenario.duration: \"4 dogs\" is not a duration; write it like \"4d 12h\" or \"90s\"",
    );
    check("\"4d\"", "\"0s\"", "scenario.duration: is shorter than a second; make it longer");
    check("events = 1000", "events = 0", "rate.events: 0 is not between 1 and 1000000000000");
    check("events = 1000", "", "rate: says nothing of how many; give either events or events_per_second");
    check(
        "events = 1000",
        "events = 1\nevents_per_second = 1.0",
        "rate.events_per_second: contradicts rate.events; keep one of the two",
    );
    check(
        "events = 1000",
        "events_per_second = nan",
        "rate.events_per_second: NaN gives NaN events over the scenario; at least 1 and at most 1000000000000 are needed",
    );
    check(
        "events = 1000",
        "events = 1\namplitude = 0.5",
        "rate.amplitude: is not a parameter of this profile; remove it or change rate.profile",
    );
    check("\"constant\"", "\"sine\"", "rate.amplitude: is missing; this profile needs it");
    check("\"constant\"", "\"sine\"\namplitude = 1.5", "rate.amplitude: 1.5 is not between 0 and 1");
    check(
        "\"constant\"",
        "\"ramp\"\nfrom = 0.0\nto = 0.0",
        "rate.to: the ramp is zero at both ends; raise one of them",
    );
    check(
        "\"constant\"",
        "\"burst\"\nevery = \"1h\"\nlength = \"2h\"\nfactor = 3.0",
        "rate.length: is not shorter than rate.every; a burst must end before the next",
    );
}

#[test]
fn impossible_entities() {
    check("share = 1.0", "share = -1.0", "stream[0].share: -1 is not above 0");
    check("\"checks\"", "\"service-calls\"", "stream[1].kind: service-calls is there twice; keep one");
    check("\"checks\"", "\"beacons\"", "stream[1]: has no entities; declare a [[site]]");
    check(
        "share = 1.0",
        "share = 1.0\nservices = [\"db\"]",
        "stream[0].services: unknown service \"db\"; known are web, cart",
    );
    check("name = \"cart\"", "name = \"web\"", "service[1].name: \"web\" is there twice; choose another name");
    check("instances = 2", "instances = 0", "service[1].instances: 0 is not between 1 and 1000");
    check("\"EMEA\", \"AMER\"", "\"EMEA\", \"EMEA\"", "service[1].regions: names a region twice; name each once");
    check("latency_ms = 50", "latency_ms = -5", "service[1].latency_ms: -5 is not above 0 and at most 1e12");
    check(
        "latency_ms = 50",
        "latency_ms = 50\nnoise = nan",
        "service[1].noise: NaN is not between 0 and 2 (the sigma of a value's logarithm)",
    );
    check(
        "depends_on = [\"cart\"]",
        "depends_on = [\"crat\"]",
        "service[0].depends_on[0]: unknown service \"crat\"; known are web, cart",
    );
    check(
        "name = \"cart\"",
        "name = \"cart\"\ndepends_on = [\"web\"]",
        "service[0].depends_on: depends on itself: web -> cart -> web; remove one of these dependencies",
    );
    check(
        "response_ms = 20",
        "response_ms = 20\nservice = \"db\"",
        "check[0].service: unknown service \"db\"; known are web, cart",
    );
}

#[test]
fn impossible_faults() {
    check(
        "service = \"cart\"",
        "service = \"crat\"",
        "fault[0].service: unknown service \"crat\"; known are web, cart",
    );
    check(
        "service = \"cart\"",
        "service = \"cart\"\ninstance = \"apac-1\"",
        "fault[0].instance: unknown instance \"apac-1\" of \"cart\"; known are amer-1, emea-1",
    );
    check(
        "service = \"cart\"",
        "entity = \"cart/1\"",
        "fault[0].entity: service-calls has no entity \"cart/1\"; keys look like \"cart/amer-1\"",
    );
    check("service = \"cart\"", "", "fault[0]: names nobody; give service (and instance) or entity");
    check(
        "service = \"cart\"",
        "service = \"cart\"\nstream = \"checks\"",
        "fault[0].service: service \"cart\" has no entities in checks; add it to the stream",
    );
    check(
        "service = \"cart\"",
        "service = \"cart\"\nmeasure = \"load_ms\"",
        "fault[0].measure: service-calls has no measure \"load_ms\"; use one of duration_ms, bytes, status",
    );
    check(
        "\"3d 4h\"",
        "\"4d\"",
        "fault[0].onset: \"4d\" is outside of the scenario; it begins at 0s and is 4days long",
    );
    check(
        "\"3d 4h\"",
        "\"2026-01-04T00:00:00Z\"",
        "fault[0].onset: \"2026-01-04T00:00:00Z\" is outside of the scenario; it begins at 0s and is 4days long",
    );
    check(
        "\"3d 4h\"",
        "\"soon\"",
        "fault[0].onset: \"soon\" is neither an offset like \"3d 4h\" nor a date like \"2026-01-08T04:00:00Z\"",
    );
    check("\"30m\"", "\"0s\"", "fault[0].duration: is zero: the fault would end at its onset; make it longer");
    check("\"30m\"", "\"-30m\"", "fault[0].duration: \"-30m\" is not a duration; write it like \"4d 12h\" or \"90s\"");
    check(
        "\"30m\"",
        "\"2d\"",
        "fault[0].duration: the fault ends after the scenario; make it shorter or its onset earlier",
    );
    check(
        "magnitude = 3.0",
        "magnitude = 0.0",
        "fault[0].magnitude: 0 is impossible; a spike's factor is above 1 and at most 1000",
    );
    check(
        "magnitude = 3.0",
        "magnitude = nan",
        "fault[0].magnitude: NaN is impossible; a spike's factor is above 1 and at most 1000",
    );
    check(
        "kind = \"spike\"",
        "kind = \"dip\"",
        "fault[0].magnitude: 3 is impossible; a dip's factor is above 0 and below 1",
    );
    check(
        "kind = \"spike\"",
        "kind = \"drift\"\ncorrelated = true\nmeasure = \"bytes\"",
        "fault[0].correlated: dependants feel a spike, dip, level_shift or drift of duration_ms or status only; remove it",
    );
    check(
        "service = \"cart\"",
        "service = \"web\"\ncorrelated = true",
        "fault[0].correlated: nobody depends on this service; remove it or name the service in another's depends_on",
    );
    check(
        "kind = \"spike\"",
        "kind = \"outlier\"\nmeasure = \"status\"",
        "fault[0].measure: status has no companion that an outlier could move the other way; use duration_ms, bytes, cpu_ratio or memory_bytes",
    );
    check(
        "magnitude = 3.0",
        "\nmagnitude = 2.0\n[random_faults]\nafter = \"5d\"",
        "random_faults.after: \"5d\" is outside of the scenario; it begins at 0s and is 4days long",
    );
    let seasonal = "magnitude = 1.0";
    check(
        "kind = \"spike\"",
        "kind = \"seasonal_break\"",
        "fault[0].magnitude: 3 is impossible; a seasonal break is above 0 and at most 2: 1 flattens the daily wave, 2 inverts it",
    );
    let flat = RIGHT.replace("kind = \"spike\"", "kind = \"seasonal_break\"").replace("magnitude = 3.0", seasonal);
    let error = Scenario::from_toml(&flat, "a.toml").unwrap_err();
    assert_eq!(error.field, "fault[0].kind");
}

#[test]
fn impossible_random_faults() {
    let random = |rules: &str, wanted: &str| {
        let tail = format!("magnitude = 3.0\n[random_faults]\nafter = \"1d\"\nmin_gap = \"5h\"\n{rules}");
        check("magnitude = 3.0", &tail, wanted);
    };
    let spike = |count: u32, rest: &str| format!("[random_faults.spike]\ncount = {count}\n{rest}");
    random(
        &spike(1, "magnitude = [4.0, 2.0]\nduration = [\"1h\", \"2h\"]"),
        "random_faults.spike.magnitude: is from above to below; swap the two",
    );
    random(
        &spike(1, "magnitude = [2.0, 3.0]\nduration = [\"3h\", \"2h\"]"),
        "random_faults.spike.duration: is zero or from longer to shorter; write it like [\"20m\", \"40m\"]",
    );
    random(
        &spike(1, "magnitude = [2.0, 3.0]\nduration = [\"1h\", \"5d\"]"),
        "random_faults.spike.duration: does not fit between after and quiet_tail; shorten it",
    );
    random(
        &spike(99, "magnitude = [2.0, 3.0]\nduration = [\"1h\", \"2h\"]"),
        "random_faults.spike.count: 99 faults and their gaps do not fit; lower it or random_faults.min_gap",
    );
    random(
        &spike(1, "correlated = 2\nmagnitude = [2.0, 3.0]\nduration = [\"1h\", \"2h\"]"),
        "random_faults.spike.correlated: 2 is more than count; lower it",
    );
}

#[test]
fn a_file_that_is_not_there_names_what_there_is() {
    let error = Scenario::load(Path::new("/nowhere/x.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/x.toml: scenario file: cannot be read ("), "{error}");
    assert!(error.ends_with("; name a file or a shipped scenario: demo, disorder, drift, smoke, steady"), "{error}");
}

#[test]
fn the_reference_is_a_scenario_and_its_comments_hold() {
    let reference = include_str!("../../SCENARIOS.md");
    let example = reference.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let scenario = Scenario::from_toml(example, "SCENARIOS.md").unwrap();
    assert_eq!(scenario.streams(), StreamKind::ALL);
    for kind in FaultKind::ALL {
        let row = format!("| `{}` |", kind.name());
        let line = reference.lines().find(|line| line.starts_with(&row)).unwrap();
        assert!(line.ends_with(&format!("| {} |", kind.default_magnitude())), "{line}");
    }
    for stream in StreamKind::ALL {
        let line = reference.lines().find(|line| line.starts_with(&format!("| `{}` |", stream.name()))).unwrap();
        assert!(line.contains(&format!("| {} |", stream.entity_fields().join(", "))), "{line}");
        assert!(stream.measures().iter().all(|measure| line.contains(&format!("`{}`", measure.field()))), "{line}");
    }
}

#[test]
fn every_shipped_scenario_parses() {
    for name in Scenario::shipped_names() {
        let scenario = Scenario::from_toml(Scenario::shipped_toml(name).unwrap(), name).unwrap();
        assert_eq!(scenario.name, name);
        assert!(!scenario.description.is_empty());
    }
    assert_eq!(Scenario::shipped("other"), None);
}

#[test]
fn the_demo_has_what_it_promises_for_any_seed() {
    let scenario = Scenario::shipped("demo").unwrap();
    assert_eq!(scenario.duration_ms, 108 * 3_600_000);
    assert_eq!(scenario.entities().len(), 40);
    assert_eq!(
        scenario.profile,
        Profile::Poisson(Wave { amplitude: 0.25, period_ms: 86_400_000, peak_ms: 14 * 3_600_000 })
    );
    let windows = scenario.duration_ms / 300_000;
    for entity in scenario.entities() {
        let in_window = entity.share * scenario.events as f64 / windows as f64;
        assert!(in_window >= 10.0, "{}: {in_window} events a window", entity.key);
    }
    let mut placements = BTreeSet::new();
    for seed in 0..30 {
        let total = scenario.generator(seed, 4).events_total();
        assert!((1_000_000..1_100_000).contains(&total), "seed {seed}: {total} events");
        let faults = scenario.faults(seed);
        let mut roots: BTreeMap<FaultKind, u32> = BTreeMap::new();
        for fault in &faults {
            if fault.cause.is_none() {
                *roots.entry(fault.kind).or_default() += 1;
            }
            let tail_ms = scenario.end_ms() - 4 * 3_600_000;
            assert!(
                fault.onset_ms >= scenario.start_ms + 60 * 3_600_000 && fault.end_ms <= tail_ms + 3_600_000,
                "seed {seed}: {fault:?}"
            );
        }
        let wanted = [7, 5, 4, 3, 4, 3];
        assert_eq!(roots, FaultKind::ALL.into_iter().zip(wanted).collect(), "seed {seed}");
        assert!((26..=45).contains(&faults.len()), "seed {seed}: {} faults", faults.len());
        assert!(faults.iter().any(|fault| fault.cause.is_some()), "seed {seed}: nothing correlated");
        keep_apart(&faults, 5 * 3_600_000);
        placements.insert(faults.iter().map(|fault| (fault.entity, fault.onset_ms)).collect::<Vec<_>>());
    }
    assert_eq!(placements.len(), 30, "two seeds have the same faults");
}

fn keep_apart(faults: &[Fault], gap_ms: i64) {
    for (number, a) in faults.iter().enumerate() {
        for b in faults[..number].iter().filter(|b| b.entity == a.entity) {
            assert!(a.onset_ms >= b.end_ms + gap_ms || b.onset_ms >= a.end_ms + gap_ms, "{a:?} and {b:?}");
        }
    }
}

#[test]
fn the_others_have_what_they_promise() {
    let smoke = Scenario::shipped("smoke").unwrap();
    for seed in 0..20 {
        assert_eq!(smoke.generator(seed, 3).events_total(), 20_000);
        let kinds: BTreeSet<FaultKind> = smoke.faults(seed).iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds.len(), FaultKind::ALL.len(), "seed {seed}: {kinds:?}");
    }
    let steady = Scenario::shipped("steady").unwrap();
    assert_eq!(steady.generator(1, 3).events_total(), 10_000_000);
    assert_eq!(steady.entities().len(), 100);
    assert!(steady.truth(1).is_empty());
    assert_eq!(steady.with_events(77).generator(1, 3).events_total(), 77);
}

#[test]
fn disorder_whose_outcome_is_not_certain_is_refused() {
    let rules = "[disorder.assumes]\non_time_within = \"5s\"\nfinal_after = \"20s\"\n[disorder.reorder]\nshare = 0.5\nwithin = \"2s\"\n";
    let with = |more: &str| Scenario::from_toml(&format!("{RIGHT}\n{rules}{more}"), "a.toml");
    assert!(with("").unwrap().disorder.is_some());
    let skew = |skew: &str| format!("[[disorder.skew]]\nservice = \"cart\"\n{skew}");
    for (more, wanted) in [
        (
            "[disorder.late]\nshare = 0.1\nby = [\"19s\", \"1m\"]".to_owned(),
            "disorder.late.by[0]: is shorter than disorder.assumes.final_after; such an event may still be in time",
        ),
        (
            "[disorder.late]\nshare = 0.1\nby = [\"60s\", \"59s\"]".to_owned(),
            "disorder.late.by[1]: is shorter than by[0]; swap the two",
        ),
        (
            "[disorder.late]\nshare = 0.1\nby = [\"60s\", \"25h\"]".to_owned(),
            "disorder.late.by[1]: is not between 1ms and 24h: records wait for so long in memory",
        ),
        (
            "[disorder.duplicates]\nshare = 0.1\nwithin = \"10m\"".to_owned(),
            "disorder.duplicates.within: is not shorter than disorder.assumes.event_id_memory; the id would be forgotten by then",
        ),
        (
            "[disorder.drops]\nshare = 0.6\n[disorder.poison]\nshare = 0.5".to_owned(),
            "disorder: the shares of drops, poison, late and duplicates add up to 1.1; keep them within 1",
        ),
        (
            "[disorder.poison]\nshare = 0.5\nkinds = []".to_owned(),
            "disorder.poison.kinds: is empty; leave it out for the default",
        ),
        ("[disorder.drops]\nshare = 1.5".to_owned(), "disorder.drops.share: 1.5 is not between 0 and 1"),
        (skew(""), "disorder.skew[0]: is neither fast nor slow; give one of the two"),
        (skew("fast = \"0s\""), "disorder.skew[0]: is no skew; give a span above zero"),
        (
            skew("fast = \"4s\""),
            "disorder.skew[0]: with disorder.reorder.within (and the skews before) exceeds disorder.assumes.on_time_within, so events \
             might be late or not; make it smaller, or slow by final_after, or fast by more than future_max",
        ),
        (
            format!("{}\n{}", skew("slow = \"20s\""), skew("fast = \"2s\"")),
            "disorder.skew[1]: \"cart/amer-1\" has a skew already; keep one",
        ),
        (
            "[[disorder.idle]]\nstream = \"beacons\"\npartition = 0\nfrom = \"1h\"".to_owned(),
            "disorder.idle[0].stream: the scenario has no beacons; declare a [[stream]] of it",
        ),
        (
            "[[disorder.idle]]\nstream = \"checks\"\npartition = -1\nfrom = \"1h\"".to_owned(),
            "disorder.idle[0].partition: is not a partition's number, from 0",
        ),
        (
            "[[disorder.schema_change]]\nstream = \"checks\"\nkind = \"compatible\"\nfrom = \"2h\"\nto = \"1h\""
                .to_owned(),
            "disorder.schema_change[0].to: is not after from; make it later or leave it out",
        ),
    ] {
        assert_eq!(with(&more).expect_err(&more).to_string(), format!("a.toml: {wanted}"));
    }
    let none = rules.replace("within = \"2s\"", "within = \"6s\"");
    let error = Scenario::from_toml(&format!("{RIGHT}\n{none}"), "a.toml").unwrap_err().to_string();
    assert_eq!(
        error,
        "a.toml: disorder.reorder.within: is longer than disorder.assumes.on_time_within; such an event might be late or not"
    );
}

#[test]
fn dependants_feel_less_and_later() {
    let scenario = Scenario::from_toml(&RIGHT.replace("magnitude = 3.0", "correlated = true"), "a.toml").unwrap();
    let truth = scenario.truth(5);
    let found: Vec<(&str, f64, Option<&str>)> =
        truth.iter().map(|t| (t.entity.as_str(), t.magnitude, t.cause.as_deref())).collect();
    let root = Some("fault-01.1");
    assert_eq!(found, [("cart/amer-1", 3.0, None), ("cart/emea-1", 3.0, root), ("web/emea-1", 2.2, root)]);
    let delay_ms = truth[2].onset - truth[0].onset;
    assert!((60_000..180_000).contains(&delay_ms), "{delay_ms}");
    assert_eq!(truth[2].end - truth[2].onset, truth[0].end - truth[0].onset);
    assert_eq!(truth[0].labels["service"], "cart");
    assert_eq!(truth[0].labels["region"], "AMER");
}

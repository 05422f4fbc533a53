//! Faults that tests inject into a running broker, seeded, so that a run can be repeated.
//!
//! A request meets the rules in the order in which they were added; the first that strikes is what befalls it. Each rule draws
//! from a generator of its own (SplitMix64, seeded by [`Faults::seed`] and the rule's number), so what befalls the requests of
//! one rule does not hang on those of another. The rules are the one thing of this crate that two threads share under a lock.
//! Sources: S. Vigna's SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It is carried out later, also if its client has gone meanwhile, and the connection's next ones after it.
    Delay(Duration),
    /// It is carried out, its answer comes later.
    DelayReply(Duration),
    /// It is not carried out, and this connection is silent from then on.
    DropRequest,
    /// It is carried out, never answered, and this connection is silent from then on: the case that hurts.
    DropReply,
    /// It is not carried out but answered with this error.
    Error(ResponseError),
    /// It is carried out and answered at once, as to a client over its quota: the answer says for how long (`throttle_time_ms`, where
    /// its API has it), and the connection's next one is not read before (KIP-219).
    Throttle(Duration),
    /// It is not carried out, the connection is closed.
    Disconnect,
    /// It is carried out, and the connection is closed without an answer.
    DisconnectAfter,
    /// The whole broker stands still for this long, then carries it out.
    Freeze(Duration),
}

/// Which requests a fault befalls. [`FaultRule::new`] gives one that befalls every request.
#[derive(Clone, Debug)]
pub struct FaultRule {
    /// Only this API.
    pub api: Option<ApiKey>,
    /// Only clients whose id begins with this.
    pub client_id: Option<String>,
    /// What happens.
    pub fault: Fault,
    /// With this probability each, 0 to 1.
    pub probability: f64,
    /// Let so many matching requests pass first.
    pub skip: u64,
    /// At most so many times; `None`: until it is cleared.
    pub times: Option<u64>,
}

impl FaultRule {
    /// This fault for every request of every client.
    pub fn new(fault: Fault) -> Self {
        Self { api: None, client_id: None, fault, probability: 1.0, skip: 0, times: None }
    }
}

/// The number of a rule, never given twice by one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(u64);

/// The rules in force, shared with the broker's thread; there are none until a test adds some.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    shared: Arc<Mutex<Rules>>,
}

impl Faults {
    /// Puts a rule in force, after those that are.
    pub fn add(&self, rule: FaultRule) -> RuleId {
        let mut rules = self.lock();
        let id = RuleId(rules.next_id);
        rules.next_id += 1;
        let active = ActiveRule { id, random: SplitMix64::of(rules.seed, id), rule, seen: 0, struck: 0 };
        rules.active.push(active);
        rules.befallen.insert(id, 0);
        id
    }

    /// Takes a rule out of force; what it did stays counted.
    pub fn remove(&self, id: RuleId) {
        self.lock().active.retain(|active| active.id != id);
    }

    /// Takes every rule out of force and forgets what they did.
    pub fn clear(&self) {
        let mut rules = self.lock();
        rules.active.clear();
        rules.befallen.clear();
    }

    /// Seeds the generators of the rules in force and of those to come. The seed is 0 before.
    pub fn seed(&self, seed: u64) {
        let mut rules = self.lock();
        rules.seed = seed;
        for active in &mut rules.active {
            active.random = SplitMix64::of(seed, active.id);
        }
    }

    /// How many requests each rule has befallen since it was added.
    pub fn befallen(&self) -> BTreeMap<RuleId, u64> {
        self.lock().befallen.clone()
    }

    /// What befalls this request, and counts it: also for who stands between clients and another broker.
    pub fn strike(&self, api: ApiKey, client_id: &str) -> Option<Fault> {
        let mut rules = self.lock();
        let Rules { active, befallen, .. } = &mut *rules;
        let struck =
            active.iter_mut().find_map(|rule| rule.strikes(api, client_id).then_some((rule.id, rule.rule.fault)));
        let (id, fault) = struck?;
        *befallen.entry(id).or_default() += 1;
        Some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        // Every change is whole before a panic could come.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Rules {
    seed: u64,
    next_id: u64,
    active: Vec<ActiveRule>,
    befallen: BTreeMap<RuleId, u64>,
}

#[derive(Debug)]
struct ActiveRule {
    id: RuleId,
    rule: FaultRule,
    random: SplitMix64,
    /// Requests that it was about.
    seen: u64,
    struck: u64,
}

impl ActiveRule {
    fn strikes(&mut self, api: ApiKey, client_id: &str) -> bool {
        let rule = &self.rule;
        let is_about = rule.api.is_none_or(|only| only == api)
            && rule.client_id.as_ref().is_none_or(|prefix| client_id.starts_with(prefix.as_str()))
            && rule.times.is_none_or(|times| self.struck < times);
        if !is_about {
            return false;
        }
        self.seen += 1;
        if self.seen <= rule.skip || self.random.next_ratio() >= rule.probability {
            return false;
        }
        self.struck += 1;
        true
    }
}

#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

    /// The generator of one rule: the seed's own, as many steps on as the rule's number, mixed once.
    fn of(seed: u64, id: RuleId) -> Self {
        let mut of_seed = Self(seed.wrapping_add(id.0.wrapping_mul(Self::GAMMA)));
        Self(of_seed.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::GAMMA);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1, by the upper 53 bits.
    fn next_ratio(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What befalls each of so many requests of one client.
    fn run(faults: &Faults, api: ApiKey, client_id: &str, requests: usize) -> Vec<Option<Fault>> {
        (0..requests).map(|_| faults.strike(api, client_id)).collect()
    }

    #[test]
    fn a_rule_is_about_its_api_and_its_clients() {
        let faults = Faults::default();
        let rule = FaultRule {
            api: Some(ApiKey::Fetch),
            client_id: Some("shop".to_owned()),
            ..FaultRule::new(Fault::DropReply)
        };
        faults.add(rule);
        for (api, client_id, expected) in [
            (ApiKey::Fetch, "shop-1", Some(Fault::DropReply)),
            (ApiKey::Fetch, "shop", Some(Fault::DropReply)),
            (ApiKey::Fetch, "workshop", None),
            (ApiKey::Produce, "shop-1", None),
        ] {
            assert_eq!(faults.strike(api, client_id), expected, "{api:?} {client_id}");
        }
    }

    #[test]
    fn a_rule_lets_some_pass_and_ends() {
        let faults = Faults::default();
        let id = faults.add(FaultRule { skip: 2, times: Some(1), ..FaultRule::new(Fault::Disconnect) });
        assert_eq!(run(&faults, ApiKey::Produce, "", 4), [None, None, Some(Fault::Disconnect), None]);
        assert_eq!(faults.befallen(), BTreeMap::from([(id, 1)]));
        faults.remove(id);
        assert_eq!(faults.befallen(), BTreeMap::from([(id, 1)]), "what it did stays counted");
        faults.clear();
        assert_eq!(faults.befallen(), BTreeMap::new());
    }

    #[test]
    fn the_first_rule_that_strikes_is_what_happens() {
        let faults = Faults::default();
        faults.add(FaultRule { times: Some(1), ..FaultRule::new(Fault::DropRequest) });
        faults.add(FaultRule::new(Fault::DropReply));
        assert_eq!(run(&faults, ApiKey::Produce, "", 2), [Some(Fault::DropRequest), Some(Fault::DropReply)]);
    }

    #[test]
    fn one_seed_gives_one_sequence_whatever_other_rules_see() {
        let sequence = |seed, others| {
            let faults = Faults::default();
            let half = FaultRule { probability: 0.5, ..FaultRule::new(Fault::DropReply) };
            faults.add(FaultRule { api: Some(ApiKey::Produce), ..half.clone() });
            faults.add(FaultRule { api: Some(ApiKey::Fetch), ..half });
            faults.seed(seed);
            run(&faults, ApiKey::Fetch, "", others);
            run(&faults, ApiKey::Produce, "", 64)
        };
        assert_eq!(sequence(7, 0), sequence(7, 13));
        assert_ne!(sequence(7, 0), sequence(8, 0));
        let struck = sequence(7, 0).into_iter().flatten().count();
        assert!((16..=48).contains(&struck), "{struck} of 64 is no half");
    }

    #[test]
    fn the_generator_is_splitmix64() {
        // The first outputs of the reference code for seed 1234567.
        let mut random = SplitMix64(1_234_567);
        assert_eq!(
            [random.next(), random.next(), random.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }
}

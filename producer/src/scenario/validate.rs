//! From a scenario file's texts to a [`Scenario`]: everything that can be wrong is found here, and said in one line.
//!
//! Invariant: what passes can be generated for any seed without an error.

use super::raw::{self, File, ProfileName};
use super::{Entity, RandomFaults, RandomKind, Scenario, ScenarioError, Service, roster};
use crate::fault::{DeclaredFault, FaultKind, placement};
use crate::rate::{Profile, Wave};
use crate::shape::DAY_MS;
use crate::stream::StreamKind;
use std::fmt::Display;

/// Event times end before 2200-01-01.
const TIME_MS_MAX: i64 = 7_258_118_400_000;
const DURATION_MS_MIN: i64 = 1000;
const ENTITIES_MAX: usize = 10_000;
pub(super) const EVENTS_MAX: u64 = 1_000_000_000_000;
/// Share of the room (entities x time) that random faults and their gaps may take, so that each finds a place.
const ROOM_SHARE_MAX: f64 = 0.5;

struct Checker<'a> {
    file: &'a str,
}

type Checked<T> = Result<T, ScenarioError>;

pub(super) fn scenario(text: &str, name: &str) -> Checked<Scenario> {
    let checker = Checker { file: name };
    let file: File = toml::from_str(text).map_err(|error| checker.syntax(text, &error))?;
    let (start_ms, duration_ms) = checker.period(&file)?;
    let profile = checker.profile(&file.rate)?;
    let events = checker.events(&file.rate, duration_ms)?;
    checker.names(&file)?;
    checker.numbers(&file)?;
    checker.streams(&file)?;
    let services = checker.services(&file)?;
    let entities = roster::entities(&file);
    let mut scenario = Scenario {
        name: file.scenario.name.clone(),
        description: file.scenario.description.clone(),
        start_ms,
        duration_ms,
        profile,
        events,
        services,
        entities,
        faults: Vec::new(),
        random_faults: None,
    };
    for (number, fault) in file.fault.iter().enumerate() {
        scenario.faults.push(checker.fault(&format!("fault[{number}]"), fault, &scenario)?);
    }
    if let Some(rules) = &file.random_faults {
        scenario.random_faults = Some(checker.random_faults(rules, &scenario)?);
    }
    Ok(scenario)
}

impl Checker<'_> {
    fn fail<T>(&self, field: impl Display, problem: impl Display) -> Checked<T> {
        Err(ScenarioError { file: self.file.to_owned(), field: field.to_string(), problem: problem.to_string() })
    }

    fn require(&self, ok: bool, field: impl Display, problem: impl Display) -> Checked<()> {
        if ok { Ok(()) } else { self.fail(field, problem) }
    }

    fn syntax(&self, text: &str, error: &toml::de::Error) -> ScenarioError {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        let problem = error.message().lines().collect::<Vec<_>>().join(", ");
        ScenarioError { file: self.file.to_owned(), field: format!("line {line}"), problem }
    }

    fn duration(&self, field: impl Display, text: &str) -> Checked<i64> {
        let parsed = humantime::parse_duration(text).ok().and_then(|duration| i64::try_from(duration.as_millis()).ok());
        match parsed {
            Some(ms) if ms < TIME_MS_MAX => Ok(ms),
            _ => self.fail(field, format!("\"{text}\" is not a duration; write it like \"4d 12h\" or \"90s\"")),
        }
    }

    fn period(&self, file: &File) -> Checked<(i64, i64)> {
        let head = &file.scenario;
        self.require(!head.name.is_empty(), "scenario.name", "is empty; name the scenario")?;
        let Ok(start) = head.start.parse::<jiff::Timestamp>() else {
            let problem = format!("\"{}\" is not a date; write it like \"2026-01-05T00:00:00Z\"", head.start);
            return self.fail("scenario.start", problem);
        };
        let start_ms = start.as_millisecond();
        let duration_ms = self.duration("scenario.duration", &head.duration)?;
        self.require(duration_ms >= DURATION_MS_MIN, "scenario.duration", "is shorter than a second; make it longer")?;
        let inside = start_ms >= 0 && start_ms + duration_ms <= TIME_MS_MAX;
        self.require(inside, "scenario.start", "event times must lie between 1970 and 2200; move the start or shorten the duration")?;
        Ok((start_ms, duration_ms))
    }

    fn events(&self, rate: &raw::Rate, duration_ms: i64) -> Checked<u64> {
        match (rate.events, rate.events_per_second) {
            (Some(events), None) => {
                self.require((1..=EVENTS_MAX).contains(&events), "rate.events", format!("{events} is not between 1 and {EVENTS_MAX}"))?;
                Ok(events)
            }
            (None, Some(per_second)) => {
                let events = per_second * duration_ms as f64 / 1000.0;
                let ok = events.is_finite() && events >= 1.0 && events <= EVENTS_MAX as f64;
                let problem = format!("{per_second} gives {events} events over the scenario; at least 1 and at most {EVENTS_MAX} are needed");
                self.require(ok, "rate.events_per_second", problem)?;
                Ok(events.round() as u64)
            }
            (None, None) => self.fail("rate", "says nothing of how many; give either events or events_per_second"),
            (Some(_), Some(_)) => self.fail("rate.events_per_second", "contradicts rate.events; keep one of the two"),
        }
    }

    fn profile(&self, rate: &raw::Rate) -> Checked<Profile> {
        self.foreign_parameters(rate)?;
        let needed = |field: &str| -> ScenarioError {
            let problem = "is missing; this profile needs it".to_owned();
            ScenarioError { file: self.file.to_owned(), field: format!("rate.{field}"), problem }
        };
        let number = |field: &str, value: Option<f64>| value.ok_or_else(|| needed(field));
        let time = |field: &str, value: &Option<String>| -> Checked<i64> {
            let text = value.as_ref().ok_or_else(|| needed(field))?;
            let ms = self.duration(format!("rate.{field}"), text)?;
            self.require(ms > 0, format!("rate.{field}"), "is zero; make it longer")?;
            Ok(ms)
        };
        match rate.profile {
            ProfileName::Constant => Ok(Profile::Constant),
            ProfileName::Ramp => {
                let (from, to) = (number("from", rate.from)?, number("to", rate.to)?);
                for (field, value) in [("from", from), ("to", to)] {
                    let ok = value.is_finite() && value >= 0.0;
                    self.require(ok, format!("rate.{field}"), format!("{value} is not a rate; use 0 or more"))?;
                }
                self.require(from + to > 0.0, "rate.to", "the ramp is zero at both ends; raise one of them")?;
                Ok(Profile::Ramp { from, to })
            }
            ProfileName::Sine => Ok(Profile::Sine(self.wave(rate, number("amplitude", rate.amplitude)?)?)),
            ProfileName::Poisson => Ok(Profile::Poisson(self.wave(rate, rate.amplitude.unwrap_or(0.0))?)),
            ProfileName::Burst => {
                let (every_ms, length_ms) = (time("every", &rate.every)?, time("length", &rate.length)?);
                let factor = number("factor", rate.factor)?;
                self.require(length_ms < every_ms, "rate.length", "is not shorter than rate.every; a burst must end before the next")?;
                let ok = factor.is_finite() && factor >= 0.0;
                self.require(ok, "rate.factor", format!("{factor} is not a factor; use 0 or more"))?;
                Ok(Profile::Burst { every_ms, length_ms, factor })
            }
        }
    }

    fn foreign_parameters(&self, rate: &raw::Rate) -> Checked<()> {
        use ProfileName::{Burst, Poisson, Ramp, Sine};
        let given = [
            ("from", rate.from.is_some(), &[Ramp][..]),
            ("to", rate.to.is_some(), &[Ramp]),
            ("amplitude", rate.amplitude.is_some(), &[Sine, Poisson]),
            ("period", rate.period.is_some(), &[Sine, Poisson]),
            ("peak", rate.peak.is_some(), &[Sine, Poisson]),
            ("every", rate.every.is_some(), &[Burst]),
            ("length", rate.length.is_some(), &[Burst]),
            ("factor", rate.factor.is_some(), &[Burst]),
        ];
        for (field, given, profiles) in given {
            let ok = !given || profiles.contains(&rate.profile);
            self.require(ok, format!("rate.{field}"), "is not a parameter of this profile; remove it or change rate.profile")?;
        }
        Ok(())
    }

    fn wave(&self, rate: &raw::Rate, amplitude: f64) -> Checked<Wave> {
        self.share("rate.amplitude", amplitude)?;
        let or = |field: &str, text: &Option<String>, default: i64| match text {
            Some(text) => self.duration(format!("rate.{field}"), text),
            None => Ok(default),
        };
        let period_ms = or("period", &rate.period, DAY_MS)?;
        self.require(period_ms > 0, "rate.period", "is zero; make it longer")?;
        Ok(Wave { amplitude, period_ms, peak_ms: or("peak", &rate.peak, period_ms / 2)? })
    }

    fn share(&self, field: impl Display, value: f64) -> Checked<()> {
        self.require((0.0..=1.0).contains(&value), field, format!("{value} is not between 0 and 1"))
    }

    fn positive(&self, field: impl Display, value: f64) -> Checked<()> {
        let ok = value.is_finite() && value > 0.0 && value <= 1e12;
        self.require(ok, field, format!("{value} is not above 0 and at most 1e12"))
    }

    /// Names are there, and once.
    fn names(&self, file: &File) -> Checked<()> {
        self.unique("service", "name", file.service.iter().map(|service| service.name.as_str()))?;
        self.unique("site", "name", file.site.iter().map(|site| site.name.as_str()))?;
        self.unique("check", "name", file.check.iter().map(|check| check.name.as_str()))?;
        for (number, site) in file.site.iter().enumerate() {
            self.require(!site.pages.is_empty(), format!("site[{number}].pages"), "is empty; name at least one page")?;
            self.unique(&format!("site[{number}].pages"), "", site.pages.iter().map(String::as_str))?;
            self.tenants(&format!("site[{number}]"), &site.tenants)?;
            self.owner(&format!("site[{number}]"), site.service.as_deref(), file)?;
        }
        for (number, check) in file.check.iter().enumerate() {
            let field = format!("check[{number}].locations");
            self.require(!check.locations.is_empty(), field, "is empty; name at least one location and its region")?;
            self.tenants(&format!("check[{number}]"), &check.tenants)?;
            self.owner(&format!("check[{number}]"), check.service.as_deref(), file)?;
        }
        for (number, service) in file.service.iter().enumerate() {
            let at = format!("service[{number}]");
            self.tenants(&at, &service.tenants)?;
            self.require(!service.regions.is_empty(), format!("{at}.regions"), "is empty; use APAC, EMEA, AMER")?;
            let mut regions = service.regions.clone();
            regions.sort();
            regions.dedup();
            self.require(regions.len() == service.regions.len(), format!("{at}.regions"), "names a region twice; name each once")?;
        }
        Ok(())
    }

    fn unique<'a>(&self, table: &str, key: &str, names: impl Iterator<Item = &'a str>) -> Checked<()> {
        let mut seen = std::collections::BTreeSet::new();
        for (number, name) in names.enumerate() {
            let field = if key.is_empty() { format!("{table}[{number}]") } else { format!("{table}[{number}].{key}") };
            self.require(!name.is_empty() && name.len() <= 200, &field, "is empty or longer than 200 bytes; choose another name")?;
            self.require(seen.insert(name), &field, format!("\"{name}\" is there twice; choose another name"))?;
        }
        Ok(())
    }

    fn tenants(&self, at: &str, tenants: &[String]) -> Checked<()> {
        let ok = !tenants.is_empty() && tenants.iter().all(|tenant| !tenant.is_empty());
        self.require(ok, format!("{at}.tenants"), "names no tenant; name at least one")
    }

    fn owner(&self, at: &str, service: Option<&str>, file: &File) -> Checked<()> {
        match service {
            Some(name) => self.known_service(&format!("{at}.service"), name, file.service.iter().map(|s| &*s.name)).map(|_| ()),
            None => Ok(()),
        }
    }

    fn known_service<'a>(&self, field: &str, name: &str, services: impl Iterator<Item = &'a str>) -> Checked<usize> {
        let names: Vec<&str> = services.collect();
        match names.iter().position(|known| *known == name) {
            Some(number) => Ok(number),
            None => self.fail(field, format!("unknown service \"{name}\"; known are {}", names.join(", "))),
        }
    }

    fn numbers(&self, file: &File) -> Checked<()> {
        for (number, service) in file.service.iter().enumerate() {
            let at = |field: &str| format!("service[{number}].{field}");
            let instances = service.instances;
            self.require((1..=1000).contains(&instances), at("instances"), format!("{instances} is not between 1 and 1000"))?;
            self.positive(at("latency_ms"), service.latency_ms)?;
            self.positive(at("bytes"), service.bytes)?;
            self.positive(at("memory_bytes"), service.memory_bytes)?;
            self.share(at("cpu_ratio"), service.cpu_ratio)?;
            self.share(at("disk_ratio"), service.disk_ratio)?;
            self.variation(&format!("service[{number}]"), service.error_rate, service.daily_amplitude, service.weekly_amplitude, service.noise)?;
        }
        for (number, site) in file.site.iter().enumerate() {
            self.positive(format!("site[{number}].load_ms"), site.load_ms)?;
            self.variation(&format!("site[{number}]"), site.error_rate, site.daily_amplitude, site.weekly_amplitude, site.noise)?;
        }
        for (number, check) in file.check.iter().enumerate() {
            self.positive(format!("check[{number}].response_ms"), check.response_ms)?;
            self.variation(&format!("check[{number}]"), check.error_rate, check.daily_amplitude, check.weekly_amplitude, check.noise)?;
        }
        Ok(())
    }

    fn variation(&self, at: &str, error_rate: f64, daily: f64, weekly: f64, noise: f64) -> Checked<()> {
        self.share(format!("{at}.error_rate"), error_rate)?;
        self.share(format!("{at}.daily_amplitude"), daily)?;
        self.share(format!("{at}.weekly_amplitude"), weekly)?;
        let ok = (0.0..=2.0).contains(&noise);
        self.require(ok, format!("{at}.noise"), format!("{noise} is not between 0 and 2 (the sigma of a value's logarithm)"))
    }

    fn streams(&self, file: &File) -> Checked<()> {
        self.require(!file.stream.is_empty(), "stream", "is missing; declare at least one [[stream]]")?;
        let mut entities = 0;
        for (number, stream) in file.stream.iter().enumerate() {
            let at = format!("stream[{number}]");
            let share = stream.share;
            let again = file.stream[..number].iter().any(|other| other.kind == stream.kind);
            self.require(!again, format!("{at}.kind"), format!("{} is there twice; keep one", stream.kind.name()))?;
            let ok = share.is_finite() && share > 0.0;
            self.require(ok, format!("{at}.share"), format!("{share} is not above 0"))?;
            let of_services = matches!(stream.kind, StreamKind::ServiceCalls | StreamKind::Infrastructure);
            let field = format!("{at}.services");
            self.require(of_services || stream.services.is_none(), &field, "is for service-calls and infrastructure; remove it")?;
            for name in stream.services.iter().flatten() {
                self.known_service(&field, name, file.service.iter().map(|s| &*s.name))?;
            }
            let covered = |name: &String| stream.services.as_ref().is_none_or(|names| names.contains(name));
            let (count, table) = match stream.kind {
                StreamKind::Beacons => (file.site.iter().map(|site| site.pages.len()).sum(), "site"),
                StreamKind::Checks => (file.check.iter().map(|check| check.locations.len()).sum(), "check"),
                _ => {
                    let services = file.service.iter().filter(|service| covered(&service.name));
                    (services.map(|service| service.instances as usize).sum::<usize>(), "service")
                }
            };
            self.require(count > 0, at, format!("has no entities; declare a [[{table}]]"))?;
            entities += count;
        }
        self.require(entities <= ENTITIES_MAX, "stream", format!("{entities} entities are more than {ENTITIES_MAX}; use fewer instances"))
    }

    fn services(&self, file: &File) -> Checked<Vec<Service>> {
        let mut services: Vec<Service> =
            file.service.iter().map(|service| Service { name: service.name.clone(), dependants: Vec::new() }).collect();
        for (number, service) in file.service.iter().enumerate() {
            for (place, name) in service.depends_on.iter().enumerate() {
                let field = format!("service[{number}].depends_on[{place}]");
                let on = self.known_service(&field, name, file.service.iter().map(|s| &*s.name))?;
                services[on].dependants.push(number);
            }
        }
        for number in 0..services.len() {
            if let Some(path) = cycle_from(&services, number) {
                let names: Vec<&str> = path.iter().rev().map(|at| services[*at].name.as_str()).collect();
                let problem = format!("depends on itself: {}; remove one of these dependencies", names.join(" -> "));
                return self.fail(format!("service[{number}].depends_on"), problem);
            }
        }
        Ok(services)
    }

    fn fault(&self, at: &str, fault: &raw::Fault, scenario: &Scenario) -> Checked<DeclaredFault> {
        let targets = self.targets(at, fault, scenario)?;
        let measures = fault.stream.measures();
        let measure = fault.measure.unwrap_or(measures[0]);
        if !measures.contains(&measure) {
            let names = measures.iter().map(|measure| measure.field()).collect::<Vec<_>>().join(", ");
            let problem = format!("{} has no measure \"{}\"; use one of {names}", fault.stream.name(), measure.field());
            return self.fail(format!("{at}.measure"), problem);
        }
        let onset_ms = self.onset(&format!("{at}.onset"), &fault.onset, scenario)?;
        let duration_ms = self.duration(format!("{at}.duration"), &fault.duration)?;
        self.require(duration_ms > 0, format!("{at}.duration"), "is zero: the fault would end at its onset; make it longer")?;
        if onset_ms + duration_ms > scenario.duration_ms {
            return self.fail(format!("{at}.duration"), "the fault ends after the scenario; make it shorter or its onset earlier");
        }
        let magnitude = fault.magnitude.unwrap_or(fault.kind.default_magnitude());
        if let Some(rule) = fault.kind.magnitude_problem(magnitude) {
            return self.fail(format!("{at}.magnitude"), format!("{magnitude} is impossible; {rule}"));
        }
        if fault.kind == FaultKind::Outlier && measure.companion().is_none() {
            let problem = format!("{} has no companion that an outlier could move the other way; use duration_ms, bytes, cpu_ratio or memory_bytes", measure.field());
            return self.fail(format!("{at}.measure"), problem);
        }
        let wave = targets.iter().all(|target| scenario.entities[*target].shape.daily_amplitude > 0.0);
        if fault.kind == FaultKind::SeasonalBreak && !(wave && measure.is_seasonal()) {
            return self.fail(format!("{at}.kind"), "there is no daily wave to break; set daily_amplitude above 0 and use a measure that follows it");
        }
        let origin = if fault.correlated { Some(self.origin(at, fault, &targets, scenario)?) } else { None };
        Ok(DeclaredFault { kind: fault.kind, targets, measure, onset_ms, duration_ms, magnitude, origin })
    }

    fn targets(&self, at: &str, fault: &raw::Fault, scenario: &Scenario) -> Checked<Vec<usize>> {
        let of_stream = || scenario.entities.iter().enumerate().filter(|(_, entity)| entity.stream == fault.stream);
        match (&fault.service, &fault.entity) {
            (Some(_), Some(_)) => self.fail(format!("{at}.entity"), "contradicts service; keep one of the two"),
            (None, None) => self.fail(at, "names nobody; give service (and instance) or entity"),
            (None, Some(_)) if fault.instance.is_some() => self.fail(format!("{at}.instance"), "belongs to service, not to entity; remove it"),
            (None, Some(key)) => match of_stream().find(|(_, entity)| entity.key == *key) {
                Some((number, _)) => Ok(vec![number]),
                None => {
                    let example = of_stream().next().map_or("none", |(_, entity)| entity.key.as_str());
                    let problem = format!("{} has no entity \"{key}\"; keys look like \"{example}\"", fault.stream.name());
                    self.fail(format!("{at}.entity"), problem)
                }
            },
            (Some(name), None) => {
                let names = scenario.services.iter().map(|service| service.name.as_str());
                let service = self.known_service(&format!("{at}.service"), name, names)?;
                let all: Vec<(usize, &Entity)> = of_stream().filter(|(_, entity)| entity.service == Some(service)).collect();
                let problem = format!("service \"{name}\" has no entities in {}; add it to the stream", fault.stream.name());
                self.require(!all.is_empty(), format!("{at}.service"), problem)?;
                let Some(instance) = &fault.instance else { return Ok(all.into_iter().map(|(number, _)| number).collect()) };
                // An instance's name is the call's second field, and the end of a pod's.
                let chosen = |entity: &Entity| {
                    let last = &entity.fields[1];
                    last == instance || *last == format!("{name}-{instance}")
                };
                let known = all.iter().map(|(_, entity)| entity.fields[1].as_str()).collect::<Vec<_>>().join(", ");
                match all.iter().find(|(_, entity)| chosen(entity)) {
                    Some((number, _)) => Ok(vec![*number]),
                    None => self.fail(format!("{at}.instance"), format!("unknown instance \"{instance}\" of \"{name}\"; known are {known}")),
                }
            }
        }
    }

    fn onset(&self, field: &str, text: &str, scenario: &Scenario) -> Checked<i64> {
        let offset = humantime::parse_duration(text).ok().and_then(|offset| i64::try_from(offset.as_millis()).ok());
        let date = || text.parse::<jiff::Timestamp>().ok().map(|date| date.as_millisecond() - scenario.start_ms);
        let Some(onset_ms) = offset.or_else(date) else {
            let problem = format!("\"{text}\" is neither an offset like \"3d 4h\" nor a date like \"2026-01-08T04:00:00Z\"");
            return self.fail(field, problem);
        };
        let inside = (0..scenario.duration_ms).contains(&onset_ms);
        let length = humantime::format_duration(std::time::Duration::from_millis(scenario.duration_ms.unsigned_abs()));
        self.require(inside, field, format!("\"{text}\" is outside of the scenario; it begins at 0s and is {length} long"))?;
        Ok(onset_ms)
    }

    fn origin(&self, at: &str, fault: &raw::Fault, targets: &[usize], scenario: &Scenario) -> Checked<usize> {
        let field = format!("{at}.correlated");
        let measure = fault.measure.unwrap_or(fault.stream.measures()[0]);
        let felt = fault.kind.can_propagate() && measure.propagated(StreamKind::ServiceCalls).is_some();
        self.require(felt, &field, "dependants feel a spike, dip, level_shift or drift of duration_ms or status only; remove it")?;
        let origin = targets.first().and_then(|target| scenario.entities[*target].service);
        match origin.filter(|service| placement::origins(scenario).contains(service)) {
            Some(service) => Ok(service),
            None => self.fail(&field, "nobody depends on this service; remove it or name the service in another's depends_on"),
        }
    }

    fn random_faults(&self, rules: &raw::RandomFaults, scenario: &Scenario) -> Checked<RandomFaults> {
        let after_ms = self.onset("random_faults.after", &rules.after, scenario)?;
        let quiet_tail_ms = self.duration("random_faults.quiet_tail", &rules.quiet_tail)?;
        let min_gap_ms = self.duration("random_faults.min_gap", &rules.min_gap)?;
        let streams = rules.streams.clone().unwrap_or_else(|| scenario.streams());
        let declared = [&rules.spike, &rules.dip, &rules.level_shift, &rules.drift, &rules.outlier, &rules.seasonal_break];
        let mut kinds = Vec::new();
        let span_ms = scenario.duration_ms - after_ms - quiet_tail_ms;
        for (kind, raw) in FaultKind::ALL.into_iter().zip(declared) {
            let Some(raw) = raw else { continue };
            let at = format!("random_faults.{}", kind.name());
            let checked = self.random_kind(&at, kind, raw, scenario)?;
            if checked.duration_ms[1] >= span_ms {
                return self.fail(format!("{at}.duration"), "does not fit between after and quiet_tail; shorten it");
            }
            let hit = placement::candidates(scenario, &streams, kind).len();
            self.require(hit > 0, &at, "no entity of random_faults.streams can have this fault; remove it")?;
            let need = f64::from(checked.count) * (checked.duration_ms[1] + 2 * min_gap_ms) as f64;
            let room = hit as f64 * span_ms as f64 * ROOM_SHARE_MAX;
            let problem = format!("{} faults and their gaps do not fit; lower it or random_faults.min_gap", checked.count);
            self.require(need <= room, format!("{at}.count"), problem)?;
            kinds.push(checked);
        }
        Ok(RandomFaults { streams, after_ms, quiet_tail_ms, min_gap_ms, kinds })
    }

    fn random_kind(&self, at: &str, kind: FaultKind, raw: &raw::RandomKind, scenario: &Scenario) -> Checked<RandomKind> {
        for magnitude in raw.magnitude {
            if let Some(rule) = kind.magnitude_problem(magnitude) {
                return self.fail(format!("{at}.magnitude"), format!("{magnitude} is impossible; {rule}"));
            }
        }
        self.require(raw.magnitude[0] <= raw.magnitude[1], format!("{at}.magnitude"), "is from above to below; swap the two")?;
        let field = format!("{at}.duration");
        let duration_ms = [self.duration(&field, &raw.duration[0])?, self.duration(&field, &raw.duration[1])?];
        let ok = 0 < duration_ms[0] && duration_ms[0] <= duration_ms[1];
        self.require(ok, field, "is zero or from longer to shorter; write it like [\"20m\", \"40m\"]")?;
        let field = format!("{at}.correlated");
        self.require(raw.correlated <= raw.count, &field, format!("{} is more than count; lower it", raw.correlated))?;
        let possible = raw.correlated == 0 || (kind.can_propagate() && !placement::origins(scenario).is_empty());
        self.require(possible, &field, "nobody would feel it: only spike, dip, level_shift and drift of a service that others depend on")?;
        Ok(RandomKind { kind, count: raw.count, magnitude: raw.magnitude, duration_ms, correlated: raw.correlated })
    }
}

/// A way along dependants from a service back to itself.
fn cycle_from(services: &[Service], from: usize) -> Option<Vec<usize>> {
    let mut came: Vec<Option<usize>> = vec![None; services.len()];
    let mut queue = vec![from];
    while let Some(at) = queue.pop() {
        for &next in &services[at].dependants {
            if next == from {
                let mut path = vec![from];
                let mut back = at;
                while back != from {
                    path.push(back);
                    back = came[back]?;
                }
                path.push(from);
                path.reverse();
                return Some(path);
            }
            if came[next].is_none() {
                came[next] = Some(at);
                queue.push(next);
            }
        }
    }
    None
}

//! From a scenario file's texts to a [`Scenario`]: everything that can be wrong is found here, and said in one line.
//!
//! Invariant: what passes can be generated for any seed without an error.

mod disorder;
mod faults;
mod rate;

use super::raw::File;
use super::{Scenario, ScenarioError, Service, roster};
use crate::stream::StreamKind;
use std::fmt::Display;

/// Event times end before 2200-01-01.
const TIME_MS_MAX: i64 = 7_258_118_400_000;
const DURATION_MS_MIN: i64 = 1000;
const ENTITIES_MAX: usize = 10_000;
pub(super) const EVENTS_MAX: u64 = 1_000_000_000_000;

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
        disorder: None,
    };
    for (number, fault) in file.fault.iter().enumerate() {
        scenario.faults.push(checker.fault(&format!("fault[{number}]"), fault, &scenario)?);
    }
    if let Some(rules) = &file.random_faults {
        scenario.random_faults = Some(checker.random_faults(rules, &scenario)?);
    }
    if let Some(rules) = &file.disorder {
        scenario.disorder = Some(checker.disorder(rules, &scenario)?);
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
        self.require(
            inside,
            "scenario.start",
            "event times must lie between 1970 and 2200; move the start or shorten the duration",
        )?;
        Ok((start_ms, duration_ms))
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
            self.require(
                regions.len() == service.regions.len(),
                format!("{at}.regions"),
                "names a region twice; name each once",
            )?;
        }
        Ok(())
    }

    fn unique<'a>(&self, table: &str, key: &str, names: impl Iterator<Item = &'a str>) -> Checked<()> {
        let mut seen = std::collections::BTreeSet::new();
        for (number, name) in names.enumerate() {
            let field = if key.is_empty() { format!("{table}[{number}]") } else { format!("{table}[{number}].{key}") };
            self.require(
                !name.is_empty() && name.len() <= 200,
                &field,
                "is empty or longer than 200 bytes; choose another name",
            )?;
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
            Some(name) => {
                self.known_service(&format!("{at}.service"), name, file.service.iter().map(|s| &*s.name)).map(|_| ())
            }
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
            self.require(
                (1..=1000).contains(&instances),
                at("instances"),
                format!("{instances} is not between 1 and 1000"),
            )?;
            self.positive(at("latency_ms"), service.latency_ms)?;
            self.positive(at("bytes"), service.bytes)?;
            self.positive(at("memory_bytes"), service.memory_bytes)?;
            self.share(at("cpu_ratio"), service.cpu_ratio)?;
            self.share(at("disk_ratio"), service.disk_ratio)?;
            self.variation(
                &format!("service[{number}]"),
                service.error_rate,
                service.daily_amplitude,
                service.weekly_amplitude,
                service.noise,
            )?;
        }
        for (number, site) in file.site.iter().enumerate() {
            self.positive(format!("site[{number}].load_ms"), site.load_ms)?;
            self.variation(
                &format!("site[{number}]"),
                site.error_rate,
                site.daily_amplitude,
                site.weekly_amplitude,
                site.noise,
            )?;
        }
        for (number, check) in file.check.iter().enumerate() {
            self.positive(format!("check[{number}].response_ms"), check.response_ms)?;
            self.variation(
                &format!("check[{number}]"),
                check.error_rate,
                check.daily_amplitude,
                check.weekly_amplitude,
                check.noise,
            )?;
        }
        Ok(())
    }

    fn variation(&self, at: &str, error_rate: f64, daily: f64, weekly: f64, noise: f64) -> Checked<()> {
        self.share(format!("{at}.error_rate"), error_rate)?;
        self.share(format!("{at}.daily_amplitude"), daily)?;
        self.share(format!("{at}.weekly_amplitude"), weekly)?;
        let ok = (0.0..=2.0).contains(&noise);
        self.require(
            ok,
            format!("{at}.noise"),
            format!("{noise} is not between 0 and 2 (the sigma of a value's logarithm)"),
        )
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
            self.require(
                of_services || stream.services.is_none(),
                &field,
                "is for service-calls and infrastructure; remove it",
            )?;
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
        self.require(
            entities <= ENTITIES_MAX,
            "stream",
            format!("{entities} entities are more than {ENTITIES_MAX}; use fewer instances"),
        )
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

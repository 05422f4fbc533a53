//! Faults: who is hit, when, and whether it is possible.
//!
//! Invariant: a checked fault lies inside the scenario and has an effect.

use super::{Checked, Checker};
use crate::fault::{DeclaredFault, FaultKind, placement};
use crate::scenario::{Entity, RandomFaults, RandomKind, Scenario, raw};
use crate::stream::StreamKind;

/// Share of the room (entities x time) that random faults and their gaps may take, so that each finds a place.
const ROOM_SHARE_MAX: f64 = 0.5;

/// Entities as a table names them: all of a service, one of its instances, or one by its key.
pub(super) struct Whom<'a> {
    pub(super) stream: StreamKind,
    pub(super) service: Option<&'a str>,
    pub(super) instance: Option<&'a str>,
    pub(super) entity: Option<&'a str>,
}

impl Checker<'_> {
    pub(super) fn fault(&self, at: &str, fault: &raw::Fault, scenario: &Scenario) -> Checked<DeclaredFault> {
        let whom = Whom {
            stream: fault.stream,
            service: fault.service.as_deref(),
            instance: fault.instance.as_deref(),
            entity: fault.entity.as_deref(),
        };
        let targets = self.targets(at, &whom, scenario)?;
        let measures = fault.stream.measures();
        let measure = fault.measure.unwrap_or(measures[0]);
        if !measures.contains(&measure) {
            let names = measures.iter().map(|measure| measure.field()).collect::<Vec<_>>().join(", ");
            let problem = format!("{} has no measure \"{}\"; use one of {names}", fault.stream.name(), measure.field());
            return self.fail(format!("{at}.measure"), problem);
        }
        let onset_ms = self.onset(&format!("{at}.onset"), &fault.onset, scenario)?;
        let duration_ms = self.duration(format!("{at}.duration"), &fault.duration)?;
        self.require(
            duration_ms > 0,
            format!("{at}.duration"),
            "is zero: the fault would end at its onset; make it longer",
        )?;
        if onset_ms + duration_ms > scenario.duration_ms {
            return self.fail(
                format!("{at}.duration"),
                "the fault ends after the scenario; make it shorter or its onset earlier",
            );
        }
        let magnitude = fault.magnitude.unwrap_or(fault.kind.default_magnitude());
        if let Some(rule) = fault.kind.magnitude_problem(magnitude) {
            return self.fail(format!("{at}.magnitude"), format!("{magnitude} is impossible; {rule}"));
        }
        if fault.kind == FaultKind::Outlier && measure.companion().is_none() {
            let problem = format!(
                "{} has no companion that an outlier could move the other way; use duration_ms, bytes, cpu_ratio or memory_bytes",
                measure.field()
            );
            return self.fail(format!("{at}.measure"), problem);
        }
        let wave = targets.iter().all(|target| scenario.entities[*target].shape.daily_amplitude > 0.0);
        if fault.kind == FaultKind::SeasonalBreak && !(wave && measure.is_seasonal()) {
            return self.fail(
                format!("{at}.kind"),
                "there is no daily wave to break; set daily_amplitude above 0 and use a measure that follows it",
            );
        }
        let origin = if fault.correlated { Some(self.origin(at, fault, &targets, scenario)?) } else { None };
        Ok(DeclaredFault { kind: fault.kind, targets, measure, onset_ms, duration_ms, magnitude, origin })
    }

    pub(super) fn targets(&self, at: &str, whom: &Whom<'_>, scenario: &Scenario) -> Checked<Vec<usize>> {
        let of_stream = || scenario.entities.iter().enumerate().filter(|(_, entity)| entity.stream == whom.stream);
        match (whom.service, whom.entity) {
            (Some(_), Some(_)) => self.fail(format!("{at}.entity"), "contradicts service; keep one of the two"),
            (None, None) => self.fail(at, "names nobody; give service (and instance) or entity"),
            (None, Some(_)) if whom.instance.is_some() => {
                self.fail(format!("{at}.instance"), "belongs to service, not to entity; remove it")
            }
            (None, Some(key)) => match of_stream().find(|(_, entity)| entity.key == key) {
                Some((number, _)) => Ok(vec![number]),
                None => {
                    let example = of_stream().next().map_or("none", |(_, entity)| entity.key.as_str());
                    let problem =
                        format!("{} has no entity \"{key}\"; keys look like \"{example}\"", whom.stream.name());
                    self.fail(format!("{at}.entity"), problem)
                }
            },
            (Some(name), None) => {
                let names = scenario.services.iter().map(|service| service.name.as_str());
                let service = self.known_service(&format!("{at}.service"), name, names)?;
                let all: Vec<(usize, &Entity)> =
                    of_stream().filter(|(_, entity)| entity.service == Some(service)).collect();
                let problem =
                    format!("service \"{name}\" has no entities in {}; add it to the stream", whom.stream.name());
                self.require(!all.is_empty(), format!("{at}.service"), problem)?;
                let Some(instance) = whom.instance else {
                    return Ok(all.into_iter().map(|(number, _)| number).collect());
                };
                // An instance's name is the call's second field, and the end of a pod's.
                let chosen = |entity: &Entity| {
                    let last = &entity.fields[1];
                    last == instance || *last == format!("{name}-{instance}")
                };
                let known = all.iter().map(|(_, entity)| entity.fields[1].as_str()).collect::<Vec<_>>().join(", ");
                match all.iter().find(|(_, entity)| chosen(entity)) {
                    Some((number, _)) => Ok(vec![*number]),
                    None => self.fail(
                        format!("{at}.instance"),
                        format!("unknown instance \"{instance}\" of \"{name}\"; known are {known}"),
                    ),
                }
            }
        }
    }

    pub(super) fn onset(&self, field: &str, text: &str, scenario: &Scenario) -> Checked<i64> {
        let offset = humantime::parse_duration(text).ok().and_then(|offset| i64::try_from(offset.as_millis()).ok());
        let date = || text.parse::<jiff::Timestamp>().ok().map(|date| date.as_millisecond() - scenario.start_ms);
        let Some(onset_ms) = offset.or_else(date) else {
            let problem =
                format!("\"{text}\" is neither an offset like \"3d 4h\" nor a date like \"2026-01-08T04:00:00Z\"");
            return self.fail(field, problem);
        };
        let inside = (0..scenario.duration_ms).contains(&onset_ms);
        let length = humantime::format_duration(std::time::Duration::from_millis(scenario.duration_ms.unsigned_abs()));
        self.require(
            inside,
            field,
            format!("\"{text}\" is outside of the scenario; it begins at 0s and is {length} long"),
        )?;
        Ok(onset_ms)
    }

    fn origin(&self, at: &str, fault: &raw::Fault, targets: &[usize], scenario: &Scenario) -> Checked<usize> {
        let field = format!("{at}.correlated");
        let measure = fault.measure.unwrap_or(fault.stream.measures()[0]);
        let felt = fault.kind.can_propagate() && measure.propagated(StreamKind::ServiceCalls).is_some();
        self.require(
            felt,
            &field,
            "dependants feel a spike, dip, level_shift or drift of duration_ms or status only; remove it",
        )?;
        let origin = targets.first().and_then(|target| scenario.entities[*target].service);
        match origin.filter(|service| placement::origins(scenario).contains(service)) {
            Some(service) => Ok(service),
            None => self
                .fail(&field, "nobody depends on this service; remove it or name the service in another's depends_on"),
        }
    }

    pub(super) fn random_faults(&self, rules: &raw::RandomFaults, scenario: &Scenario) -> Checked<RandomFaults> {
        let after_ms = self.onset("random_faults.after", &rules.after, scenario)?;
        let quiet_tail_ms = self.duration("random_faults.quiet_tail", &rules.quiet_tail)?;
        let min_gap_ms = self.duration("random_faults.min_gap", &rules.min_gap)?;
        let streams = rules.streams.clone().unwrap_or_else(|| scenario.streams());
        let declared =
            [&rules.spike, &rules.dip, &rules.level_shift, &rules.drift, &rules.outlier, &rules.seasonal_break];
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
            let problem =
                format!("{} faults and their gaps do not fit; lower it or random_faults.min_gap", checked.count);
            self.require(need <= room, format!("{at}.count"), problem)?;
            kinds.push(checked);
        }
        Ok(RandomFaults { streams, after_ms, quiet_tail_ms, min_gap_ms, kinds })
    }

    fn random_kind(
        &self,
        at: &str,
        kind: FaultKind,
        raw: &raw::RandomKind,
        scenario: &Scenario,
    ) -> Checked<RandomKind> {
        for magnitude in raw.magnitude {
            if let Some(rule) = kind.magnitude_problem(magnitude) {
                return self.fail(format!("{at}.magnitude"), format!("{magnitude} is impossible; {rule}"));
            }
        }
        self.require(
            raw.magnitude[0] <= raw.magnitude[1],
            format!("{at}.magnitude"),
            "is from above to below; swap the two",
        )?;
        let field = format!("{at}.duration");
        let duration_ms = [self.duration(&field, &raw.duration[0])?, self.duration(&field, &raw.duration[1])?];
        let ok = 0 < duration_ms[0] && duration_ms[0] <= duration_ms[1];
        self.require(ok, field, "is zero or from longer to shorter; write it like [\"20m\", \"40m\"]")?;
        let field = format!("{at}.correlated");
        self.require(raw.correlated <= raw.count, &field, format!("{} is more than count; lower it", raw.correlated))?;
        let possible = raw.correlated == 0 || (kind.can_propagate() && !placement::origins(scenario).is_empty());
        self.require(
            possible,
            &field,
            "nobody would feel it: only spike, dip, level_shift and drift of a service that others depend on",
        )?;
        Ok(RandomKind { kind, count: raw.count, magnitude: raw.magnitude, duration_ms, correlated: raw.correlated })
    }
}

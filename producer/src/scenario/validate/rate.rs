//! How many events, and when: each profile with its own parameters and no others.
//!
//! Invariant: a checked profile has a positive rate somewhere.

use super::{Checked, Checker, EVENTS_MAX};
use crate::rate::{Profile, Wave};
use crate::scenario::ScenarioError;
use crate::scenario::raw::{self, ProfileName};
use crate::shape::DAY_MS;

impl Checker<'_> {
    pub(super) fn events(&self, rate: &raw::Rate, duration_ms: i64) -> Checked<u64> {
        match (rate.events, rate.events_per_second) {
            (Some(events), None) => {
                self.require(
                    (1..=EVENTS_MAX).contains(&events),
                    "rate.events",
                    format!("{events} is not between 1 and {EVENTS_MAX}"),
                )?;
                Ok(events)
            }
            (None, Some(per_second)) => {
                let events = per_second * duration_ms as f64 / 1000.0;
                let ok = events.is_finite() && events >= 1.0 && events <= EVENTS_MAX as f64;
                let problem = format!(
                    "{per_second} gives {events} events over the scenario; at least 1 and at most {EVENTS_MAX} are needed"
                );
                self.require(ok, "rate.events_per_second", problem)?;
                Ok(events.round() as u64)
            }
            (None, None) => self.fail("rate", "says nothing of how many; give either events or events_per_second"),
            (Some(_), Some(_)) => self.fail("rate.events_per_second", "contradicts rate.events; keep one of the two"),
        }
    }

    pub(super) fn profile(&self, rate: &raw::Rate) -> Checked<Profile> {
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
                self.require(
                    length_ms < every_ms,
                    "rate.length",
                    "is not shorter than rate.every; a burst must end before the next",
                )?;
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
            self.require(
                ok,
                format!("rate.{field}"),
                "is not a parameter of this profile; remove it or change rate.profile",
            )?;
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
}

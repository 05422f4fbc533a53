//! What is forecast of a series.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ConfigError, Span};
use crate::window::Window;

const DAY_MS: i64 = 86_400_000;
/// Parts that the first season has for forecasts by slots.
const SLOTS: i64 = 24;
/// Horizons at which experts are compared, at most, and how much further away each is than the one before, at least.
const COMPARED_MAX: usize = 6;
const COMPARED_RATIO: f64 = 1.9;
/// Horizons and levels that may be asked for.
const HORIZONS_MAX: usize = 64;
const LEVELS_MAX: usize = 4;
/// The furthest that is forecast, in slots of the first season.
const SLOTS_AHEAD_MAX: i64 = 336;

/// How much is spent on a series' forecast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The best forecast: 2.5 us a window, and 7 to 9 kB of state, 9 to 12 kB in memory.
    #[default]
    Full,
    /// By profiles and averages alone: .6 us a window, and 2 kB of state, 2.7 kB in memory.
    Light,
    /// None.
    Off,
}

/// What is forecast of each series of a measure: a table, or the bare name of a tier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ForecastSettings {
    /// How much is spent on it.
    pub tier: Tier,
    /// Left out: a day and a week, as far as they are longer than a window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seasons: Option<Seasons>,
    /// How far ahead the forecasts topic looks; empty: one window only, and nothing is written there.
    pub horizons: Vec<Span>,
    /// A path goes to the forecasts topic each time that event time passes a multiple of this.
    pub emit_every: Span,
    /// Shares of the values that bands are to contain.
    pub levels: Vec<f64>,
    /// The IANA name of the time zone in which the seasons are; left out: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

impl Default for ForecastSettings {
    fn default() -> Self {
        Self {
            tier: Tier::Full,
            seasons: None,
            horizons: Vec::new(),
            emit_every: Span::from_millis(3_600_000),
            levels: vec![0.8, 0.95],
            time_zone: None,
        }
    }
}

/// The seasons of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seasons {
    /// Found from the series' own autocorrelation.
    Auto,
    /// Spans of time, the shortest first: none, one or two.
    Named(Vec<Span>),
}

impl Seasons {
    const AUTO: &str = "auto";
}

impl Serialize for Seasons {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str(Self::AUTO),
            Self::Named(spans) => spans.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Seasons {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Seasons;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\" or spans such as [\"24h\", \"7d\"]")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Seasons, E> {
                if text == Seasons::AUTO {
                    return Ok(Seasons::Auto);
                }
                Err(E::invalid_value(de::Unexpected::Str(text), &self))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, spans: A) -> Result<Seasons, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(spans)).map(Seasons::Named)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// The table, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    tier: Tier,
    seasons: Option<Seasons>,
    horizons: Vec<Span>,
    emit_every: Span,
    levels: Vec<f64>,
    time_zone: Option<String>,
}

impl Default for Table {
    fn default() -> Self {
        let ForecastSettings { tier, seasons, horizons, emit_every, levels, time_zone } = ForecastSettings::default();
        Self { tier, seasons, horizons, emit_every, levels, time_zone }
    }
}

impl From<Table> for ForecastSettings {
    fn from(Table { tier, seasons, horizons, emit_every, levels, time_zone }: Table) -> Self {
        Self { tier, seasons, horizons, emit_every, levels, time_zone }
    }
}

impl<'de> Deserialize<'de> for ForecastSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = ForecastSettings;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"full\", \"light\", \"off\" or a table such as { horizons = [\"1h\"] }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ForecastSettings, E> {
                let tier = match text {
                    "full" => Tier::Full,
                    "light" => Tier::Light,
                    "off" => Tier::Off,
                    _ => return Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                };
                Ok(ForecastSettings { tier, ..ForecastSettings::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ForecastSettings, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(ForecastSettings::from)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// A forecast, validated. Horizons are counted in steps: one window, or one slide of hopping windows.
#[derive(Clone, Debug, PartialEq)]
pub struct ForecastParams {
    /// How much is spent on it; never [`Tier::Off`].
    pub tier: Tier,
    /// Lengths of the seasons, the shorter first, in ms; none where they are found.
    pub seasons_ms: Vec<i64>,
    /// Whether seasons are found from the series itself.
    pub finds_seasons: bool,
    /// Horizons in steps, ascending; empty: no path is emitted.
    pub horizons: Vec<u32>,
    /// Those of them at which forecasts are judged, from 1 on.
    pub compared: Vec<u32>,
    /// A path is emitted each time that event time passes a multiple of this, in ms.
    pub emit_every_ms: i64,
    /// Shares of the values that bands are to contain, ascending; [`Self::LEVEL`] is always one.
    pub levels: Vec<f64>,
    /// Local time; none: UTC.
    zone: Option<Zone>,
    identity: u32,
}

/// From when on (ms since 1970) local time is how many ms ahead of UTC.
#[derive(Clone, Debug, PartialEq)]
struct Zone(Arc<[(i64, i64)]>);

impl Zone {
    fn named(name: &str) -> Result<Self, String> {
        let zone = TimeZone::get(name)
            .map_err(|_| format!("is `{name}`, which is no time zone; write one like \"Europe/Berlin\""))?;
        let offset = |at: Timestamp| i64::from(zone.to_offset(at).seconds()) * 1_000;
        let mut changes = vec![(i64::MIN, offset(Timestamp::UNIX_EPOCH))];
        // 130 years of them; what comes after keeps the last one.
        let end = Timestamp::from_second(4_102_444_800).map_err(|error| error.to_string())?;
        let later = zone.following(Timestamp::UNIX_EPOCH).map(|change| change.timestamp());
        changes.extend(later.take_while(|at| *at < end).map(|at| (at.as_millisecond(), offset(at))));
        Ok(Self(changes.into()))
    }

    fn offset(&self, ms: i64) -> i64 {
        self.0[self.0.partition_point(|(from, _)| *from <= ms) - 1].1
    }
}

impl ForecastParams {
    /// The level of the band that every window's record has.
    pub const LEVEL: f64 = 0.95;

    /// Local time, in ms since 1970 there.
    pub(crate) fn local_ms(&self, ms: i64) -> i64 {
        ms + self.zone.as_ref().map_or(0, |zone| zone.offset(ms))
    }

    /// What a forecaster has to be made for: another one where this differs.
    #[must_use]
    pub const fn identity(&self) -> u32 {
        self.identity
    }

    /// The furthest horizon, in steps.
    pub(crate) fn last_horizon(&self) -> u32 {
        self.compared.last().copied().unwrap_or(1)
    }

    pub(super) fn from_settings(
        f: &ForecastSettings,
        window: Window,
        at: &impl Fn(&str) -> String,
        wrong: &impl Fn(&str, String) -> ConfigError,
    ) -> Result<Option<Self>, ConfigError> {
        if f.tier == Tier::Off {
            return Ok(None);
        }
        if matches!(window, Window::Session { .. }) {
            let problem = "forecasts windows that follow one another, and session windows do not; leave it out".into();
            return Err(wrong(&at("forecast"), problem));
        }
        let step_ms = window.step_ms();
        let finds_seasons = f.seasons == Some(Seasons::Auto);
        let seasons_ms = seasons(f, step_ms, at, wrong)?;
        let horizons = horizons(f, step_ms, &seasons_ms, at, wrong)?;
        if f.emit_every.as_millis() == 0 {
            return Err(wrong(&at("forecast.emit_every"), "is 0; write for example \"1h\"".into()));
        }
        let zone = f.time_zone.as_deref().map(Zone::named).transpose();
        let zone = zone.map_err(|problem| wrong(&at("forecast.time_zone"), problem))?;
        let (compared, levels) = (compared(&horizons), levels(f, at, wrong)?);
        let text = format!("{:?} {finds_seasons} {seasons_ms:?} {compared:?} {levels:?} {:?}", f.tier, f.time_zone);
        Ok(Some(Self {
            tier: f.tier,
            seasons_ms,
            finds_seasons,
            compared,
            horizons,
            emit_every_ms: f.emit_every.as_millis(),
            levels,
            zone,
            identity: crc32c::crc32c(text.as_bytes()),
        }))
    }
}

fn seasons(
    f: &ForecastSettings,
    step_ms: i64,
    at: &impl Fn(&str) -> String,
    wrong: &impl Fn(&str, String) -> ConfigError,
) -> Result<Vec<i64>, ConfigError> {
    let seasons = match &f.seasons {
        Some(Seasons::Named(seasons)) => seasons,
        Some(Seasons::Auto) => return Ok(Vec::new()),
        None => {
            let fits = |season_ms: &i64| season_ms % step_ms == 0 && *season_ms >= 2 * step_ms;
            return Ok([DAY_MS, 7 * DAY_MS].into_iter().filter(fits).collect());
        }
    };
    if seasons.len() > 2 {
        return Err(wrong(&at("forecast.seasons"), "has more than two seasons; name at most a day and a week".into()));
    }
    let mut before = 0;
    for season in seasons {
        let season_ms = season.as_millis();
        if season_ms % step_ms != 0 || season_ms < 2 * step_ms {
            let step = Span::from_millis(step_ms);
            let problem = format!("has `{season}`, which is not a whole number, at least 2, of steps of {step}");
            return Err(wrong(&at("forecast.seasons"), problem));
        }
        if season_ms <= before {
            return Err(wrong(
                &at("forecast.seasons"),
                format!("has `{season}` behind a longer one; name the shorter first"),
            ));
        }
        if before > 0 && season_ms > 60 * before {
            let problem = format!("has `{season}`, more than 60 times as long as the one before");
            return Err(wrong(&at("forecast.seasons"), problem));
        }
        before = season_ms;
    }
    Ok(seasons.iter().map(|season| season.as_millis()).collect())
}

/// How long a slot is: a 24th of the first season, but no shorter than a window.
pub(crate) fn slot_ms(first_season_ms: Option<i64>, step_ms: i64) -> i64 {
    first_season_ms.map_or(step_ms, |season_ms| (season_ms / SLOTS).max(step_ms))
}

fn horizons(
    f: &ForecastSettings,
    step_ms: i64,
    seasons_ms: &[i64],
    at: &impl Fn(&str) -> String,
    wrong: &impl Fn(&str, String) -> ConfigError,
) -> Result<Vec<u32>, ConfigError> {
    if f.horizons.len() > HORIZONS_MAX {
        return Err(wrong(&at("forecast.horizons"), format!("has more than {HORIZONS_MAX} entries")));
    }
    let first_ms = if f.seasons == Some(Seasons::Auto) { Some(DAY_MS) } else { seasons_ms.first().copied() };
    let slot_ms = slot_ms(first_ms, step_ms);
    let most_ms = SLOTS_AHEAD_MAX * slot_ms;
    let mut steps: Vec<u32> = Vec::with_capacity(f.horizons.len());
    for horizon in &f.horizons {
        let ms = horizon.as_millis();
        if ms % step_ms != 0 || ms < step_ms {
            let step = Span::from_millis(step_ms);
            let problem = format!("has `{horizon}`, which is not a whole number, at least 1, of steps of {step}");
            return Err(wrong(&at("forecast.horizons"), problem));
        }
        if ms > most_ms {
            let problem = format!("has `{horizon}`; {} is the furthest", Span::from_millis(most_ms));
            return Err(wrong(&at("forecast.horizons"), problem));
        }
        let count = u32::try_from(ms / step_ms).unwrap_or(u32::MAX);
        if steps.last().is_some_and(|&last| last >= count) {
            let problem =
                format!("has `{horizon}` behind one that is as far or further; name the nearest first, each once");
            return Err(wrong(&at("forecast.horizons"), problem));
        }
        steps.push(count);
    }
    Ok(steps)
}

fn levels(
    f: &ForecastSettings,
    at: &impl Fn(&str) -> String,
    wrong: &impl Fn(&str, String) -> ConfigError,
) -> Result<Vec<f64>, ConfigError> {
    if f.levels.len() > LEVELS_MAX {
        return Err(wrong(&at("forecast.levels"), format!("has more than {LEVELS_MAX} entries")));
    }
    if let Some(level) = f.levels.iter().find(|level| !(0.5..=0.999).contains(*level)) {
        return Err(wrong(&at("forecast.levels"), format!("has {level}; a level lies between 0.5 and 0.999")));
    }
    let mut levels = f.levels.clone();
    levels.push(ForecastParams::LEVEL);
    levels.sort_by(f64::total_cmp);
    levels.dedup();
    Ok(levels)
}

/// The horizons at which forecasts are judged: all, if they are few.
fn compared(horizons: &[u32]) -> Vec<u32> {
    let mut all = vec![1];
    all.extend(horizons.iter().filter(|&&steps| steps > 1));
    if all.len() <= COMPARED_MAX {
        return all;
    }
    let last = all[all.len() - 1];
    let mut kept = vec![1];
    // As many as there may be, as evenly spread as their ratios allow.
    let ratio = libm::pow(f64::from(last), 1.0 / (COMPARED_MAX - 1) as f64).max(COMPARED_RATIO);
    for steps in all {
        let before = kept[kept.len() - 1];
        if f64::from(steps) >= ratio * f64::from(before) && f64::from(last) >= 1.3 * f64::from(steps) {
            kept.push(steps);
        }
    }
    kept.push(last);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_many_steps_is_judged_at_few() {
        assert_eq!(compared(&[]), [1]);
        assert_eq!(compared(&[6, 12]), [1, 6, 12]);
        let day: Vec<u32> = (1..=24).collect();
        assert_eq!(compared(&day), [1, 2, 4, 8, 16, 24]);
        let two_days: Vec<u32> = (1..=48).collect();
        assert_eq!(compared(&two_days), [1, 3, 7, 16, 35, 48]);
    }

    #[test]
    fn local_time_follows_daylight_saving() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        // 2026-03-29 01:00 UTC: from +1 to +2; 2026-10-25 01:00 UTC: back.
        let hours = |ms: i64| zone.offset(ms) / 3_600_000;
        assert_eq!(
            [1_774_745_999_999, 1_774_746_000_000, 1_792_889_999_999, 1_792_890_000_000].map(hours),
            [1, 2, 2, 1]
        );
        assert!(Zone::named("Mars/Olympus").unwrap_err().contains("no time zone"));
    }
}

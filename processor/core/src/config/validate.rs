//! From what a user wrote to a [`StreamConfig`] in which every value makes sense.

use std::collections::{BTreeMap, BTreeSet};

use tidewatch_schemas::catalogue::topic_name_problem;

use super::{
    Aggregate, AlertSettings, Bootstrap, ConfigError, DropoutAfter, ForecastParams, Format, Guards, IsolationForest,
    Limit, Revisions, Span, StreamSettings, TimeUnit, WindowSettings,
};
use crate::alert::Pace;
use crate::detect::DetectorKind;
use crate::detect::forest::FEATURES_MAX;
use crate::ids::IdMemory;
use crate::window::Window;

/// Windows that one pane may belong to; more of them are a mistake in the slide.
const PANES_MAX: i64 = 10_000;
/// Fields that name an entity.
const ENTITY_FIELDS_MAX: usize = 32;
/// Ids of an entity that are remembered, at most: 16 bytes each in its record, which has 16 MiB.
const EVENT_IDS_MAX: usize = 500_000;
/// Fields that events are chosen by.
const ONLY_MAX: usize = 16;
/// Measures, aggregates and horizons that one stream may declare.
const LIST_MAX: usize = 64;
/// Entities that a partition may remember: they are numbered in 32 bits.
const ENTITIES_MAX: usize = 1 << 31;

/// A stream's declaration, validated. Shared by all engines of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamConfig {
    /// Its name in what is written.
    pub name: String,
    /// The input topic.
    pub topic: String,
    /// How its values are written.
    pub format: Format,
    /// Files with the schemas of its writers.
    pub schemas: Vec<super::SchemaSource>,
    /// Whether a partition that nobody has read yet is learnt from without alerts, up to its end.
    pub bootstrap: Bootstrap,
    /// The fields whose values name the entity.
    pub entity: Vec<String>,
    /// Those of them that name its cohort, by their places.
    pub cohort: Vec<usize>,
    /// Which forest judges the series of an entity together.
    pub isolation_forest: IsolationForest,
    /// The field with the event's time.
    pub event_time: String,
    /// The unit of an event time that is a bare number.
    pub event_time_unit: TimeUnit,
    /// How event time is cut.
    pub window: Window,
    /// How far events may be out of order, in ms.
    pub disorder_ms: i64,
    /// How much longer a window takes late events in, in ms.
    pub lateness_ms: i64,
    /// Whether windows are told at their end and revised, or once when they are final.
    pub revisions: Revisions,
    /// Silence, in ms, after which event time goes on as the clock does; `None`: it waits for the next record.
    pub idle_timeout_ms: Option<i64>,
    /// How far an event's time may be after its record's timestamp, in ms.
    pub future_max_ms: i64,
    /// The field with the event's id, and how ids are remembered.
    pub event_id: Option<(String, IdMemory)>,
    /// Fields and the values that events to be taken in have there.
    pub only: BTreeMap<String, Vec<String>>,
    /// Entities that one partition remembers.
    pub entities_max: usize,
    /// The seed of the forests' random cuts.
    pub seed: u64,
    /// The numbers that are watched, at least one.
    pub measures: Vec<Measure>,
    /// When a person hears of an anomaly.
    pub alert: AlertSettings,
    /// How often alerts may be false.
    pub pace: Pace,
    /// Missing windows in a row that open a `dropout` alert.
    pub dropout_after: Option<DropoutAfter>,
    /// Which measures keep a sketch of the distribution.
    pub quantiles: Vec<bool>,
}

/// A measure, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// Its name in what is written.
    pub name: String,
    /// The event's field that holds it.
    pub field: String,
    /// Its unit, for people.
    pub unit: Option<String>,
    /// The series that are watched, at least one.
    pub aggregates: Vec<Aggregate>,
    /// The detectors of each series, each kind once, in a fixed order.
    pub detectors: Vec<DetectorKind>,
    /// The forecast of each series.
    pub forecast: Option<ForecastParams>,
    /// What one of the series must not pass.
    pub limit: Option<Limit>,
    /// What of it is worth an alert.
    pub guards: Guards,
}

impl Measure {
    /// Whether its summary needs a sketch of the distribution.
    #[must_use]
    pub fn needs_quantiles(&self) -> bool {
        self.aggregates.iter().any(|aggregate| aggregate.quantile().is_some())
    }
}

impl StreamConfig {
    pub(super) fn from_settings(s: &StreamSettings) -> Result<Self, ConfigError> {
        let wrong =
            |setting: &str, problem: String| ConfigError { stream: s.name.clone(), setting: setting.into(), problem };
        for (setting, text) in [("name", &s.name), ("topic", &s.topic), ("event_time", &s.event_time)] {
            if text.is_empty() {
                return Err(wrong(setting, "is empty".into()));
            }
        }
        if let Some(problem) = topic_name_problem(&s.topic) {
            return Err(wrong("topic", problem));
        }
        check_path("event_time", &s.event_time, &wrong)?;
        if s.entity.is_empty() || s.entity.iter().any(String::is_empty) {
            return Err(wrong("entity", "names no field; name those that tell whose telemetry an event is".into()));
        }
        if s.entity.len() > ENTITY_FIELDS_MAX {
            return Err(wrong(
                "entity",
                format!("names {} fields; at most {ENTITY_FIELDS_MAX} are sensible", s.entity.len()),
            ));
        }
        let mut fields = BTreeSet::new();
        for field in &s.entity {
            check_path("entity", field, &wrong)?;
            if !fields.insert(field) {
                return Err(wrong("entity", format!("names `{field}` twice")));
            }
        }
        let mut cohort = Vec::with_capacity(s.cohort.len());
        for field in &s.cohort {
            let at = s.entity.iter().position(|other| other == field);
            let problem = || format!("names `{field}`, which is not one of `entity`: {}", s.entity.join(", "));
            cohort.push(at.ok_or_else(|| wrong("cohort", problem()))?);
        }
        cohort.sort_unstable();
        if cohort.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(wrong("cohort", "names a field twice".into()));
        }
        if s.entities_max == 0 {
            return Err(wrong("entities_max", "is 0; no entity could be remembered".into()));
        }
        if s.entities_max > ENTITIES_MAX {
            return Err(wrong("entities_max", format!("is {}; write at most {ENTITIES_MAX}", s.entities_max)));
        }
        let window = Self::window(s, &wrong)?;
        if s.measures.is_empty() || s.measures.len() > LIST_MAX {
            return Err(wrong("measure", format!("has {} entries; declare 1 to {LIST_MAX}", s.measures.len())));
        }
        let mut names = BTreeSet::new();
        let mut measures = Vec::with_capacity(s.measures.len());
        for measure in &s.measures {
            if !names.insert(&measure.name) {
                return Err(wrong("measure.name", format!("`{}` is declared twice", measure.name)));
            }
            measures.push(Measure::from_settings(measure, window, &wrong)?);
        }
        check_forest(&measures, &wrong)?;
        check_alert(&s.alert, window, &wrong)?;
        if matches!(window, Window::Session { .. }) {
            if s.alert.dropout_after.is_some() {
                return Err(wrong(
                    "alert.dropout_after",
                    "needs windows of a fixed length; a session ends by silence".into(),
                ));
            }
            if let Some(measure) = measures.iter().find(|measure| measure.forecast.is_some()) {
                let setting = format!("measure.{}.forecast", measure.name);
                return Err(wrong(&setting, "needs windows of a fixed length; sessions come at no fixed times".into()));
            }
        }
        for (field, values) in &s.only {
            check_path("only", field, &wrong)?;
            if values.is_empty() {
                let setting = format!("only.{field}");
                return Err(wrong(&setting, "names no value; write for example [\"EMEA\"]".into()));
            }
        }
        if s.only.len() > ONLY_MAX {
            return Err(wrong("only", format!("names {} fields; at most {ONLY_MAX} are sensible", s.only.len())));
        }
        if let Some(field) = &s.event_id {
            check_path("event_id", field, &wrong)?;
        }
        if s.event_ids_max == 0 {
            return Err(wrong("event_ids_max", "is 0; leave `event_id` out to remember none".into()));
        }
        if s.event_ids_max > EVENT_IDS_MAX {
            let count = s.event_ids_max;
            return Err(wrong(
                "event_ids_max",
                format!("is {count}; an entity's state is one record, so write {EVENT_IDS_MAX} at most"),
            ));
        }
        let memory = IdMemory { memory_ms: s.event_id_memory.as_millis(), capacity: s.event_ids_max };
        Ok(Self {
            name: s.name.clone(),
            topic: s.topic.clone(),
            format: s.format,
            schemas: s.schemas.clone(),
            bootstrap: s.bootstrap,
            entity: s.entity.clone(),
            cohort,
            isolation_forest: s.isolation_forest,
            event_time: s.event_time.clone(),
            event_time_unit: s.event_time_unit,
            window,
            disorder_ms: s.disorder.as_millis(),
            lateness_ms: s.lateness.as_millis(),
            revisions: s.revisions,
            idle_timeout_ms: Some(s.idle_timeout.as_millis()).filter(|&ms| ms > 0),
            future_max_ms: s.future_max.as_millis(),
            event_id: s.event_id.clone().map(|field| (field, memory)),
            only: s.only.clone(),
            entities_max: s.entities_max,
            seed: s.seed,
            quantiles: measures.iter().map(Measure::needs_quantiles).collect(),
            measures,
            pace: Pace {
                asked: s.alert.false_alarms.within(window.step_ms()),
                repeat_ms: s.alert.repeat_after.as_millis(),
            },
            alert: s.alert.clone(),
            dropout_after: s.alert.dropout_after,
        })
    }

    fn window(s: &StreamSettings, wrong: &impl Fn(&str, String) -> ConfigError) -> Result<Window, ConfigError> {
        let (size, slide) = match s.window {
            WindowSettings::Tumbling(size) => (size, size),
            WindowSettings::Hopping([size, slide]) => (size, slide),
            WindowSettings::Session(gap) if gap.as_millis() == 0 => {
                return Err(wrong("window", "has no gap; write for example { session = \"30s\" }".into()));
            }
            WindowSettings::Session(gap) => return Ok(Window::Session { gap_ms: gap.as_millis() }),
        };
        let (size_ms, slide_ms) = (size.as_millis(), slide.as_millis());
        if size_ms == 0 || slide_ms == 0 {
            return Err(wrong("window", "has no length; write for example { tumbling = \"10s\" }".into()));
        }
        if size_ms % slide_ms != 0 {
            return Err(wrong("window", format!("of {size} is not a whole number of slides of {slide}")));
        }
        if size_ms / slide_ms > PANES_MAX {
            return Err(wrong(
                "window",
                format!("of {size} has more than {PANES_MAX} slides of {slide}; use a longer slide"),
            ));
        }
        Ok(Window::Fixed { size_ms, slide_ms })
    }

    /// Whether all of an entity is under maintenance at times.
    pub(crate) fn has_maintenance(&self) -> bool {
        self.measures.iter().all(|measure| !measure.guards.maintenance.is_empty())
    }

    /// Whether all measures of a window are under maintenance.
    pub(crate) fn is_maintained(&self, start_ms: i64, end_ms: i64) -> bool {
        self.measures.iter().all(|measure| measure.guards.is_maintained(start_ms, end_ms))
    }

    /// Number of series that each entity has.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.measures.iter().map(|measure| measure.aggregates.len()).sum()
    }

    /// Number of series that a cohort's forest judges together: two at least, else there is none.
    pub(crate) fn joint_series(&self) -> usize {
        if self.isolation_forest == IsolationForest::Cohort { self.forest_series() } else { 0 }
    }

    /// The same of an entity's own forest.
    pub(crate) fn own_series(&self) -> usize {
        if self.isolation_forest == IsolationForest::Online { self.forest_series() } else { 0 }
    }

    /// The series that are learnt together, and what of each is, as text: what is known of them under another one says nothing of these.
    pub(crate) fn series_signature(&self) -> String {
        let mut text = format!("{:?}", self.isolation_forest);
        for measure in &self.measures {
            let forest = measure.detectors.contains(&DetectorKind::IsolationForest);
            let usual = measure.detectors.iter().any(|kind| kind.needs_usual());
            text += &format!(" {} {:?} {forest} {usual}", measure.name, measure.aggregates);
        }
        text
    }

    fn forest_series(&self) -> usize {
        let series = forest_series(&self.measures);
        if series > 1 { series } else { 0 }
    }

    /// What the saved state depends on, as text: state written under another one cannot be used. Which records are taken in (`only`,
    /// `future_max`) may change: it holds from the next record on, and of those that are read again for their state.
    #[must_use]
    pub fn state_signature(&self) -> String {
        let time = (&self.event_time, self.event_time_unit, self.disorder_ms, self.lateness_ms, self.revisions);
        let mut text = format!("{:?} {:?} {} {time:?} {:?}", self.window, self.entity, self.seed, self.event_id);
        for m in &self.measures {
            text += &format!(" {} {} {:?}", m.name, m.field, m.aggregates);
        }
        text
    }
}

impl Measure {
    fn from_settings(
        m: &super::MeasureSettings,
        window: Window,
        wrong: &impl Fn(&str, String) -> ConfigError,
    ) -> Result<Self, ConfigError> {
        let at = |setting: &str| format!("measure.{}.{setting}", m.name);
        for (setting, text) in [("name", &m.name), ("field", &m.field)] {
            if text.is_empty() {
                return Err(wrong(&at(setting), "is empty".into()));
            }
        }
        check_path(&at("field"), &m.field, wrong)?;
        if m.aggregates.is_empty() {
            return Err(wrong(
                &at("aggregates"),
                "is empty; each aggregate is a series, for example [\"mean\", \"p95\"]".into(),
            ));
        }
        if m.aggregates.iter().collect::<BTreeSet<_>>().len() != m.aggregates.len() {
            return Err(wrong(&at("aggregates"), "names an aggregate twice".into()));
        }
        let detectors: BTreeSet<DetectorKind> = m.detectors.iter().copied().collect();
        if detectors.len() != m.detectors.len() {
            return Err(wrong(&at("detectors"), "names a detector twice".into()));
        }
        if detectors.contains(&DetectorKind::ValidRange) {
            let problem = "names `valid-range`, which guards.valid_range asks for".into();
            return Err(wrong(&at("detectors"), problem));
        }
        let guards = &m.guards;
        for (setting, least) in
            [("min_deviation", guards.min_deviation), ("min_deviation_ratio", guards.min_deviation_ratio)]
        {
            if !(least.is_finite() && least >= 0.0) {
                return Err(wrong(&at(&format!("guards.{setting}")), format!("is {least}; it is 0 or more")));
            }
        }
        if let Some([low, high]) = guards.valid_range
            && (low.is_nan() || high.is_nan() || low >= high)
        {
            let problem = format!("is [{low}, {high}]; write the lower end first");
            return Err(wrong(&at("guards.valid_range"), problem));
        }
        if let Window::Fixed { size_ms, .. } = window
            && let Some(covers_all) = guards.maintenance.iter().find(|maintenance| maintenance.covers_all(size_ms))
        {
            let problem = format!(
                "has \"{covers_all}\", which falls into every window of {}: nothing would ever be judged; use a shorter window",
                Span::from_millis(size_ms)
            );
            return Err(wrong(&at("guards.maintenance"), problem));
        }
        let forecast = m.forecast.as_ref().map(|f| ForecastParams::from_settings(f, window, &at, wrong)).transpose()?;
        let forecast = forecast.flatten();
        let limit = m.limit.as_ref().map(|limit| {
            if forecast.as_ref().is_none_or(|forecast| forecast.horizons.is_empty()) {
                let problem =
                    "needs forecasts; write for example forecast = { horizons = [\"1h\"] }, the furthest is how early";
                return Err(wrong(&at("limit"), problem.into()));
            }
            Limit::from_settings(limit, &m.aggregates, |setting, problem| wrong(&at(setting), problem))
        });
        let limit = limit.transpose()?;
        Ok(Self {
            name: m.name.clone(),
            field: m.field.clone(),
            unit: m.unit.clone(),
            aggregates: m.aggregates.clone(),
            detectors: detectors.into_iter().collect(),
            forecast,
            limit,
            guards: m.guards.clone(),
        })
    }
}

/// Series that a forest is asked for.
fn forest_series(measures: &[Measure]) -> usize {
    let with_forest = |measure: &&Measure| measure.detectors.contains(&DetectorKind::IsolationForest);
    measures.iter().filter(with_forest).map(|measure| measure.aggregates.len()).sum()
}

fn check_forest(measures: &[Measure], wrong: &impl Fn(&str, String) -> ConfigError) -> Result<(), ConfigError> {
    let series = forest_series(measures);
    if series > FEATURES_MAX {
        let problem = format!(
            "asks for an isolation forest over {series} series (each aggregate is one); leave `isolation-forest` out of the detectors of \
             some, {FEATURES_MAX} at most"
        );
        return Err(wrong("measure", problem));
    }
    Ok(())
}

/// Checks the path to a field: names, with dots between them.
fn check_path(setting: &str, path: &str, wrong: &impl Fn(&str, String) -> ConfigError) -> Result<(), ConfigError> {
    if path.split('.').any(str::is_empty) {
        return Err(wrong(setting, format!("has the field `{path}`; write names with one dot between them")));
    }
    Ok(())
}

fn check_alert(
    a: &AlertSettings,
    window: Window,
    wrong: &impl Fn(&str, String) -> ConfigError,
) -> Result<(), ConfigError> {
    if a.dropout_after == Some(DropoutAfter::Windows(0)) {
        return Err(wrong("alert.dropout_after", "is 0; it counts missing windows from 1".into()));
    }
    if let (Some(DropoutAfter::Windows(after)), Window::Fixed { slide_ms, .. }) = (a.dropout_after, window)
        && i64::from(after) > Span::MAX.as_millis() / slide_ms
    {
        let most = Span::MAX.as_millis() / slide_ms;
        let step = Span::from_millis(slide_ms);
        return Err(wrong("alert.dropout_after", format!("is {after}; {most} steps of {step} are ten years")));
    }
    if a.open_after == 0 || a.resolve_after == 0 || a.sustained_after == 0 {
        return Err(wrong(
            "alert",
            "has a count of 0; open_after, resolve_after and sustained_after start at 1".into(),
        ));
    }
    if !(a.calm_below > 0.0 && a.calm_below <= 1.0) {
        return Err(wrong("alert.calm_below", format!("is {}; it lies above 0 and at most at 1", a.calm_below)));
    }
    if a.open_at_once.is_nan() || a.open_at_once < 1.0 {
        return Err(wrong("alert.open_at_once", format!("is {}; it is at least 1", a.open_at_once)));
    }
    let [medium, high, critical] = a.severities;
    if !(1.0 <= medium && medium <= high && high <= critical) {
        return Err(wrong("alert.severities", "must ascend from at least 1".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

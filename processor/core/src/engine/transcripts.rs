//! The files of `transcripts/` against the engine: every line of theirs is true.

use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::config::StreamSettings;

fn engine(settings: &str) -> Engine {
    let measure = serde_json::json!([{ "name": "latency", "field": "ms", "detectors": [] }]);
    let mut declared = serde_json::json!({
        "name": "calls", "topic": "calls.v1", "format": "json", "entity": ["service"], "event_time": "at",
        "disorder": "0s", "measure": measure,
    });
    let given: serde_json::Value = serde_json::from_str(settings).unwrap();
    declared.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
    let settings: StreamSettings = serde_json::from_value(declared).unwrap();
    Engine::new(settings.validate().unwrap(), 0)
}

/// `01:40.250` to ms.
fn ms(text: &str) -> i64 {
    let (minutes, seconds) = text.split_once(':').unwrap();
    let (seconds, millis) = seconds.split_once('.').unwrap();
    let number = |text: &str| text.parse::<i64>().unwrap();
    (number(minutes) * 60 + number(seconds)) * 1_000 + number(millis)
}

fn clock(ms: i64) -> String {
    format!("{:02}:{:02}.{:03}", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
}

/// What a transcript says below an event.
fn told(ingested: Option<Ingested>, effects: &Effects) -> String {
    let mut lines = Vec::new();
    match ingested {
        Some(Ingested::Late(late)) => lines.push(format!(
            "late for [{}, {}), final {} ms before; the alert would change: {}",
            clock(late.window_start),
            clock(late.window_end),
            late.late_by_ms,
            late.would_change_alert.map_or("unknown", |change| if change { "yes" } else { "no" }),
        )),
        Some(Ingested::Duplicate) => lines.push("duplicate".to_owned()),
        Some(Ingested::Scored) | None => {}
    }
    for m in &effects.metrics {
        let mut line = format!(
            "window {} [{}, {}) count {} mean {}",
            m.entity,
            clock(m.window_start),
            clock(m.window_end),
            m.count,
            m.mean
        );
        if m.revision > 0 {
            write!(line, ", revision {}", m.revision).unwrap();
        }
        if !m.changed.is_empty() {
            write!(line, " of {}", m.changed.join(" ")).unwrap();
        }
        for span in &m.supersedes {
            write!(line, ", replaces [{}, {})", clock(span.window_start), clock(span.window_end)).unwrap();
        }
        lines.push(line);
    }
    lines.extend(effects.alerts.iter().map(|a| {
        let at = format!("[{}, {})", clock(a.window_start), clock(a.window_end));
        let mut line = format!("alert {} {} {} at {at}, {} windows", a.entity, a.kind, a.state, a.windows);
        if let Some(superseded) = &a.supersedes {
            let step = superseded.split_once(':').unwrap().1;
            write!(line, ", revision {} {}, supersedes step {step}", a.revision, a.correction.as_str()).unwrap();
        }
        line
    }));
    lines.iter().map(|line| format!("    {line}\n")).collect()
}

/// Plays `usual`: so many events of an entity, a step apart, whose values go round. Their windows are not shown.
fn play_usual(words: &[&str], engine: &mut Engine, offset: &mut i64) {
    let [from, step, count, entity, values @ ..] = words else { panic!("{words:?}") };
    let (from, step, count): (i64, i64, i64) = (ms(from), ms(step), count.parse().unwrap());
    let values: Vec<f64> = values.iter().map(|value| value.parse().unwrap()).collect();
    let mut effects = Effects::default();
    for (n, value) in (0..count).zip(values.iter().cycle()) {
        let event = Event { offset: *offset, event_time: from + n * step, entity, values: &[*value], id: None };
        assert_eq!(engine.ingest(&event, &mut effects), Ingested::Scored);
        *offset += 1;
    }
    assert!(effects.alerts.is_empty(), "what is usual leads to no alert: {:?}", effects.alerts);
}

/// Plays a transcript; what it should read.
fn play(text: &str) -> String {
    let mut engine = None;
    let mut out = String::new();
    let mut offset = 0;
    for line in text.lines().filter(|line| !line.starts_with("    ")) {
        out.push_str(line);
        out.push('\n');
        if let Some(settings) = line.strip_prefix("stream ") {
            engine = Some(self::engine(settings));
        }
        if let (Some(engine), Some(usual)) = (&mut engine, line.strip_prefix("usual ")) {
            play_usual(&usual.split_whitespace().collect::<Vec<_>>(), engine, &mut offset);
            continue;
        }
        let (Some(engine), true) = (&mut engine, line.starts_with(|first: char| first.is_ascii_digit())) else {
            continue;
        };
        let mut words = line.split_whitespace();
        let event_time = ms(words.next().unwrap());
        let mut effects = Effects::default();
        let entity = words.next().unwrap();
        let ingested = if entity == "idle" {
            engine.advance(event_time - engine.config.disorder_ms, &mut effects);
            None
        } else {
            let value: f64 = words.next().unwrap().parse().unwrap();
            let id = words.next().and_then(|word| word.strip_prefix('#')).map(|id| id.parse().unwrap());
            let event = Event { offset, event_time, entity, values: &[value], id };
            offset += 1;
            Some(engine.ingest(&event, &mut effects))
        };
        assert!(!engine.has_more());
        out.push_str(&told(ingested, &effects));
    }
    out
}

#[test]
fn transcripts_are_true() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 11, "{files:?}");
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("`{name}`")), "{name} is not in the README");
        let text = std::fs::read_to_string(&path).unwrap();
        let played = play(&text);
        if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            std::fs::write(&path, &played).unwrap();
        } else {
            assert_eq!(played, text, "{name}");
        }
    }
}

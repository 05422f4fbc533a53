//! The entities of a scenario: every instance, pod, page and location, with labels and base values.
//!
//! Invariant: sorted by (stream, key); keys are unique within a stream because names are unique in the file.

use super::raw::{Check, File, Service, Site};
use super::{Base, Entity};
use crate::random::Random;
use crate::shape::Shape;
use crate::stream::{Region, StreamKind};

/// Instances of one service are alike, not equal: their values differ by up to this share.
const INSTANCE_SPREAD: f64 = 0.15;
/// A page's size and a check's have no field of their own.
const NO_SIZE: f64 = 0.0;

pub(super) fn entities(file: &File) -> Vec<Entity> {
    let number = |name: &str| file.service.iter().position(|service| service.name == name);
    let mut entities = Vec::new();
    for stream in &file.stream {
        let first = entities.len();
        let covered = |name: &str| stream.services.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
        let services = file.service.iter().enumerate().filter(|(_, service)| covered(&service.name));
        match stream.kind {
            StreamKind::ServiceCalls | StreamKind::Infrastructure => {
                for (number, service) in services {
                    let instances = 0..service.instances as usize;
                    entities.extend(instances.map(|instance| of_instance(stream.kind, service, number, instance)));
                }
            }
            StreamKind::Beacons => {
                for site in &file.site {
                    let service = site.service.as_deref().and_then(number);
                    entities
                        .extend(site.pages.iter().enumerate().map(|(page, name)| of_page(site, service, page, name)));
                }
            }
            StreamKind::Checks => {
                for check in &file.check {
                    let service = check.service.as_deref().and_then(number);
                    let locations = check.locations.iter().enumerate();
                    entities
                        .extend(locations.map(|(at, (name, region))| of_location(check, service, at, name, *region)));
                }
            }
        }
        let count = (entities.len() - first) as f64;
        entities[first..].iter_mut().for_each(|entity| entity.share = stream.share / count);
    }
    let shares: f64 = entities.iter().map(|entity| entity.share).sum();
    entities.iter_mut().for_each(|entity| entity.share /= shares);
    entities.sort_by(|a, b| (a.stream, &a.key).cmp(&(b.stream, &b.key)));
    entities
}

/// `emea-2`: the second instance in that region.
pub(super) fn instance_name(service: &Service, instance: usize) -> (String, Region) {
    let region = service.regions[instance % service.regions.len()];
    (format!("{}-{}", region.name().to_lowercase(), instance / service.regions.len() + 1), region)
}

fn of_instance(stream: StreamKind, service: &Service, number: usize, instance: usize) -> Entity {
    let (name, region) = instance_name(service, instance);
    let calls = stream == StreamKind::ServiceCalls;
    let fields =
        if calls { [service.name.clone(), name] } else { [format!("node-{name}"), format!("{}-{name}", service.name)] };
    Entity {
        service: Some(number),
        release: service.release.clone(),
        base: Base {
            main: if calls { service.latency_ms } else { service.cpu_ratio },
            size: if calls { service.bytes } else { service.memory_bytes },
            disk_ratio: service.disk_ratio,
            error_rate: service.error_rate,
            noise: service.noise,
        },
        shape: shape(service.daily_amplitude, service.weekly_amplitude, region),
        ..entity(stream, fields, region, &service.tenants, instance)
    }
}

fn of_page(site: &Site, service: Option<usize>, page: usize, name: &str) -> Entity {
    Entity {
        service,
        base: Base {
            main: site.load_ms,
            size: NO_SIZE,
            disk_ratio: 0.0,
            error_rate: site.error_rate,
            noise: site.noise,
        },
        shape: shape(site.daily_amplitude, site.weekly_amplitude, site.region),
        ..entity(StreamKind::Beacons, [site.name.clone(), name.to_owned()], site.region, &site.tenants, page)
    }
}

fn of_location(check: &Check, service: Option<usize>, at: usize, name: &str, region: Region) -> Entity {
    Entity {
        service,
        base: Base {
            main: check.response_ms,
            size: NO_SIZE,
            disk_ratio: 0.0,
            error_rate: check.error_rate,
            noise: check.noise,
        },
        shape: shape(check.daily_amplitude, check.weekly_amplitude, region),
        ..entity(StreamKind::Checks, [check.name.clone(), name.to_owned()], region, &check.tenants, at)
    }
}

fn shape(daily_amplitude: f64, weekly_amplitude: f64, region: Region) -> Shape {
    Shape { daily_amplitude, weekly_amplitude, peak_ms: region.peak_ms() }
}

fn entity(stream: StreamKind, fields: [String; 2], region: Region, tenants: &[String], number: usize) -> Entity {
    Entity {
        stream,
        key: tidewatch_schemas::entity::join(&[&fields[0], &fields[1]]).into_owned(),
        fields,
        region,
        tenant: tenants[number % tenants.len()].clone(),
        service: None,
        release: String::new(),
        shape: shape(0.0, 0.0, region),
        base: Base { main: 1.0, size: NO_SIZE, disk_ratio: 0.0, error_rate: 0.0, noise: 0.0 },
        share: 0.0,
    }
}

impl Entity {
    /// How this entity differs from its siblings, whatever the seed.
    pub(crate) fn spread(&self) -> f64 {
        let random = Random::new(0).of(self.stream.name()).of(&self.key);
        random.between(1.0 - INSTANCE_SPREAD, 1.0 + INSTANCE_SPREAD, 0, 0)
    }
}

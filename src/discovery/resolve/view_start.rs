//! What a view shows first, and its cache file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use super::cache_file::{CacheContents, CacheName};
use super::cache_plan::CachePlan;
use super::cache_report::CacheReport;
use super::cache_writer::{self, CacheJob, CacheWriter};
use super::freshness::Origin;
use super::protection::Protection;
use super::source::Source;
use crate::client::Client;
use crate::discovery::balance::balancer::Balancer;
use crate::discovery::codec::Format;
use crate::discovery::instance::Instance;
use crate::discovery::overrides::override_feed::OverrideFeed;
use crate::error::{Error, ErrorKind, Result};
use crate::util::jitter;

/// How a view is opened.
#[derive(Debug)]
pub(super) struct ViewSettings {
    pub(super) formats: Vec<Format>,
    pub(super) balancer: Balancer,
    pub(super) protection: Protection,
    pub(super) overrides: Arc<OverrideFeed>,
    /// The directory of cache files.
    pub(super) cache_dir: Option<Arc<Path>>,
    /// What is shown if etcd has not answered and there is no file.
    pub(super) fallback: Vec<Arc<Instance>>,
    pub(super) allow_empty: bool,
    /// The mean time between two audits.
    pub(super) audit_every: Option<Duration>,
}

/// What a view shows first.
#[derive(Debug)]
pub(super) struct ViewStart {
    pub(super) origin: Origin,
    /// The instances of each source.
    pub(super) seeds: Vec<Vec<Arc<Instance>>>,
    pub(super) cache: Option<ViewCache>,
    /// Why the cache file was refused.
    pub(super) refused: Option<Error>,
}

/// The cache file of a view.
#[derive(Debug)]
pub(super) struct ViewCache {
    name: Arc<CacheName>,
    path: PathBuf,
    writer: Arc<CacheWriter>,
    plan: CachePlan,
    report: Arc<CacheReport>,
}

impl ViewStart {
    /// Reads the cache file, if there is one. Otherwise the view starts with the fallback, with nothing if
    /// that is allowed, or with etcd.
    pub(super) fn new(client: &Client, settings: &ViewSettings, service: &str) -> Result<Self> {
        let (mut cache, mut refused) = (None, None);
        if let Some(dir) = &settings.cache_dir {
            let formats = settings.formats.iter();
            let formats =
                formats.map(|format| (format.name(), client.absolute_range(format.range(service))));
            let name = Arc::new(CacheName::new(service, formats));
            let telemetry = client.telemetry();
            let contents = cache_writer::read(dir, &name).unwrap_or_else(|why| {
                telemetry.views.cache_refused(&why);
                refused = Some(Error::new(ErrorKind::Os, why));
                None
            });
            let writer = client.attached(|| Ok(CacheWriter::new(Arc::clone(telemetry))))?;
            let view_cache = ViewCache {
                path: dir.join(name.file_name()),
                name,
                writer,
                plan: CachePlan::default(),
                report: Arc::default(),
            };
            if let Err(error) = cache_writer::create_private_dir(dir) {
                view_cache.report.failed(telemetry, dir, &error);
            }
            cache = Some(view_cache);
            if let Some(contents) = contents {
                // A clock that was set back makes no negative age.
                let age = SystemTime::now().duration_since(contents.saved);
                return Ok(ViewStart {
                    origin: Origin::Disk(age.unwrap_or_default()),
                    seeds: decode(settings, contents),
                    cache,
                    refused,
                });
            }
        }
        let origin = match settings.fallback.is_empty() {
            false => Origin::Fallback,
            true if settings.allow_empty => Origin::Nothing,
            true => Origin::Etcd,
        };
        Ok(ViewStart {
            origin,
            seeds: vec![settings.fallback.clone()],
            cache,
            refused,
        })
    }
}

/// The instances of a file. A value that is none is left to etcd, which may have another one by now.
fn decode(settings: &ViewSettings, contents: CacheContents) -> Vec<Vec<Arc<Instance>>> {
    let sources = settings.formats.iter().zip(contents.sources);
    let seeds = sources.map(|(format, kvs)| {
        let decoded = kvs
            .into_iter()
            .filter_map(|(key, value)| format.decode_shown(&key, &value).ok()?);
        decoded.map(Arc::new).collect()
    });
    seeds.collect()
}

impl ViewCache {
    /// Records that the instances changed.
    pub(super) fn changed(&mut self) {
        self.plan.changed();
    }

    /// Writes the file if it is time. `is_true` means that the list is complete and as etcd has it.
    pub(super) fn write(&mut self, is_true: bool, sources: &[Source], now: Instant) {
        if let Some(result) = self.report.take() {
            self.plan.ended(result, now, jitter::fraction());
        }
        if self.plan.write(is_true, now) {
            let job = CacheJob {
                name: Arc::clone(&self.name),
                saved: SystemTime::now(),
                sources: sources.iter().map(|one| one.mirror().snapshot()).collect(),
                report: Arc::clone(&self.report),
            };
            self.writer.write(self.path.clone(), job);
        }
    }

    /// Wakes the waker when a write failed, or no longer fails.
    pub(super) fn wake_when_ready(&self, waker: &Waker) {
        self.report.wake_when_ready(waker);
    }

    /// The time at which [`write`](ViewCache::write) has to decide again.
    pub(super) fn next_work(&self, now: Instant) -> Option<Instant> {
        self.plan.next_work(now)
    }
}

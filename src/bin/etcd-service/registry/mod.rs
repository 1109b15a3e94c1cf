//! All services of a prefix as they are now, and what happened to them in the last hour.
//!
//! A thread follows etcd and publishes a [`Picture`] after each change. Readers take the newest one, and never wait
//! for each other or for etcd.

mod follower;
mod newest;
mod picture;
mod service_log;
mod timeline;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::crossbeam_channel::{Sender, bounded};
use etcd_blocking::{Client, Discovery};

use crate::arguments::FormatArguments;
use crate::failure::Failure;
use follower::Follower;
use newest::Newest;

pub(crate) use picture::{BadKey, Picture, ServicePicture, Shown};
pub(crate) use timeline::{Event, Timeline, Track, What};
#[cfg(test)]
pub(crate) use {picture::Counts, timeline::Span};

/// Follows all services of a prefix until it is dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    newest: Arc<Newest>,
    /// Its end stops the thread.
    _running: Sender<()>,
}

impl Registry {
    /// Begins to follow the services. It does not wait for etcd; it fails for wrong settings only.
    pub(crate) fn open(client: &Client, formats: &FormatArguments) -> Result<Self, Failure> {
        let discovery = formats.read(Discovery::new(client)).allow_empty();
        let catalog = discovery.services()?;
        let newest = Arc::new(Newest::default());
        let (running, stopped) = bounded(0);
        let follower = Follower::new(catalog, stopped, Arc::clone(&newest));
        let thread = thread::Builder::new().name("registry".into());
        thread
            .spawn(move || follower.run())
            .map_err(|error| Failure::failed(format!("start a thread: {error}")))?;
        Ok(Registry {
            newest,
            _running: running,
        })
    }

    /// The newest picture. It does not block.
    pub(crate) fn picture(&self) -> Arc<Picture> {
        Arc::clone(&self.newest.picture.lock())
    }

    /// Waits until there is a picture of another version than `seen`, for at most this time, and returns the newest.
    pub(crate) fn wait(&self, seen: u64, limit: Duration) -> Arc<Picture> {
        let until = Instant::now() + limit;
        let mut picture = self.newest.picture.lock();
        while picture.version == seen {
            if self
                .newest
                .published
                .wait_until(&mut picture, until)
                .timed_out()
            {
                break;
            }
        }
        Arc::clone(&picture)
    }
}

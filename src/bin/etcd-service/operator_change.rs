//! Changes what an operator set for instances: `drain`, `undrain` and `weight`.

use std::sync::Arc;

use clap::Args;
use etcd_blocking::{Client, Discovery, Instance, Override, ServiceView};

use crate::arguments::{ConnectionArguments, FormatArguments};
use crate::failure::Failure;
use crate::operator_setting::{ATTEMPTS, NotWritten, OperatorSetting, write_setting};
use crate::output::{printable, say};

/// So many ids are named in a message.
const NAMED: usize = 20;

/// Which instances are changed, besides the ids.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetArguments {
    /// The instances with this address, in place of ids
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// Sets it also for an id that has no instance now, and replaces a value that cannot be read
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    formats: FormatArguments,
}

/// The instances of a service that are changed.
#[derive(Debug)]
pub(crate) struct Targets {
    client: Client,
    pub(crate) view: ServiceView,
    pub(crate) ids: Vec<String>,
    prefix: String,
    service: String,
    is_forced: bool,
}

impl TargetArguments {
    /// Finds the instances. An id without an instance is refused, except by `--force`.
    pub(crate) fn find(
        &self,
        connection: &ConnectionArguments,
        service: &str,
        ids: &[String],
    ) -> Result<Targets, Failure> {
        let client = connection.connect()?;
        let view = self
            .formats
            .read(Discovery::new(&client))
            .service(service)?;
        let instances = view.snapshot();
        let mut targets = Targets {
            ids: self.ids(service, ids, &instances)?,
            client,
            view,
            prefix: self.formats.first_prefix(),
            service: service.to_owned(),
            is_forced: self.force,
        };
        targets.ids.sort();
        targets.ids.dedup();
        targets.check(&instances)?;
        Ok(targets)
    }

    fn ids(
        &self,
        service: &str,
        ids: &[String],
        instances: &[Arc<Instance>],
    ) -> Result<Vec<String>, Failure> {
        let Some(addr) = &self.addr else {
            return match ids.is_empty() {
                true => Err(Failure::usage(
                    "which instance? Give its id, or its address with --addr",
                )),
                false => Ok(ids.to_vec()),
            };
        };
        if !ids.is_empty() {
            return Err(Failure::usage(
                "--addr is in place of an id: give one of them",
            ));
        }
        let with = instances.iter().filter(|one| one.addr == *addr);
        let found: Vec<String> = with.map(|one| one.id.clone()).collect();
        match found.is_empty() {
            true => Err(Failure::failed(format!(
                "{service} has no instance with the address {addr:?}; {}",
                known(instances, |one| &one.addr)
            ))),
            false => Ok(found),
        }
    }
}

impl Targets {
    fn check(&self, instances: &[Arc<Instance>]) -> Result<(), Failure> {
        for id in &self.ids {
            // The id becomes a part of the key.
            Instance::new(self.service.as_str(), "127.0.0.1:1")
                .id(id.as_str())
                .check()?;
            let is_known = self.is_forced || instances.iter().any(|one| one.id == *id);
            // What was set for an instance that is gone can be changed and deleted.
            if !is_known && self.client.get(self.key(id))?.is_none() {
                let service = &self.service;
                return Err(Failure::failed(format!(
                    "{service} has no instance {id:?}; {}; --force sets it all the same",
                    known(instances, |one| &one.id)
                )));
            }
        }
        Ok(())
    }

    fn key(&self, id: &str) -> String {
        Override::key(&self.prefix, &self.service, id)
    }

    /// Changes what is set for each instance, keeps the rest of it, and prints the result. A change by another
    /// operator at the same time is kept, too.
    pub(crate) fn change(&self, change: impl Fn(&mut OperatorSetting)) -> Result<(), Failure> {
        for id in &self.ids {
            let (before, after) = self.change_one(id, &change)?;
            let (service, id) = (printable(&self.service), printable(id));
            match before == after {
                true => say(format_args!("{service} {id}: {after} (unchanged)"))?,
                false => say(format_args!("{service} {id}: {after} (before: {before})"))?,
            }
        }
        Ok(())
    }

    fn change_one(
        &self,
        id: &str,
        change: &impl Fn(&mut OperatorSetting),
    ) -> Result<(OperatorSetting, OperatorSetting), Failure> {
        let key = self.key(id);
        write_setting(&self.client, &key, self.is_forced, change).map_err(|error| match error {
            NotWritten::Etcd(error) => error.into(),
            NotWritten::Malformed(error) => {
                Failure::failed(format!("{}: {error}; --force replaces it", printable(&key)))
            }
            NotWritten::Contended => Failure::failed(format!(
                "{} was changed by others in {ATTEMPTS} attempts; try again",
                printable(&key)
            )),
        })
    }
}

/// What there is, for a message.
fn known(instances: &[Arc<Instance>], name: impl Fn(&Instance) -> &String) -> String {
    let names = instances.iter().take(NAMED);
    let names: Vec<_> = names.map(|one| printable(name(one)).into_owned()).collect();
    let more = instances.len().saturating_sub(NAMED);
    match (instances.is_empty(), more) {
        (true, _) => "it has no instance".to_owned(),
        (_, 0) => format!("it has {}", names.join(", ")),
        _ => format!("it has {} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_a_few_ids() {
        let instances = |n: usize| -> Vec<_> {
            (0..n)
                .map(|n| Arc::new(Instance::new("web", format!("a:{n}"))))
                .collect()
        };
        assert_eq!(known(&[], |one| &one.id), "it has no instance");
        assert_eq!(known(&instances(2), |one| &one.id), "it has a:0, a:1");
        let text = known(&instances(25), |one| &one.id);
        assert!(text.ends_with("a:19 and 5 more"), "{text}");
    }
}

//! The verb `list`.

mod listing;
mod selection;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use etcd_blocking::crossbeam_channel::RecvTimeoutError;
use etcd_blocking::{Client, Discovery, Instance, ServiceView};

use crate::arguments::{ConnectionArguments, FormatArguments};
use crate::failure::{Failure, Outcome};
use crate::operator_setting::OperatorSettings;
use crate::output::{complain, counted, say};
use listing::{Listing, Output};
use selection::Selection;

/// The time for one request, if no flag says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The arguments of `list`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  etcd-service list
  etcd-service list web --output json
  etcd-service list web --zone eu-1a --status up,draining
  eval \"$(etcd-service list web --output env --wait 1)\"; curl \"http://$WEB_0_ADDR/\"

Exit codes: 0 it was read, also if there is no instance; 1 etcd did not answer in time, or --wait did not see enough \
instances in time.")]
pub(crate) struct List {
    /// Lists the instances of this service, in place of all services
    service: Option<String>,
    /// How the list is printed
    #[arg(long, short = 'w', visible_alias = "write-out", value_enum, default_value_t = Output::Text, value_name = "OUTPUT")]
    output: Output,
    #[command(flatten)]
    selection: Selection,
    /// Waits until so many instances accept calls (or have the status of --status), at most for --command-timeout
    #[arg(long, value_name = "N", requires = "service")]
    wait: Option<usize>,
    #[command(flatten)]
    formats: FormatArguments,
}

impl List {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let timeout = connection.config()?.request_timeout.unwrap_or(TIMEOUT);
        let client = connection.connect()?;
        let discovery = self.formats.read(Discovery::new(&client));
        let listing = match &self.service {
            Some(service) => {
                let instances = self.instances(&client, &discovery, service, timeout)?;
                Listing::of_service(self.output, service, &instances)
            }
            None => {
                let services = self.services(&client, &discovery)?;
                Listing::of_services(self.output, &services)
            }
        };
        listing.omitted.iter().for_each(complain);
        listing.lines.iter().try_for_each(say)?;
        Ok(0)
    }

    fn selects(&self, instance: &Instance) -> bool {
        match self.output.is_for_callers() {
            true => self.selection.ready(instance),
            false => self.selection.matches(instance),
        }
    }

    /// The selected instances of one service, once there are as many as `--wait` says.
    fn instances(
        &self,
        client: &Client,
        discovery: &Discovery,
        service: &str,
        timeout: Duration,
    ) -> Result<Vec<Arc<Instance>>, Failure> {
        let begun = Instant::now();
        let view = discovery.service(service)?;
        let settings = OperatorSettings::read(client, &self.formats.first_prefix())?;
        // Read before the first snapshot, so that no change is missed.
        let changes = view.changes();
        loop {
            let instances = as_set(&view, &settings);
            let ready = |instance: &Instance| self.selection.ready(instance);
            let ready = Selection::of(&instances, ready).len();
            let wanted = self.wait.unwrap_or(0);
            if ready >= wanted {
                return Ok(Selection::of(&instances, |instance| self.selects(instance)));
            }
            match changes.recv_timeout(timeout.saturating_sub(begun.elapsed())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Failure::failed(format!(
                        "{service} has {ready} of {} after {timeout:?}; --command-timeout sets the time",
                        counted(wanted, "instance")
                    )));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let why = view.ended().map_or_else(String::new, |why| why.to_string());
                    return Err(Failure::failed(format!(
                        "the view of {service} ended: {why}"
                    )));
                }
            }
        }
    }

    /// The services that have selected instances, and these.
    fn services(
        &self,
        client: &Client,
        discovery: &Discovery,
    ) -> Result<BTreeMap<String, Vec<Arc<Instance>>>, Failure> {
        let catalog = discovery.services()?;
        let settings = OperatorSettings::read(client, &self.formats.first_prefix())?;
        let mut services = BTreeMap::new();
        for name in catalog.names() {
            // A name that another program made and no service can have has no view.
            let Ok(view) = catalog.service(&name) else {
                complain(format_args!(
                    "{:?} is no name of a service; it is left out",
                    &*name
                ));
                continue;
            };
            let instances = as_set(&view, &settings);
            let selected = Selection::of(&instances, |instance| self.selects(instance));
            if !selected.is_empty() {
                services.insert(name.to_string(), selected);
            }
        }
        Ok(services)
    }
}

/// The instances of a view as operators set them. A view that was just opened may not show that yet.
fn as_set(view: &ServiceView, settings: &OperatorSettings) -> Vec<Arc<Instance>> {
    let instances = view.snapshot();
    instances
        .iter()
        .map(|instance| settings.shown(instance))
        .collect()
}

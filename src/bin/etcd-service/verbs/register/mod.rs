//! The verb `register`.

mod plan;
mod registered;
mod services_file;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use etcd_blocking::Registrar;
use etcd_blocking::crossbeam_channel::{Receiver, Select};
use signal_hook::consts::SIGHUP;

use crate::arguments::{
    CheckArguments, ConnectionArguments, FormatArguments, InstanceArguments, span,
};
use crate::failure::{Failure, Outcome};
use crate::outage::{Outage, OutageNews};
use crate::output::complain;
use crate::signals::signals;
use registered::Registered;
use services_file::Entry;

/// The longest wait before the states are looked at again.
const LOOK: Duration = Duration::from_millis(500);

/// The arguments of `register`.
#[derive(Args, Debug)]
#[command(mut_arg("service", |argument| argument.required(false).required_unless_present("services")))]
#[command(mut_arg("addr", |argument| argument.required(false).required_unless_present("services")))]
#[command(after_help = "\
It registers services that other programs run, under one lease, and keeps them registered. States are lines on stderr. \
It waits for etcd when that is away, and says so. SIGHUP reads the file again: services are added, updated and removed \
by the difference; a wrong file is reported, and the services stay as they were. SIGTERM and SIGINT take all out of \
etcd.

Examples:
  etcd-service register --service db --addr 10.0.0.5:5432 --check tcp
  etcd-service register --services /etc/etcd-service/services.toml

A file of services (TOML; a file named .yaml or .yml is YAML):
  [[service]]
  service = \"db\"
  addr = \"10.0.0.5:5432\"
  id = \"db-1\"            # the rest is optional
  weight = 10
  zone = \"eu-1a\"
  version = \"16.2\"
  tag = [\"primary\"]
  meta = { team = \"core\" }
  check = [\"tcp\"]

Exit codes: 0 ended by a signal, and all has left; 1 it could not be taken out of etcd in time, and expires; 2 a flag or \
the file is wrong at the start.")]
pub(crate) struct Register {
    #[command(flatten)]
    instance: Option<InstanceArguments>,
    #[command(flatten)]
    checks: CheckArguments,
    /// A file with many services
    #[arg(long, value_name = "FILE", conflicts_with_all = ["InstanceArguments", "CheckArguments"])]
    services: Option<PathBuf>,
    /// How long the instances stay in etcd after this process was killed
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = span)]
    ttl: Duration,
    /// Publishes the status draining for this time before all leave
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = span)]
    drain: Duration,
    #[command(flatten)]
    formats: FormatArguments,
}

impl Register {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let stop = signals()?;
        let entries = self.entries().map_err(Failure::Usage)?;
        let client = connection.connect()?;
        let registrar = self
            .formats
            .write(Registrar::builder(&client).ttl(self.ttl))
            .start()?;
        let mut registered = Registered::new(registrar);
        if let Some(why) = registered.set(entries).into_iter().next() {
            return Err(Failure::usage(why));
        }
        self.follow(&mut registered, &stop)?;
        if !self.drain.is_zero() {
            registered.drain();
            complain(format_args!(
                "draining for {:?}; another signal ends that",
                self.drain
            ));
            let _ = stop.recv_timeout(self.drain);
        }
        let left = registered.leave();
        registered.report();
        match left {
            Ok(()) => Ok(0),
            Err(error) => Err(Failure::failed(format!(
                "{error}; what is still in etcd expires within {:?}",
                self.ttl
            ))),
        }
    }

    /// The services of the flags or the file.
    fn entries(&self) -> Result<Vec<Entry>, String> {
        if let Some(path) = &self.services {
            return services_file::read(path);
        }
        let Some(instance) = &self.instance else {
            return Err("give --service and --addr, or --services with a file".to_owned());
        };
        let entry = Entry::new(instance, self.checks.clone())?;
        Ok(vec![entry])
    }

    /// Prints states, and reads the file again on SIGHUP, until another signal arrives.
    fn follow(&self, registered: &mut Registered, stop: &Receiver<i32>) -> Result<(), Failure> {
        let mut outage = Outage::default();
        loop {
            registered.report();
            let (there, all, why) = registered.count();
            match outage.observe(there == all, Instant::now()) {
                Some(OutageNews::Away) => complain(format_args!(
                    "{there} of {all} are registered; trying again: {}",
                    if why.is_empty() {
                        "etcd does not answer"
                    } else {
                        &why
                    }
                )),
                Some(OutageNews::Back) => complain(format_args!("{all} of {all} are registered")),
                None => {}
            }
            let mut select = Select::new();
            let signalled = select.recv(stop);
            registered.register(&mut select);
            let ready = select.ready_timeout(LOOK);
            drop(select);
            if ready != Ok(signalled) {
                continue;
            }
            match stop.try_recv() {
                Ok(SIGHUP) if self.services.is_some() => match self.entries() {
                    Ok(entries) => {
                        registered.set(entries).iter().for_each(complain);
                        complain("the file was read again");
                    }
                    Err(why) => complain(format_args!("the services stay as they were: {why}")),
                },
                // Without a file there is nothing to read again.
                Ok(SIGHUP) | Err(_) => {}
                Ok(_) => return Ok(()),
            }
        }
    }
}

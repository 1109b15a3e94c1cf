//! The verb `run`.

mod stopping;

use std::ffi::OsString;
use std::time::{Duration, Instant};

use clap::Args;
use etcd_blocking::crossbeam_channel::{after, never, select, tick};
use etcd_blocking::{Registrar, Registration, State, Status};

use crate::arguments::{
    CheckArguments, ConnectionArguments, FormatArguments, InstanceArguments, span,
};
use crate::check_report::CheckReport;
use crate::child::Supervised;
use crate::failure::{Failure, Outcome};
use crate::output::{complain, printable};
use crate::registration_state::describe;
use crate::signals;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use stopping::{Step, Stopping};

/// Time between looks at the results of the checks, to say what changed.
const LOOK: Duration = Duration::from_millis(500);

/// The arguments of `run`.
#[derive(Args, Debug)]
#[command(after_help = "\
The command runs in a process group of its own. Signals to etcd-service are passed on, but SIGTERM and SIGINT begin the
end: the instance is marked as draining for --drain-time, the command gets SIGTERM, and SIGKILL after --stop-grace;
then the instance leaves etcd. A second SIGTERM or SIGINT skips the draining, and a third kills. If the command ends,
the instance leaves at once.

Example:
  etcd-service run --service web --addr 127.0.0.1:8000 --check http://127.0.0.1:8000/ \\
      -- python3 -m http.server 8000")]
pub(crate) struct Run {
    #[command(flatten)]
    instance: InstanceArguments,
    #[command(flatten)]
    checks: CheckArguments,
    #[command(flatten)]
    formats: FormatArguments,
    /// Time after which etcd removes the instance if this process dies
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "15s")]
    ttl: Duration,
    /// Time for which the instance is marked as draining before the command is stopped
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "5s")]
    drain_time: Duration,
    /// Time between SIGTERM and SIGKILL
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "10s")]
    stop_grace: Duration,
    /// Print nothing about the registration
    #[arg(long)]
    quiet: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Run {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let instance = self.instance.instance().map_err(Failure::usage)?;
        let checks = self
            .checks
            .checks(self.instance.addr())
            .map_err(Failure::usage)?;
        let client = connection.connect()?;
        let registrar = self
            .formats
            .write(Registrar::builder(&client).ttl(self.ttl))
            .start()?;
        // Before the command is started: from here on the signals are for it.
        let received = signals::receive(&[SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2])?;
        let mut command = Supervised::start(&self.command, &[], self.stop_grace, None)?;
        let registration = match self.checks.any() {
            true => registrar.announce_checked(instance, checks)?,
            false => registrar.announce(instance)?,
        };
        let states = registration.states().clone();
        let mut states = &states;
        let ended_states = never();
        let mut stopping = Stopping::new(self.drain_time);
        let mut report = CheckReport::default();
        let results = match self.checks.any() {
            true => tick(LOOK),
            false => never(),
        };
        loop {
            if let Some(news) = report.news(&registration) {
                self.say(news);
            }
            let timer = stopping.due().map_or_else(never, |at| {
                after(at.saturating_duration_since(Instant::now()))
            });
            let step = select! {
                recv(command.ended()) -> code => {
                    let code = code.unwrap_or(1);
                    self.leave(&registration);
                    return Ok(code);
                }
                recv(received) -> signal => match signal {
                    Ok(SIGTERM | SIGINT) => {
                        let state = registration.state();
                        let is_registered = matches!(
                            state,
                            State::Registered { .. } | State::Suspect { .. } | State::Draining
                        );
                        stopping.asked(Instant::now(), is_registered)
                    }
                    Ok(signal) => {
                        command.signal(signal);
                        None
                    }
                    Err(_) => return Err(Failure::failed("no signals are received any more")),
                },
                recv(states) -> state => {
                    match state {
                        Ok(state) => self.say(describe(&state)),
                        // The registration has ended, for example by --leave-after.
                        Err(_) => states = &ended_states,
                    }
                    None
                }
                recv(results) -> _ => None,
                recv(timer) -> _ => stopping.passed(Instant::now()),
            };
            match step {
                Some(Step::Drain) => {
                    self.say("draining: it asks for no new calls");
                    let _ = registration.set_status(Status::Draining);
                }
                Some(Step::Stop) => command.stop(self.stop_grace),
                Some(Step::Kill) => command.kill(),
                None => {}
            }
        }
    }

    /// Takes the instance out of etcd.
    fn leave(&self, registration: &Registration) {
        if let Err(error) = registration.leave() {
            let error = error.to_string();
            let ttl = self.ttl;
            complain(format!(
                "{}; etcd removes the instance within {ttl:?}",
                printable(&error)
            ));
        }
    }

    fn say(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            complain(printable(&text.to_string()));
        }
    }
}

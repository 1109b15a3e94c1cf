//! The verb `render`.

mod contents;
#[cfg(test)]
mod fuzz;
mod inputs;
mod orders;
mod safe;
mod schedule;
mod target;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use etcd_blocking::crossbeam_channel::Select;
use etcd_blocking::{Client, Discovery};

use crate::arguments::{ConnectionArguments, FormatArguments, span};
use crate::failure::{Failure, Outcome};
use crate::operator_setting::OperatorSettings;
use crate::outage::{Outage, OutageNews};
use crate::output::complain;
use crate::signals::signals;
use inputs::Inputs;
use orders::Orders;
use schedule::{Retry, Schedule};
use target::{Refusal, Target};
use template::Template;

/// The time for one request, if no flag says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest wait before the state is looked at again.
const LOOK: Duration = Duration::from_millis(500);

/// A view that was opened before shows what operators set.
const SETTLED: Duration = Duration::from_secs(3);

/// The arguments of `render`.
#[derive(Args, Debug)]
#[command(after_help = "\
A template reads `service(\"web\")` (its instances, sorted by id), `services` (names and instances of all), \
`key(\"path\")` and `keys(\"prefix/\")`. `service(\"web\") | up` has the instances that accept calls; `| safe` leaves out \
addresses with characters that a configuration file could misread, and gives each instance a unique `name`. Only \
what a template reads is watched.

Ready templates: @haproxy and @nginx (--set name=SERVICE, --set listen=ADDRESS), @hosts, @file_sd.

Examples:
  etcd-service render @hosts --out hosts --once
  etcd-service render @haproxy --set name=web --set listen=:8080 --out /etc/haproxy/haproxy.cfg \\
    --check 'haproxy -c -f {}' --reload 'systemctl reload haproxy'
  etcd-service render ./app.conf.j2 --out /etc/app.conf --reload 'kill -HUP $(cat /run/app.pid)'

Exit codes: 0 ended by SIGTERM or SIGINT, or done with --once; 1 --once failed; 2 the template or a flag is wrong.")]
pub(crate) struct Render {
    /// The file with the template, in the language of Jinja, or the name of a ready template
    #[arg(value_name = "TEMPLATE")]
    template: String,
    /// The file that is written: in one step, and only when its contents change
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Command that checks the new file before it replaces the old one, which stays if the command fails. `{}` and
    /// $ETCD_SERVICE_FILE are the path of the new file
    #[arg(long, value_name = "COMMAND")]
    check: Option<String>,
    /// Command that is run after the file was replaced, and again later if it fails
    #[arg(long, value_name = "COMMAND")]
    reload: Option<String>,
    /// Writes the file once, and ends
    #[arg(long)]
    once: bool,
    /// Waits until nothing has changed for this time
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = span)]
    debounce: Duration,
    /// Waits for --debounce no longer than this time
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = span)]
    max_wait: Duration,
    /// The longest time of a command
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = span)]
    command_limit: Duration,
    /// A variable of the template; repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    formats: FormatArguments,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What a step of the work led to.
enum Step {
    /// The file is up to date.
    Done,
    /// Something that the template reads is not known yet.
    Waiting,
    /// It failed, and is worth another attempt.
    Failed(String),
    /// It failed, and will fail again unless something changes.
    Refused(String),
    /// The program was told to end.
    Stopped,
}

impl Render {
    pub(crate) fn run(mut self, connection: &ConnectionArguments) -> Outcome {
        let mut orders = Orders::new(signals()?);
        let template = self.read_template().map_err(Failure::Usage)?;
        let timeout = connection.config()?.request_timeout.unwrap_or(TIMEOUT);
        let client = connection.connect()?;
        let discovery = self.formats.read(Discovery::new(&client));
        let target = Target {
            path: self.out.clone(),
            check: self.check.take(),
            reload: self.reload.take(),
            limit: self.command_limit,
        };
        let mut work = Work {
            inputs: Inputs::new(client.clone(), discovery),
            client,
            prefix: self.formats.first_prefix(),
            template,
            target,
            settings: OperatorSettings::default(),
            settled: None,
            omitted: BTreeSet::new(),
            needs_reload: false,
        };
        match self.once {
            true => once(&mut work, &mut orders, timeout),
            false => self.follow(&mut work, &mut orders),
        }
    }

    fn read_template(&self) -> Result<Template, String> {
        let source = match self.template.starts_with('@') {
            true => template::ready(&self.template)?.to_owned(),
            false => std::fs::read_to_string(&self.template)
                .map_err(|error| format!("{}: {error}", self.template))?,
        };
        let variables: BTreeMap<_, _> = self.set.iter().cloned().collect();
        Template::new(source, variables).map_err(|why| format!("{}: {why}", self.template))
    }

    fn follow(&self, work: &mut Work, orders: &mut Orders) -> Outcome {
        let mut schedule = Schedule::new(self.debounce, self.max_wait);
        let (mut retry, mut outage) = (Retry::default(), Outage::default());
        let mut said = String::new();
        schedule.hurry(Instant::now());
        loop {
            let now = Instant::now();
            match outage.observe(work.inputs.is_live(), now) {
                Some(OutageNews::Away) => complain(format_args!(
                    "etcd cannot be followed; the file stays as it is: {}",
                    work.inputs.last_error()
                )),
                Some(OutageNews::Back) => complain("etcd is followed again"),
                None => {}
            }
            let is_due = schedule.take(now);
            if retry.take(now) || is_due {
                let step = work.step(orders)?;
                let failure = match step {
                    Step::Stopped => return Ok(0),
                    Step::Done => {
                        retry.succeeded();
                        String::new()
                    }
                    Step::Waiting => std::mem::take(&mut said),
                    Step::Failed(why) => {
                        retry.failed(Instant::now());
                        why
                    }
                    Step::Refused(why) => {
                        retry.succeeded();
                        why
                    }
                };
                // The same failure again is no news.
                if failure != said && !failure.is_empty() {
                    complain(&failure);
                }
                said = failure;
            }
            let now = Instant::now();
            let due = schedule.due().into_iter().chain(retry.due()).min();
            let wait = due.map_or(LOOK, |due| due.saturating_duration_since(now).min(LOOK));
            let mut select = Select::new();
            select.recv(&orders.signals);
            work.inputs.register(&mut select);
            let _ = select.ready_timeout(wait);
            drop(select);
            if orders.ends() {
                return Ok(0);
            }
            if orders.reads_again() {
                match self.read_template() {
                    Ok(template) => work.template = template,
                    Err(why) => complain(format_args!("the template stays as it was: {why}")),
                }
                said.clear();
                schedule.hurry(Instant::now());
            }
            if work.inputs.read()? {
                match work.is_complete() {
                    true => schedule.changed(Instant::now()),
                    // Nothing was rendered yet: there is nothing to wait for.
                    false => schedule.hurry(Instant::now()),
                }
            }
        }
    }
}

/// Writes the file once.
fn once(work: &mut Work, orders: &mut Orders, timeout: Duration) -> Outcome {
    let begun = Instant::now();
    loop {
        match work.step(orders)? {
            Step::Done => return Ok(0),
            Step::Stopped => return Err(Failure::failed("it was told to end")),
            Step::Failed(why) | Step::Refused(why) => return Err(Failure::failed(why)),
            Step::Waiting => {}
        }
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            let why = work.inputs.last_error();
            return Err(Failure::failed(format!(
                "etcd did not answer within {timeout:?}; --command-timeout sets the time: {why}"
            )));
        }
        let mut select = Select::new();
        select.recv(&orders.signals);
        work.inputs.register(&mut select);
        let _ = select.ready_timeout(left.min(LOOK));
        drop(select);
        if orders.ends() {
            return Err(Failure::failed("it was told to end"));
        }
        work.inputs.read()?;
    }
}

/// The state of the work.
struct Work {
    client: Client,
    prefix: String,
    inputs: Inputs,
    template: Template,
    target: Target,
    /// What operators have set, until the views show it.
    settings: OperatorSettings,
    settled: Option<Instant>,
    /// What was left out at the last rendering.
    omitted: BTreeSet<String>,
    /// The file was replaced, and `--reload` has not succeeded since.
    needs_reload: bool,
}

impl Work {
    /// Whether everything that the template reads was known once.
    fn is_complete(&self) -> bool {
        self.settled.is_some()
    }

    /// Renders the template, and replaces the file if that differs.
    fn step(&mut self, orders: &mut Orders) -> Result<Step, Failure> {
        let rendered = loop {
            let rendered = self.template.render(self.inputs.contents(&self.settings));
            if !self.inputs.has(&rendered.record.read) {
                self.inputs.add(&rendered.record.read)?;
                self.inputs.read()?;
                continue;
            }
            if rendered.record.is_incomplete {
                return Ok(Step::Waiting);
            }
            let now = Instant::now();
            match self.settled {
                None => match OperatorSettings::read(&self.client, &self.prefix) {
                    Ok(settings) => {
                        self.settings = settings;
                        self.settled = Some(now);
                        continue;
                    }
                    Err(Failure::Failed(why) | Failure::Usage(why)) => {
                        return Ok(Step::Failed(why));
                    }
                    Err(closed) => return Err(closed),
                },
                Some(since) if now.saturating_duration_since(since) > SETTLED => {
                    self.settings = OperatorSettings::default();
                    break self.template.render(self.inputs.contents(&self.settings));
                }
                Some(_) => break rendered,
            }
        };
        if rendered.record.is_incomplete {
            return Ok(Step::Waiting);
        }
        self.inputs.follow(&rendered.record.read)?;
        for omitted in rendered.record.omitted.difference(&self.omitted) {
            complain(omitted);
        }
        self.omitted = rendered.record.omitted;
        let text = match rendered.text {
            Ok(text) => text,
            Err(why) => {
                return Ok(Step::Refused(format!(
                    "{} stays as it was: {why}",
                    self.target.path.display()
                )));
            }
        };
        match self.target.replace(&text, orders) {
            Ok(true) => {
                complain(format_args!("{} was written", self.target.path.display()));
                self.needs_reload = true;
            }
            Ok(false) => {}
            Err(Refusal::Stopped) => return Ok(Step::Stopped),
            Err(Refusal::Write(why)) => return Ok(Step::Failed(why)),
            Err(Refusal::Check(why)) => return Ok(Step::Refused(why)),
        }
        if self.needs_reload {
            match self.target.reload(orders) {
                Ok(()) => self.needs_reload = false,
                Err(None) => return Ok(Step::Stopped),
                Err(Some(why)) => return Ok(Step::Failed(why)),
            }
        }
        Ok(Step::Done)
    }
}

//! The verb `watch`.

pub(crate) mod event;
mod followed;

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use etcd_blocking::Discovery;
use etcd_blocking::crossbeam_channel::Select;

use crate::arguments::{ConnectionArguments, FormatArguments};
use crate::failure::{Failure, Outcome};
use crate::outage::{Outage, OutageNews};
use crate::output::{Lines, complain};
use crate::signals::signals;
use event::{Event, Output};
use followed::Followed;

/// The time after which the freshness is looked at again.
const LOOK: Duration = Duration::from_millis(500);

/// The arguments of `watch`.
#[derive(Args, Debug)]
#[command(after_help = "\
Each line has the time in UTC, a character and the change:
  +  an instance is there (at the start: each that there is)
  ~  its properties or its status changed
  -  it is gone: left, expired, replaced, resync (while etcd could not be followed) or unknown
  !  about etcd: stale, live again, or a bad value

Examples:
  etcd-service watch web
  etcd-service watch --all --output jsonl | jq -c .change

It waits for etcd when that is away, and says so. It ends with 0 on SIGINT, SIGTERM and SIGHUP, and when the reader of \
its output is gone.")]
pub(crate) struct Watch {
    /// The service to watch
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    service: Option<String>,
    /// Watches all services
    #[arg(long)]
    all: bool,
    /// How changes are printed
    #[arg(long, short = 'w', visible_alias = "write-out", value_enum, default_value_t = Output::Text, value_name = "OUTPUT")]
    output: Output,
    #[command(flatten)]
    formats: FormatArguments,
}

impl Watch {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let stop = signals()?;
        let client = connection.connect()?;
        let discovery = self.formats.read(Discovery::new(&client));
        let mut followed = Followed::open(discovery, self.service.as_deref())?;
        let lines = Lines::start()?;
        let mut outage = Outage::default();
        let mut events: VecDeque<Event> = VecDeque::new();
        loop {
            match outage.observe(followed.is_live(), Instant::now()) {
                Some(OutageNews::Away) => {
                    let why = followed.last_error();
                    match why.is_empty() {
                        true => complain("etcd does not answer yet; waiting for it"),
                        false => complain(format_args!(
                            "etcd cannot be followed; waiting for it: {why}"
                        )),
                    }
                    push_latest(&mut events, Event::Stale(why));
                }
                Some(OutageNews::Back) => {
                    complain("etcd is followed again");
                    push_latest(&mut events, Event::Live);
                }
                None => {}
            }
            let mut select = Select::new();
            let stopped = select.recv(&stop);
            let ended = select.recv(&lines.ended);
            // A reader that is slow holds up the views, which then keep the newest state only.
            let (writer, sources) = match events.is_empty() {
                true => (None, followed.register(&mut select)),
                false => (Some(select.send(&lines.next)), Vec::new()),
            };
            let Ok(ready) = select.ready_timeout(LOOK) else {
                continue;
            };
            drop(select);
            if ready == stopped {
                return Ok(0);
            }
            if ready == ended {
                return Err(lines.ended.try_recv().unwrap_or(Failure::ClosedPipe));
            }
            if Some(ready) == writer {
                if let Some(event) = events.front() {
                    let line = event.line(self.output, SystemTime::now());
                    if lines.next.try_send(line).is_ok() {
                        events.pop_front();
                    }
                }
            } else if let Some((_, source)) = sources.iter().find(|(index, _)| *index == ready) {
                followed.read(*source, &mut events)?;
            }
        }
    }
}

/// Adds an event about etcd in place of those that are not printed yet, which a slow reader would accumulate.
fn push_latest(events: &mut VecDeque<Event>, event: Event) {
    events.retain(|event| !matches!(event, Event::Stale(_) | Event::Live));
    events.push_back(event);
}

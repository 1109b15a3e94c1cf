//! The registrations of the verb.

use std::collections::BTreeMap;

use etcd_blocking::crossbeam_channel::Select;
use etcd_blocking::{Loss, Registrar, Registration, State, Status};

use super::plan::{Name, Plan, plan};
use super::services_file::Entry;
use crate::check_report::CheckReport;
use crate::output::{complain, printable};

/// The registrations, by service and id.
#[derive(Debug)]
pub(super) struct Registered {
    registrar: Registrar,
    entries: BTreeMap<Name, Entry>,
    registrations: BTreeMap<Name, One>,
}

#[derive(Debug)]
struct One {
    registration: Registration,
    /// What was said last about it.
    said: String,
    checks: CheckReport,
    has_ended: bool,
}

impl Registered {
    pub(super) fn new(registrar: Registrar) -> Self {
        Registered {
            registrar,
            entries: BTreeMap::new(),
            registrations: BTreeMap::new(),
        }
    }

    /// Adds, updates and ends registrations until they are these. It waits at most 1 s for each whose address or checks
    /// differ.
    /// Returns why some of them are refused; the others are carried out.
    pub(super) fn set(&mut self, entries: Vec<Entry>) -> Vec<String> {
        let mut refused = Vec::new();
        let Plan { leave, update, add } = plan(&self.entries, entries);
        for name in leave {
            self.entries.remove(&name);
            let Some(one) = self.registrations.remove(&name) else {
                continue;
            };
            let comes_back = add.iter().any(|entry| entry.name() == name);
            // Dropping it begins to leave, without a wait.
            if !comes_back {
                say(&name, "leaves: it is not among the services any more");
            } else if let Err(error) = one.registration.leave() {
                say(
                    &name,
                    &format!("it has not left before it is registered anew: {error}"),
                );
            }
        }
        for entry in update {
            let name = entry.name();
            let one = self.registrations.get(&name);
            match one.map(|one| one.registration.update(entry.instance.clone())) {
                Some(Err(error)) => refused.push(error.to_string()),
                _ => {
                    say(&name, "is updated");
                    self.entries.insert(name, entry);
                }
            }
        }
        for entry in add {
            match self.announce(&entry) {
                Ok(registration) => {
                    let one = One {
                        registration,
                        said: String::new(),
                        checks: CheckReport::default(),
                        has_ended: false,
                    };
                    self.registrations.insert(entry.name(), one);
                    self.entries.insert(entry.name(), entry);
                }
                Err(error) => refused.push(error),
            }
        }
        refused
    }

    fn announce(&self, entry: &Entry) -> Result<Registration, String> {
        let instance = entry.instance.clone();
        let announced = match entry.checks.any() {
            true => {
                let checks = entry.checks.checks(&instance.addr)?;
                self.registrar.announce_checked(instance, checks)
            }
            false => self.registrar.announce(instance),
        };
        announced.map_err(|error| error.to_string())
    }

    /// Adds the channels of states to a `Select`.
    pub(super) fn register<'a>(&'a self, select: &mut Select<'a>) {
        for one in self.registrations.values().filter(|one| !one.has_ended) {
            select.recv(one.registration.states());
        }
    }

    /// Prints the states that changed.
    pub(super) fn report(&mut self) {
        for (name, one) in &mut self.registrations {
            if let Some(news) = one.checks.news(&one.registration) {
                say(name, &printable(&news));
            }
            loop {
                match one.registration.states().try_recv() {
                    Ok(state) => one.report(name, &state),
                    Err(error) => {
                        one.has_ended |= error.is_disconnected();
                        break;
                    }
                }
            }
        }
    }

    /// How many are in etcd, how many there are, and why one is not.
    pub(super) fn count(&self) -> (usize, usize, String) {
        let all = self.registrations.values();
        let is_there = |one: &&One| {
            !matches!(
                one.registration.state(),
                State::Starting | State::Lost { .. }
            )
        };
        let there = all.clone().filter(is_there).count();
        let mut missing = all.filter(|one| !is_there(one));
        let why = missing.find_map(|one| one.registration.last_error());
        (
            there,
            self.registrations.len(),
            why.map_or_else(String::new, |why| why.to_string()),
        )
    }

    /// Publishes that all are draining.
    pub(super) fn drain(&self) {
        for one in self.registrations.values() {
            // One that has ended needs no status.
            let _ = one.registration.set_status(Status::Draining);
        }
    }

    /// Takes all out of etcd, within the time for one request.
    pub(super) fn leave(&self) -> Result<(), etcd_blocking::Error> {
        self.registrar.leave_all()
    }
}

impl One {
    fn report(&mut self, name: &Name, state: &State) {
        let text = text(state);
        if !text.is_empty() && text != self.said {
            say(name, &text);
            self.said = text;
        }
    }
}

fn say((service, id): &Name, what: &str) {
    complain(format_args!(
        "{} {}: {what}",
        printable(service),
        printable(id)
    ));
}

/// A state in words; empty if it is none that people need to know.
fn text(state: &State) -> String {
    match state {
        State::Starting => String::new(),
        State::Registered { .. } => "registered".to_owned(),
        State::Suspect { valid_until } => format!(
            "etcd does not answer; the registration ends in {:.0} s unless it does",
            valid_until.remaining().as_secs_f64().ceil()
        ),
        State::Lost { why } => format!("not registered: {}", loss(why)),
        State::Draining => "draining".to_owned(),
        State::Withdrawn => "not published: its checks, or its formats, do not allow it".to_owned(),
        State::Closed => "left".to_owned(),
        // More states may come with later versions of the library.
        _ => "in another state".to_owned(),
    }
}

fn loss(why: &Loss) -> String {
    match why {
        Loss::Unreachable => "etcd did not answer before the lease ended".to_owned(),
        Loss::LeaseGone => "the lease is gone; it is registered again".to_owned(),
        Loss::KeyDeleted => "the key was deleted; it is registered again".to_owned(),
        Loss::Overwritten => "the key was overwritten; it is registered again".to_owned(),
        Loss::Replaced { by } => {
            format!("another process registered it, under lease {by}; waiting until that leaves")
        }
        _ => "it is registered again".to_owned(),
    }
}

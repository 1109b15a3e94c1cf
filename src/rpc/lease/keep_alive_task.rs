//! The task that keeps the leases of a client alive: feeds the schedule and performs its actions.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;

use super::lease_command::LeaseCommand;
use super::lease_holder::LeaseHolder;
use super::renewal::Renewal;
use super::renewal_schedule::{Action, Input, RenewalSchedule, StreamRole};
use super::renewal_stream::{RenewalEvent, RenewalStream};
use crate::error::{Error, ErrorKind};
use crate::grpc::{Timer, Timers, Transport, Urgency, Window};
use crate::observe::Telemetry;
use crate::runtime::clock;
use crate::types::LeaseId;
use crate::util::jitter;

/// A lease that is kept alive.
#[derive(Default)]
struct KeptLease {
    holders: Vec<LeaseHolder>,
}

/// The task that keeps the leases of a client alive.
pub(super) struct KeepAliveTask {
    schedule: RenewalSchedule,
    shared: RenewalStream,
    isolated: RenewalStream,
    /// The shared stream before the present one, while the schedule wants its answers.
    late_stream: Option<RenewalStream>,
    commands: mpsc::UnboundedReceiver<LeaseCommand>,
    leases: HashMap<LeaseId, KeptLease>,
    /// They run on the clock that does not stop while the machine is suspended, as leases do.
    timers: Timers,
    telemetry: Arc<Telemetry>,
}

/// The reason why the task woke up.
enum Wake {
    Command(LeaseCommand),
    Stream(StreamRole, RenewalEvent),
    LateStream(RenewalEvent),
    Timer,
}

impl KeepAliveTask {
    pub(super) fn new(
        transport: &Arc<Transport>,
        commands: mpsc::UnboundedReceiver<LeaseCommand>,
    ) -> Self {
        KeepAliveTask {
            telemetry: Arc::clone(transport.telemetry()),
            schedule: RenewalSchedule::new(jitter::number()),
            shared: RenewalStream::new(Arc::clone(transport)),
            isolated: RenewalStream::new(Arc::clone(transport)),
            late_stream: None,
            commands,
            leases: HashMap::new(),
            timers: transport.settings().timers.clone(),
        }
    }

    /// Runs until the client has ended.
    pub(super) async fn run(mut self) {
        let mut timer = self.timers.timer();
        loop {
            self.telemetry
                .leases
                .are(self.leases.len(), self.schedule.first_end());
            let (from, until) = (self.schedule.wake_from(), self.schedule.wake_at());
            timer.set(from.zip(until).map(|(from, until)| Window { from, until }));
            let next = std::future::poll_fn(|cx| self.poll_next(&mut timer, cx)).await;
            let input = match next {
                None => return,
                Some(Wake::Command(command)) => self.input(command),
                Some(Wake::Stream(role, event)) => Some(event.input(role)),
                Some(Wake::LateStream(event)) => self.late_input(event),
                Some(Wake::Timer) => Some(Input::Tick),
            };
            self.observe(input.as_ref());
            if let Some(input) = input {
                self.feed(input);
            }
        }
    }

    /// Feeds an input to the schedule and performs the actions.
    fn feed(&mut self, input: Input) {
        let mut without_holders = Vec::new();
        for action in self.schedule.on(input, clock::now()) {
            without_holders.extend(self.act(action));
        }
        // Fed afterwards, because the schedule is still returning actions before.
        for lease in without_holders {
            self.feed(Input::Remove(lease));
        }
    }

    /// Polls the streams first: an answer that has already arrived is not late.
    fn poll_next(&mut self, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<Option<Wake>> {
        for role in StreamRole::BOTH {
            if let Poll::Ready(event) = self.stream(role).poll(cx) {
                return Poll::Ready(Some(Wake::Stream(role, event)));
            }
        }
        if let Some(stream) = &mut self.late_stream
            && let Poll::Ready(event) = stream.poll(cx)
        {
            return Poll::Ready(Some(Wake::LateStream(event)));
        }
        if let Poll::Ready(command) = self.commands.poll_recv(cx) {
            return Poll::Ready(command.map(Wake::Command));
        }
        timer.poll(cx).map(|()| Some(Wake::Timer))
    }

    /// Performs a command. Returns the input that results from it.
    fn input(&mut self, command: LeaseCommand) -> Option<Input> {
        match command {
            LeaseCommand::Join {
                lease,
                within,
                holder,
            } => {
                let kept = self.leases.entry(lease).or_default();
                // A further holder gets the validity that the earlier ones have.
                if let Some(newest) = kept.holders.iter().find_map(|o| o.status.newest()) {
                    holder.status.renewed(&newest);
                }
                // Most leases have one holder.
                kept.holders.reserve_exact(1);
                kept.holders.push(holder);
                Some(Input::Add { lease, within })
            }
            LeaseCommand::Leave { lease, number } => {
                let kept = self.leases.get_mut(&lease)?;
                let index = kept.holders.iter().position(|o| o.number == number)?;
                kept.holders.swap_remove(index).status.dropped();
                // The lease is renewed until its last holder leaves.
                if !kept.holders.is_empty() {
                    return None;
                }
                self.leases.remove(&lease);
                Some(Input::Remove(lease))
            }
        }
    }

    /// Returns the input that results from an event of the late stream.
    fn late_input(&mut self, event: RenewalEvent) -> Option<Input> {
        let input = event.late_input();
        if let Some(Input::LateStreamEnded) = input {
            self.late_stream = None;
        }
        input
    }

    fn stream(&mut self, role: StreamRole) -> &mut RenewalStream {
        match role {
            StreamRole::Shared => &mut self.shared,
            StreamRole::Isolated => &mut self.isolated,
        }
    }

    /// Updates the metrics.
    fn observe(&self, input: Option<&Input>) {
        match input {
            Some(Input::Opened(_)) => self.telemetry.leases.stream_opened(),
            Some(Input::Broken(_, failure) | Input::Refused(_, failure)) => {
                self.telemetry.leases.stream_lost(&failure.text);
            }
            _ => {}
        }
    }

    fn observe_late(&self, waited: Duration) {
        let reason = format!("no answer to a renewal in {waited:.1?}");
        self.telemetry.leases.stream_lost(reason);
    }

    /// Performs an action. Returns the lease when its last holder has lost it.
    fn act(&mut self, action: Action) -> Option<LeaseId> {
        match action {
            Action::Open(role) => {
                // A lease close to its end does not wait for the pauses between background dials.
                let demand = match self.schedule.is_urgent(clock::now()) {
                    true => Urgency::Call,
                    false => Urgency::Background,
                };
                self.stream(role).open(demand);
            }
            Action::Hedge { waited } => {
                self.observe_late(waited);
                self.late_stream = Some(self.shared.take_late(waited));
            }
            Action::CloseLateStream => self.late_stream = None,
            Action::Abandon { waited } => {
                self.observe_late(waited);
                self.isolated.abandon(waited);
            }
            Action::Close(role) => self.stream(role).close(),
            Action::Send(role, lease) => self.stream(role).send(lease),
            Action::Renewed { lease, ttl, until } => {
                self.telemetry.leases.renewed(lease, ttl);
                let kept = self.leases.get_mut(&lease)?;
                let renewal = Renewal::new(lease, ttl, until);
                // A holder that has seen the lease expire by the clock has lost it for good.
                let lost = |holder: &mut LeaseHolder| !holder.status.renewed(&renewal);
                for holder in kept.holders.extract_if(.., lost) {
                    let why = Error::new(ErrorKind::LeaseExpired, "its time ran out");
                    holder.status.lost(why);
                }
                if kept.holders.is_empty() {
                    self.leases.remove(&lease);
                    return Some(lease);
                }
            }
            Action::Late(lease) => {
                let kept = self.leases.get(&lease)?;
                kept.holders.iter().for_each(|holder| holder.status.late());
            }
            Action::Ended { lease, end } => {
                let kept = self.leases.remove(&lease)?;
                let error = end.into_error(lease);
                self.telemetry.leases.lost(lease, &error);
                for holder in kept.holders {
                    holder.status.lost(error.clone());
                }
            }
        }
        None
    }
}

impl Drop for KeepAliveTask {
    /// Performs the commands that are still queued: a handle that was dropped before the client closed
    /// gets no last item.
    fn drop(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.input(command);
        }
        self.telemetry.leases.are(0, None);
    }
}

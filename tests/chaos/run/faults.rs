//! Begins and ends the faults of a plan.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::cluster::MemberId;
use etcd_blocking::{Error, ErrorKind};

use super::replicas::service_key;
use super::scene::{PATIENCE, Scene};
use super::stage::wait;
use super::truth;
use crate::history::{Fault as Entry, Line, Time, now};
use crate::plan::{Clients, Fault, Plan, Target, Way};
use crate::support::proxy::{Dir, Proxy};
use crate::support::wait::join;

/// The time between two resets.
const RESETS: Duration = Duration::from_millis(150);

/// The revisions of a store before it is wiped. Clients recognise the next store by its revision, which is lower than the last one
/// that they know when they connect again, or by a key that they have seen. (`docs/limits.md` has the case that they do
/// not recognise.)
const RECOGNISED: i64 = 500;

/// Nothing listens there.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A fault that lasts.
struct Running {
    fault: Fault,
    member: usize,
    since: Time,
}

impl Scene {
    /// Plays a plan; returns how many faults could not be caused.
    pub fn play(&mut self, plan: &Plan) -> usize {
        let begun = Instant::now();
        let mut failed = 0;
        for (n, step) in plan.steps.iter().enumerate() {
            sleep_until(begun + step.at);
            let mut running = Vec::new();
            for fault in [Some(step.fault), step.with].into_iter().flatten() {
                self.record_step(n, fault, true);
                match self.begin(fault) {
                    Ok(member) => running.push(Running {
                        fault,
                        member,
                        since: now(),
                    }),
                    Err(error) => {
                        println!("step {n}, {fault:?}: {error}");
                        failed += 1;
                    }
                }
            }
            let end = Instant::now() + step.lasts;
            let resets = running.iter().any(|running| running.fault == Fault::Resets);
            while resets && Instant::now() < end {
                thread::sleep(RESETS);
                self.proxies.iter().for_each(Proxy::drop_connections);
            }
            sleep_until(end);
            for running in running.into_iter().rev() {
                self.end(&running);
                self.record_step(n, running.fault, false);
            }
        }
        failed
    }

    fn record_step(&self, step: usize, fault: Fault, begins: bool) {
        self.record.write(Line::Fault(Entry {
            t: now(),
            step,
            label: fault.label().to_owned(),
            begins,
        }));
    }

    fn of(&self, clients: Clients) -> Vec<&Proxy> {
        match clients {
            Clients::All => self.proxies.iter().collect(),
            Clients::Of(n) => vec![&self.proxies[n]],
        }
    }

    /// Returns the member that has the fault.
    fn begin(&mut self, fault: Fault) -> Result<usize, String> {
        let text = |error: Error| error.to_string();
        let io = |error: std::io::Error| error.to_string();
        let member = match fault {
            Fault::Kill(target)
            | Fault::Pause(target)
            | Fault::Restart(target)
            | Fault::PeerPartition(target) => self.member(target),
            Fault::MoveLeader | Fault::Quota => self.member(Target::Leader),
            _ => self.slots[0],
        };
        match fault {
            Fault::Kill(_) => self.cluster.member_mut(member).kill().map_err(io)?,
            Fault::Pause(_) => self.cluster.member(member).pause().map_err(io)?,
            Fault::Restart(_) => {
                let server = self.cluster.member_mut(member);
                server.stop().map_err(io)?;
                server.spawn().map_err(io)?;
                server.wait_ready(PATIENCE).map_err(io)?;
            }
            Fault::Wipe => {
                let address = self.cluster.member(member).client_addr();
                let wiped = self.wipe(member);
                self.forward_to(address);
                wiped.map_err(io)?;
            }
            Fault::Replace => self.replace_member()?,
            Fault::PeerPartition(_) => self.links.isolate(member),
            Fault::ClientPartition(clients) => self.of(clients).into_iter().for_each(Proxy::cut),
            Fault::Silence(clients) => self
                .of(clients)
                .into_iter()
                .for_each(|proxy| proxy.black_hole(true)),
            Fault::OneWay(clients, way) => {
                let proxies = self.of(clients).into_iter();
                proxies.for_each(|proxy| proxy.silence(direction(way), true));
            }
            Fault::Hold(clients) => {
                let proxies = self.of(clients).into_iter();
                proxies.for_each(|proxy| proxy.hold(Dir::Both, true));
            }
            Fault::Delay(ms) => self.delay(Duration::from_millis(ms)),
            Fault::Throttle(rate) => self.throttle(Some(rate)),
            Fault::Resets => self.proxies.iter().for_each(Proxy::drop_connections),
            Fault::Tokens => self.expire_tokens()?,
            Fault::Certificates => {
                if let Some(authority) = &self.authority {
                    authority.server();
                }
                self.proxies.iter().for_each(Proxy::drop_connections);
            }
            Fault::Compaction => self.compact()?,
            Fault::Defragmentation => {
                for endpoint in self.cluster.endpoints() {
                    let member = self.admin.at(endpoint).map_err(text)?;
                    member.maintenance().defragment().map_err(text)?;
                }
            }
            Fault::Quota => {
                let id = self.cluster.member(member).status().map_err(io)?.member_id;
                let json =
                    format!(r#"{{"action":"ACTIVATE","memberID":"{id}","alarm":"NOSPACE"}}"#);
                let posted = self.gateway(member).post("/v3/maintenance/alarm", &json);
                posted.map_err(io)?;
            }
            Fault::MoveLeader => {
                let other = (0..self.slots.len())
                    .map(|n| self.slots[n])
                    .find(|n| *n != member);
                let status = self
                    .cluster
                    .member(other.unwrap_or(member))
                    .status()
                    .map_err(io)?;
                let leader = self
                    .admin
                    .at(self.cluster.member(member).endpoint())
                    .map_err(text)?;
                let target = MemberId::new(status.member_id);
                leader.maintenance().move_leader(target).map_err(text)?;
            }
            Fault::RevokeLeases => {
                let since = now();
                for lease in self.admin.leases().map_err(text)?.ids().to_vec() {
                    // It may have expired meanwhile.
                    let _ = self.admin.revoke(lease);
                }
                self.record_cause(since, "", "revoked");
            }
            Fault::DeleteServices => {
                let (since, key) = (now(), service_key(0));
                let deleted = self.admin.delete(key.clone());
                self.record_cause(since, &key, "deleted");
                deleted.map_err(text)?;
            }
        }
        Ok(member)
    }

    fn end(&mut self, running: &Running) {
        match running.fault {
            Fault::Kill(_) => {
                let server = self.cluster.member_mut(running.member);
                server.spawn().unwrap();
                server.wait_ready(PATIENCE).unwrap();
            }
            Fault::Pause(_) => {
                self.cluster.member(running.member).resume().unwrap();
                // A leader that was stopped may end leases that were renewed elsewhere.
                self.record_cause(running.since, "", "a member was paused");
            }
            Fault::PeerPartition(_) => self.links.heal(),
            Fault::ClientPartition(clients) => {
                self.of(clients).into_iter().for_each(Proxy::restore)
            }
            Fault::Silence(clients) => self
                .of(clients)
                .into_iter()
                .for_each(|proxy| proxy.black_hole(false)),
            Fault::OneWay(clients, way) => {
                let proxies = self.of(clients).into_iter();
                proxies.for_each(|proxy| proxy.silence(direction(way), false));
            }
            Fault::Hold(clients) => {
                let proxies = self.of(clients).into_iter();
                proxies.for_each(|proxy| proxy.hold(Dir::Both, false));
            }
            Fault::Delay(_) => self.delay(Duration::ZERO),
            Fault::Throttle(_) => self.throttle(None),
            Fault::Quota => {
                wait(PATIENCE, "the alarm is disarmed", || {
                    match self.admin.maintenance().disarm_all() {
                        Ok(_) => Vec::new(),
                        Err(error) => vec![error.to_string()],
                    }
                });
            }
            _ => {}
        }
    }

    /// Kills a member and starts it without its data.
    ///
    /// Between both, it runs with its data and without clients until it has reported all changes: when it was killed, a
    /// client may have seen one that the truth did not have yet.
    fn wipe(&mut self, member: usize) -> std::io::Result<()> {
        wait(PATIENCE, "the store has enough revisions", || {
            match self.cluster.member(member).status() {
                Ok(status) if status.revision >= RECOGNISED => Vec::new(),
                Ok(status) => vec![status.revision.to_string()],
                Err(error) => vec![error.to_string()],
            }
        });
        self.cluster.member_mut(member).kill()?;
        self.forward_to(NOWHERE);
        self.cluster.member_mut(member).restart()?;
        let reached = self.stage.reached(&truth::name(member as u32));
        wait(PATIENCE, "the member has reported all changes", || {
            // An empty store has revision 1 and no change.
            let reached = reached.load(SeqCst).max(1);
            match self.cluster.member(member).status() {
                Ok(status) if status.revision <= reached => Vec::new(),
                Ok(status) => vec![format!("{reached} of {}", status.revision)],
                Err(error) => vec![error.to_string()],
            }
        });
        self.cluster.member_mut(member).kill()?;
        self.replace_store();
        let server = self.cluster.member_mut(member);
        server.wipe()?;
        server.spawn()?;
        server.wait_ready(PATIENCE)
    }

    /// Sets where the proxies forward to; other faults of the proxies stay.
    fn forward_to(&self, address: SocketAddr) {
        self.proxies
            .iter()
            .for_each(|proxy| proxy.set_upstream(address));
    }

    fn delay(&self, delay: Duration) {
        self.proxies
            .iter()
            .for_each(|proxy| proxy.delay(Dir::Both, delay));
    }

    fn throttle(&self, rate: Option<u64>) {
        self.proxies
            .iter()
            .for_each(|proxy| proxy.throttle(Dir::Both, rate));
    }

    /// Adds a member, and removes the one whose place it takes. etcd requires this order: the list of a new member has
    /// all that were prepared before.
    fn replace_member(&mut self) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        let io = |error: std::io::Error| error.to_string();
        let slot = self.slots.len() - 1;
        let old = self.slots[slot];
        let id = MemberId::new(self.cluster.member(old).status().map_err(io)?.member_id);
        let new = self.cluster.prepare_member().map_err(io)?;
        let peer = self.cluster.member(new).peer_url();
        // A cluster refuses a change until all members have been connected for some time.
        let added = |error: &Error| error.kind() == ErrorKind::AlreadyExists;
        let done = wait(PATIENCE, "a member is added", || {
            let result = self.admin.cluster().member_add([peer.clone()]);
            let error = result.err().filter(|error| !added(error));
            error.iter().map(Error::to_string).collect()
        });
        if !done {
            return Err("no member was added".to_owned());
        }
        join(self.cluster.member_mut(new));
        self.cluster
            .member_mut(new)
            .wait_ready(PATIENCE)
            .map_err(io)?;
        self.report_truth(new);
        self.proxies[slot].set_upstream(self.cluster.member(new).client_addr());
        self.slots[slot] = new;
        let members = self
            .slots
            .iter()
            .map(|n| self.cluster.member(*n).endpoint());
        self.admin
            .set_endpoints(members.collect::<Vec<_>>())
            .map_err(text)?;
        self.cluster.member_mut(old).kill().map_err(io)?;
        self.stage.forget(&truth::name(old as u32));
        let removed = |error: &Error| error.kind() == ErrorKind::NotFound;
        let done = wait(PATIENCE, "the member is removed", || {
            let result = self.admin.cluster().member_remove(id);
            let error = result.err().filter(|error| !removed(error));
            error.iter().map(Error::to_string).collect()
        });
        done.then_some(())
            .ok_or_else(|| "the member was not removed".to_owned())
    }

    /// Ends all faults of the network.
    pub fn heal(&mut self) {
        self.links.heal();
        self.proxies.iter().for_each(Proxy::heal);
        for n in self.slots.clone() {
            self.cluster.member_mut(n).wait_ready(PATIENCE).unwrap();
        }
    }
}

fn direction(way: Way) -> Dir {
    match way {
        Way::Up => Dir::Up,
        Way::Down => Dir::Down,
    }
}

fn sleep_until(time: Instant) {
    thread::sleep(time.saturating_duration_since(Instant::now()));
}

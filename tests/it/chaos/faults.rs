//! Faults of the cluster and the network, each undone after it has taken effect.

use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalCluster;

use super::{PATIENCE, Run};
use crate::support::proxy::Proxy;
use crate::support::wait::{eventually, leader};

const EVERY: Duration = Duration::from_secs(5);
/// Longer than the TTL of a session.
const FROZEN: Duration = Duration::from_secs(6);

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The leader is killed, and started again once the others serve.
    Kill,
    /// The leader is stopped, and resumes long after another one was elected.
    Freeze,
    /// No member is reachable until sessions are lost.
    Cut,
    /// Connections break, and can be made again.
    Drop,
}

/// A cluster, and a proxy in front of each member.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) cluster: LocalCluster,
    pub(super) proxies: Vec<Proxy>,
}

impl Scene {
    pub(super) fn new(cluster: LocalCluster) -> Self {
        let members = cluster.members().iter();
        let proxies = members.map(|member| Proxy::start(member.client_addr()).unwrap());
        Scene {
            proxies: proxies.collect(),
            cluster,
        }
    }

    /// One fault every five seconds, in turn.
    pub(super) fn run_faults(&mut self, run: &Run, faults: &[Fault], length: Duration) {
        let times = length.as_secs() / EVERY.as_secs();
        let mut next = Instant::now();
        for fault in faults.iter().cycle().take(times as usize) {
            next = Instant::now().max(next + EVERY);
            while Instant::now() < next && run.is_running() {
                thread::sleep(Duration::from_millis(50));
            }
            run.tally.count(&format!("{fault:?}"));
            self.cause(run, *fault);
        }
        wait_for_progress(run);
    }

    fn cause(&mut self, run: &Run, fault: Fault) {
        match fault {
            Fault::Kill => {
                let victim = leader(&self.cluster);
                self.cluster.member_mut(victim).kill().unwrap();
                wait_for_progress(run);
                let member = self.cluster.member_mut(victim);
                member.spawn().unwrap();
                member.wait_ready(PATIENCE).unwrap();
            }
            Fault::Freeze => {
                let victim = self.cluster.member(leader(&self.cluster));
                let begun = Instant::now();
                victim.pause().unwrap();
                wait_for_progress(run);
                thread::sleep(FROZEN.saturating_sub(begun.elapsed()));
                victim.resume().unwrap();
            }
            Fault::Cut => {
                let lost = || run.tally.total("session lost");
                let before = lost();
                self.proxies.iter().for_each(Proxy::cut);
                eventually(PATIENCE, "sessions are lost", || {
                    (lost() > before || !run.is_running()).then_some(())
                });
                self.proxies.iter().for_each(Proxy::restore);
            }
            Fault::Drop => {
                for _ in 0..5 {
                    self.proxies.iter().for_each(Proxy::drop_connections);
                    thread::sleep(Duration::from_millis(100));
                }
                wait_for_progress(run);
            }
        }
    }
}

/// Waits until the writers make progress.
#[track_caller]
fn wait_for_progress(run: &Run) {
    let before = run.counters.done();
    eventually(PATIENCE, "writes are acknowledged", || {
        let got_on = run.counters.done() > before + 50;
        (got_on || !run.is_running()).then_some(())
    });
}

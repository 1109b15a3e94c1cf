//! Planted faults of replicas and registrations.

use super::assert_caught;
use crate::history::{History, Sample, ShotKind};

/// The index of a random shot of a kind that has contents, before the last ones.
fn shot(history: &History, random: &mut fastrand::Rng, kind: ShotKind) -> Option<usize> {
    let fitting: Vec<usize> = (0..history.shots.len() - 2)
        .filter(|n| history.shots[*n].kind == kind && !history.shots[*n].kvs.is_empty())
        .collect();
    random.choice(fitting)
}

fn some(found: Option<()>) -> bool {
    found.is_some()
}

#[test]
fn every_planted_fault_of_a_replica_is_caught() {
    assert_caught(&[
        (
            "a mirror is emptier than the truth",
            &["replica: list"],
            |history, random| {
                some(
                    shot(history, random, ShotKind::Mirror)
                        .map(|n| drop(history.shots[n].kvs.pop())),
                )
            },
        ),
        (
            "a mirror is empty",
            &["replica: list"],
            |history, random| {
                some(shot(history, random, ShotKind::Mirror).map(|n| history.shots[n].kvs.clear()))
            },
        ),
        (
            "a mirror has an old value",
            &["replica: list"],
            |history, random| {
                some(
                    shot(history, random, ShotKind::Mirror)
                        .map(|n| history.shots[n].kvs[0].modified -= 1),
                )
            },
        ),
        (
            "a mirror has a deleted key",
            &["replica: list"],
            |history, random| {
                some(shot(history, random, ShotKind::Mirror).map(|n| {
                    let mut kv = history.shots[n].kvs[0].clone();
                    kv.key = "kv/gone".to_owned();
                    history.shots[n].kvs.push(kv);
                }))
            },
        ),
        (
            "a view is emptier than the truth",
            &["replica: list"],
            |history, random| {
                some(shot(history, random, ShotKind::View).map(|n| history.shots[n].kvs.clear()))
            },
        ),
        (
            "a mirror goes back",
            &["replica: ordered"],
            |history, random| {
                let Some(n) = shot(history, random, ShotKind::Mirror).filter(|n| *n >= 4) else {
                    return false;
                };
                let early = history.shots[n - 4].clone();
                let at = history.shots[n].clone();
                history.shots.insert(
                    n + 1,
                    crate::history::Shot {
                        t0: at.t0,
                        t1: at.t1,
                        ..early
                    },
                );
                true
            },
        ),
        (
            "a mirror is behind in the end",
            &["replica: live"],
            |history, _| {
                let last = history
                    .shots
                    .iter_mut()
                    .rfind(|shot| shot.kind == ShotKind::Mirror);
                some(last.map(|last| drop(last.kvs.pop())))
            },
        ),
    ]);
}

/// A sample of a registration that was lost at once by its clock.
fn lost(history: &History) -> Option<(usize, Sample)> {
    let samples = history.samples.windows(2).enumerate();
    let mut lost =
        samples.filter(|(_, pair)| pair[0].state == "Registered" && pair[1].state == "Lost");
    lost.next().map(|(n, pair)| (n + 1, pair[0].clone()))
}

#[test]
fn every_planted_fault_of_a_registration_is_caught() {
    assert_caught(&[
        (
            "registered after its own deadline",
            &["registration: true"],
            |history, _| {
                some(lost(history).map(|(n, before)| {
                    let Sample { t0, t1, .. } = history.samples[n];
                    history.samples[n] = Sample {
                        t0: t0 + 50_000_000,
                        t1: t1 + 50_000_000,
                        ..before
                    };
                }))
            },
        ),
        (
            "registered after etcd let it go",
            &["registration: true"],
            |history, _| {
                some(lost(history).map(|(n, before)| {
                    let t0 = history.samples[n].t0 + 5_000_000;
                    history.samples.insert(
                        n + 1,
                        Sample {
                            t0,
                            t1: t0 + 1,
                            until: t0 + 60_000_000,
                            ..before
                        },
                    );
                }))
            },
        ),
        (
            "not back in the end",
            &["registration: back"],
            |history, _| {
                let last = history.samples.last().cloned();
                some(last.map(|last| {
                    let state = "Lost".to_owned();
                    history.samples.push(Sample {
                        state,
                        t0: last.t1,
                        ..last
                    });
                }))
            },
        ),
        ("back too late", &["registration: back"], |history, _| {
            let late = history.last().quiet + history.run().recovery + 1_000_000;
            let last = history.samples.last().cloned();
            some(last.map(|last| {
                let state = "Lost".to_owned();
                history.samples.push(Sample {
                    state,
                    ..last.clone()
                });
                history.samples.push(Sample {
                    t0: late,
                    t1: late,
                    until: late + 1,
                    ..last
                });
            }))
        }),
        (
            "registered without a key in the end",
            &["registration: true"],
            |history, _| {
                let last = history.samples.last_mut();
                some(last.map(|last| last.lease += 1000))
            },
        ),
    ]);
}

use std::sync::mpsc::channel;
use std::time::Instant;

use super::*;
use crate::error::Operation;

const DRIVES: [DriveMode; 3] = [DriveMode::Auto, DriveMode::Caller, DriveMode::Thread];

fn bridge(drive: DriveMode) -> Bridge {
    Bridge::start("test", drive).unwrap()
}

async fn panics() -> Result<()> {
    panic!("as a bug would");
}

// Fault: F38
#[test]
fn a_panic_reaches_the_caller_and_only_that_caller() {
    for drive in DRIVES {
        let bridge = bridge(drive);
        for _ in 0..50 {
            let error = bridge.call(panics()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Panicked, "{drive:?}");
            assert_eq!(bridge.call(async { Ok(1) }).unwrap(), 1, "{drive:?}");
        }
        let lost = LostRequest {
            outcome_unknown: true,
            operation: Some(Operation::new("test")),
        };
        let waited = bridge.submit_or(lost.clone(), panics()).wait().unwrap_err();
        assert_eq!(waited.kind(), ErrorKind::Panicked);
        assert!(waited.outcome_unknown());
        let called = bridge.call_or(lost.clone(), panics()).unwrap_err();
        assert!(called.outcome_unknown());
        assert!(called.to_string().starts_with("test: "), "{called}");
        bridge.close().unwrap();
    }
}

#[test]
fn closing_gives_waiting_calls_an_unknown_outcome_and_later_calls_none() {
    for drive in DRIVES {
        let bridge = bridge(drive);
        let lost = LostRequest {
            outcome_unknown: true,
            operation: Some(Operation::new("test")),
        };
        thread::scope(|scope| {
            let (begun, begins) = channel();
            let waiting = scope.spawn(|| {
                bridge.call_or(lost.clone(), async move {
                    begun.send(()).unwrap();
                    std::future::pending::<Result<()>>().await
                })
            });
            begins.recv().unwrap();
            bridge.close().unwrap();
            let error = waiting.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed, "{drive:?}");
            assert!(error.outcome_unknown(), "{drive:?}");
        });
        for late in [
            bridge.call_or(lost.clone(), async { Ok(()) }),
            bridge.submit_or(lost.clone(), async { Ok(()) }).wait(),
        ] {
            let error = late.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
            assert!(!error.outcome_unknown());
        }
    }
}

#[test]
fn closing_does_not_wait_for_a_hanging_lookup() {
    for drive in DRIVES {
        let bridge = bridge(drive);
        let (hang_up, hung) = channel::<()>();
        let (begun, begins) = channel();
        // This thread cannot be interrupted.
        bridge
            .spawn(Box::pin(async move {
                let hanging = tokio::task::spawn_blocking(move || {
                    begun.send(()).unwrap();
                    hung.recv()
                });
                let _ = hanging.await;
            }))
            .unwrap();
        begins.recv().unwrap();
        let start = Instant::now();
        drop(bridge);
        // The look-up never ends; a busy machine may notice the end of the limit late.
        assert!(
            start.elapsed() < 10 * CLOSE_WITHIN,
            "{drive:?} {:?}",
            start.elapsed()
        );
        drop(hang_up);
    }
}

#[test]
fn tasks_run_while_a_lone_caller_drives_and_after_it_stops() {
    let bridge = bridge(DriveMode::Auto);
    let (ticks, ticked) = channel();
    bridge
        .spawn(Box::pin(async move {
            while ticks.send(()).is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }))
        .unwrap();
    for _ in 0..1000 {
        bridge.call(async { Ok(()) }).unwrap();
    }
    let during = ticked.try_iter().count();
    for _ in 0..20 {
        ticked.recv_timeout(Duration::from_secs(1)).unwrap();
    }
    assert!(during > 0);
}

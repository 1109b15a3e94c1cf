use std::time::Duration;

use tokio::sync::watch;

use super::connect::endpoint::Endpoint;
use super::transport::CLEANUPS;
use super::*;

pub(super) fn settings() -> TransportSettings {
    TransportSettings {
        connect_timeout: Duration::from_secs(3),
        stagger: Duration::from_millis(100),
        resolver: Resolver::system(),
        stream_window: 1 << 16,
        connection_window: 1 << 16,
        limits: MessageLimits {
            receive: 1 << 20,
            send: 1 << 20,
            txn_ops: 128,
        },
        ping: TransportSettings::pings(Duration::from_secs(10), Duration::from_secs(5)),
        timers: Timers::new(crate::util::boot_time::BootTime::default),
        tokens: None,
        plaintext_credentials: false,
        #[cfg(feature = "__tls")]
        tls: None,
    }
}

// Fault: Q3
#[test]
fn after_a_race_that_panicked_another_one_starts() {
    let endpoint = Endpoint::parse("127.0.0.1:1", false).unwrap();
    let transport = Transport::new(vec![endpoint], settings());
    let (sender, outcome) = watch::channel(None);
    transport.pool(ConnectionRole::Calls).lock().dialling = Some(outcome);
    // A panic drops the sender without a result.
    drop(sender);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let dialled = runtime.enable_all().build().unwrap().block_on(async {
        let dialled = transport.dialled(ConnectionRole::Calls, Urgency::Call);
        tokio::time::timeout(Duration::from_secs(20), dialled).await
    });
    let error = dialled.unwrap().unwrap_err();
    assert!(error.text.contains("refused"), "{error}");
}

#[test]
fn clean_ups_are_bounded_per_client_and_each_end_frees_a_slot() {
    let endpoint = || vec![Endpoint::parse("127.0.0.1:1", false).unwrap()];
    let (busy, other) = (
        Transport::new(endpoint(), settings()),
        Transport::new(endpoint(), settings()),
    );
    let (end, ended) = watch::channel(0);
    let hang_until = |at: i32| {
        let mut ended = ended.clone();
        async move { drop(ended.wait_for(|now| *now >= at).await) }
    };
    let room = |transport: &Transport| {
        let begun = || transport.clean_up(hang_until(2));
        std::iter::repeat_with(begun)
            .take_while(|begun| *begun)
            .count()
    };
    assert!(!busy.clean_up(async {}), "there is no runtime");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        assert!(busy.clean_up(hang_until(1)));
        assert!(busy.clean_up(async { panic!("on purpose") }));
        assert_eq!(room(&busy), CLEANUPS - 2);
        assert!(!busy.clean_up(async { panic!("it is refused") }));
        assert!(other.clean_up(async {}));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(room(&busy), 1, "one panicked");
        end.send_replace(1);
        while !busy.clean_up(hang_until(2)) {
            tokio::task::yield_now().await;
        }
        assert_eq!(room(&busy), 0, "one ended");
    });
}

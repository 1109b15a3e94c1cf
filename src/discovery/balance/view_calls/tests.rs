use std::cell::RefCell;
use std::sync::Arc;

use super::super::balance::Balance;
use super::super::retry_budget::RetryBudget;
use super::super::settings::BalanceSettings;
use super::*;

fn balancer(instances: usize, retry_budget: RetryBudget) -> Balancer {
    let balancer = Balancer::new(BalanceSettings {
        balance: Balance::Weighted,
        retry_budget,
        ..BalanceSettings::default()
    });
    fill(&balancer, instances);
    balancer
}

fn fill(balancer: &Balancer, instances: usize) {
    let edits = (0..instances).map(|n| {
        let instance = Instance::new("web", "a:1").id(n.to_string());
        (n.to_string().into(), Some(Arc::new(instance)))
    });
    balancer.update(&edits.collect::<Vec<_>>());
}

#[test]
fn another_instance_is_tried_only_when_the_closure_permits_it() {
    let balancer = balancer(3, RetryBudget::default());
    let ids = RefCell::new(Vec::new());
    let retry = |instance: &Instance| {
        ids.borrow_mut().push(instance.id.clone());
        Attempt::<(), _>::Retry(ids.borrow().len())
    };
    assert_eq!(call(&balancer, None, retry), Err(CallError::Failed(3)));
    let mut tried = ids.take();
    tried.sort();
    assert_eq!(tried, ["0", "1", "2"]);
    let mut attempts = 0;
    let answer = call(&balancer, None, |_| {
        attempts += 1;
        if attempts < 2 {
            Attempt::Retry("refused")
        } else {
            Attempt::Succeeded(attempts)
        }
    });
    assert_eq!(answer, Ok(2));
    let failed = call(&balancer, None, |_| Attempt::<(), _>::Failed(7));
    assert_eq!(failed, Err(CallError::Failed(7)));
}

#[test]
fn no_instance_is_tried_twice_while_others_exist() {
    for balance in [Balance::Random, Balance::Rendezvous] {
        let balancer = Balancer::new(BalanceSettings {
            balance,
            retry_budget: RetryBudget::default().per_second(1000).attempts(8),
            ..BalanceSettings::default()
        });
        fill(&balancer, 8);
        for key in 0..20 {
            let mut tried = Vec::new();
            let _ = call(&balancer, Some(key << 40), |instance| {
                tried.push(instance.id.clone());
                Attempt::<(), _>::Retry(())
            });
            tried.sort();
            tried.dedup();
            assert_eq!(tried.len(), 8, "{balance:?}");
        }
    }
}

#[test]
fn attempts_are_within_the_budget() {
    let budget = RetryBudget::default().percent(10).per_second(0).attempts(2);
    let balancer = balancer(3, budget);
    let mut attempts = 0;
    for _ in 0..100 {
        let _ = call(&balancer, None, |_| {
            attempts += 1;
            Attempt::<(), _>::Retry(())
        });
    }
    assert_eq!(attempts, 110);
    let mut attempts = 0;
    let no_limit = RetryBudget::default().per_second(1000).attempts(99);
    let _ = call(&self::balancer(2, no_limit), None, |_| {
        attempts += 1;
        Attempt::<(), _>::Retry(())
    });
    assert_eq!(attempts, 16);
}

#[test]
fn the_only_instance_is_tried_again_and_none_is_an_error_of_its_own() {
    let one = balancer(1, RetryBudget::default());
    let mut attempts = 0;
    let _ = call(&one, None, |_| {
        attempts += 1;
        Attempt::<(), _>::Retry(())
    });
    assert_eq!(attempts, 3);
    let none = call(&balancer(0, RetryBudget::default()), None, |_| {
        Attempt::<(), ()>::Succeeded(())
    });
    assert_eq!(none, Err(CallError::NoInstance));
}

#[test]
fn a_closure_may_use_the_balancer_and_may_panic() {
    let balancer = balancer(2, RetryBudget::default());
    // With a lock held this would never return.
    let nested = call(&balancer, None, |outer| {
        let inner = call(&balancer, None, |inner| {
            Attempt::<_, ()>::Succeeded(inner.id.clone())
        });
        Attempt::<_, ()>::Succeeded(inner.map(|inner| (outer.id.clone(), inner)))
    });
    let (outer, inner) = nested.unwrap().unwrap();
    assert_ne!(outer, inner, "the weighted balance takes turns");
    for _ in 0..10 {
        let panics = std::panic::AssertUnwindSafe(|| {
            call(&balancer, None, |_| -> Attempt<(), ()> {
                std::panic::resume_unwind(Box::new("closure"))
            })
        });
        assert!(std::panic::catch_unwind(panics).is_err());
    }
    assert!(balancer.ejected().is_empty(), "a panic is no outcome");
    assert!(balancer.acquire(None).is_some());
}

#[test]
fn failed_attempts_eject_an_instance() {
    let balancer = balancer(4, RetryBudget::default().per_second(1000));
    for _ in 0..100 {
        let answer = call(&balancer, None, |instance| {
            if instance.id == "2" {
                Attempt::Retry(())
            } else {
                Attempt::Succeeded(())
            }
        });
        assert_eq!(answer, Ok(()));
    }
    let ejected = balancer.ejected();
    assert_eq!(
        ejected
            .iter()
            .map(|one| one.id.as_str())
            .collect::<Vec<_>>(),
        ["2"]
    );
}

//! What a `Discovery` sets about the choice of instances.

use std::sync::Arc;

use super::balance::Balance;
use super::ejection::Ejection;
use super::filter::Filter;
use super::retry_budget::RetryBudget;
use crate::error::{Error, Result};

/// The settings of the balancer of a view.
#[derive(Clone, Debug, Default)]
pub(crate) struct BalanceSettings {
    pub(crate) balance: Balance,
    pub(crate) filter: Arc<Filter>,
    /// The own zone.
    pub(crate) zone: Option<String>,
    /// The size of the subset, and the name of the client.
    pub(crate) subset: Option<(usize, String)>,
    pub(crate) ejection: Ejection,
    pub(crate) retry_budget: RetryBudget,
}

impl BalanceSettings {
    pub(crate) fn check(&self) -> Result<()> {
        match &self.subset {
            Some((0, _)) => Err(Error::invalid(
                "a subset of 0 instances has none to pick; use 1 or more",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_of_no_instances_is_refused() {
        let of = |subset: Option<usize>| BalanceSettings {
            subset: subset.map(|size| (size, "a".to_owned())),
            ..BalanceSettings::default()
        };
        assert!(of(Some(0)).check().is_err());
        of(Some(1)).check().unwrap();
        of(None).check().unwrap();
    }
}

//! The share of the calls that stays in the own zone. Pure.

/// The part of the calls that the instances of the own zone get, in 0..=1.
///
/// `usable` is the weight of those that can be picked now, `missing` the weight of those that are out of
/// service, in maintenance or ejected. All calls stay in the zone while 72 % of it can be used; with less, the
/// zone gets 1.4 times its usable part, and the others get the rest. It is the rule of Envoy's priority levels, with
/// its default overprovisioning factor of 140 %.
pub(super) fn own_zone_share(usable: u64, missing: u64) -> f64 {
    let all = usable.saturating_add(missing);
    if usable == 0 {
        return 0.0;
    }
    (1.4 * usable as f64 / all as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_leave_the_zone_when_less_than_72_percent_of_it_can_be_used() {
        for (usable, missing, share) in [
            (0, 0, 0.0),
            (0, 10, 0.0),
            (1, 0, 1.0),
            (75, 25, 1.0),
            (70, 30, 0.98),
            (50, 50, 0.7),
            (10, 90, 0.14),
        ] {
            let found = own_zone_share(usable, missing);
            assert!(
                (found - share).abs() < 1e-9,
                "{usable} of {usable}+{missing}: {found}"
            );
        }
        assert_eq!(own_zone_share(u64::MAX, u64::MAX), 1.0);
    }
}

//! Medians of figures, and of their ratios within a round.

use std::collections::BTreeMap;

use peers::report::Report;

/// A figure of a report.
pub(crate) type Figure = fn(&Report) -> Option<f64>;

/// The reports of one work: of each round, by the name of the peer.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) rounds: Vec<BTreeMap<&'static str, Report>>,
}

impl Measured {
    /// The median of a figure of a peer.
    pub(crate) fn median(&self, peer: &str, figure: Figure) -> Option<f64> {
        median(
            self.rounds
                .iter()
                .filter_map(|round| figure(round.get(peer)?))
                .collect(),
        )
    }

    /// The median of the ratios to a peer within a round.
    pub(crate) fn ratio(&self, own: &str, peer: &str, figure: Figure) -> Option<f64> {
        let of = |round: &BTreeMap<&'static str, Report>| {
            let (own, other) = (figure(round.get(own)?)?, figure(round.get(peer)?)?);
            (other > 0.0).then(|| own / other)
        };
        median(self.rounds.iter().filter_map(of).collect())
    }

    /// Why a peer has no figures.
    pub(crate) fn none(&self, peer: &str) -> Option<&str> {
        self.rounds
            .iter()
            .filter_map(|round| round.get(peer))
            .find_map(|report| report.none.as_deref())
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (
        values.get(values.len().saturating_sub(1) / 2)?,
        values.get(values.len() / 2)?,
    );
    Some((low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(own: f64, other: f64) -> BTreeMap<&'static str, Report> {
        let report = |ops| Report {
            ops,
            secs: 1.0,
            ..Report::default()
        };
        [("own", report(own)), ("other", report(other))].into()
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let measured = Measured {
            rounds: vec![round(10.0, 5.0), round(100.0, 25.0), round(3.0, 1.0)],
        };
        assert_eq!(measured.median("own", Report::rate), Some(10.0));
        assert_eq!(measured.ratio("own", "other", Report::rate), Some(3.0));
        assert_eq!(measured.ratio("own", "nobody", Report::rate), None);
    }

    #[test]
    fn the_median_of_two_is_their_mean() {
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}

//! The consecutive tokens that the server refused for the streams of the watches.

use std::time::{Duration, Instant};

/// This many consecutive tokens are refused, over at least this time, before the watches end. While
/// users and roles change under JWTs, a token can be outdated before it is used.
const MAX_REFUSALS: u32 = 5;
const REFUSALS_FOR: Duration = Duration::from_secs(10);

/// The number of consecutive tokens that were refused, and the time of the first refusal.
#[derive(Debug, Default)]
pub(super) struct TokenRefusals(Option<(u32, Instant)>);

impl TokenRefusals {
    /// Records a refusal. Returns whether another token should be tried.
    pub(super) fn refused(&mut self, now: Instant) -> bool {
        let (count, since) = self.0.unwrap_or((0, now));
        let is_over = count >= MAX_REFUSALS && now.saturating_duration_since(since) >= REFUSALS_FOR;
        self.0 = (!is_over).then_some((count + 1, since));
        !is_over
    }

    /// Records that a token was accepted.
    pub(super) fn accepted(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_tried_five_times_and_for_ten_seconds() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut refusals = TokenRefusals::default();
        assert!(
            (0..20).all(|_| refusals.refused(at(9))),
            "not for ten seconds"
        );
        assert!(!refusals.refused(at(19)));
        // The next refusal is the first one again.
        assert!(refusals.refused(at(30)) && refusals.refused(at(60)));
        refusals.accepted();
        assert!((0..5).all(|_| refusals.refused(at(100))));
        assert!(!refusals.refused(at(110)));
    }
}

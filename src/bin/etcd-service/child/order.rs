//! The orders to the stage, one per line. Pure.

use std::time::Duration;

/// An order to the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Send this signal to the command.
    Signal(i32),
    /// End the command: SIGTERM now, SIGKILL after this time.
    Stop(Duration),
    /// End the command at these times of the boot clock: SIGTERM, then SIGKILL. It replaces an earlier order.
    Until { term: Duration, kill: Duration },
}

impl Order {
    pub(super) fn line(self) -> String {
        match self {
            Order::Signal(signal) => format!("signal {signal}\n"),
            Order::Stop(grace) => format!("stop {}\n", grace.as_millis()),
            Order::Until { term, kill } => {
                format!("until {} {}\n", term.as_millis(), kill.as_millis())
            }
        }
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let time = |text: &str| text.parse().ok().map(Duration::from_millis);
        match words.as_slice() {
            ["signal", signal] => Some(Order::Signal(signal.parse().ok()?)),
            ["stop", grace] => Some(Order::Stop(time(grace)?)),
            ["until", term, kill] => Some(Order::Until {
                term: time(term)?,
                kill: time(kill)?,
            }),
            _ => None,
        }
    }
}

/// When the command is to be ended, and what was done about it.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    term: Option<Duration>,
    kill: Option<Duration>,
    stops: bool,
}

/// What is to be done with the process group of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Term,
    Kill,
}

impl Schedule {
    /// Takes an order, at this time of the boot clock. A stop is final; later times do not put it off.
    pub(super) fn take(&mut self, order: Order, now: Duration) {
        match order {
            Order::Signal(_) => {}
            Order::Stop(grace) => {
                let kill = now + grace;
                self.kill = Some(self.kill.map_or(kill, |before| before.min(kill)));
                if !self.stops {
                    self.term = Some(now);
                }
                self.stops = true;
            }
            Order::Until { term, kill } if !self.stops => {
                (self.term, self.kill) = (Some(term), Some(kill));
            }
            Order::Until { kill, .. } => {
                self.kill = self.kill.map(|before| before.min(kill));
            }
        }
    }

    /// What is due now. Each is due once.
    pub(super) fn due(&mut self, now: Duration) -> Option<Due> {
        if self.kill.is_some_and(|at| at <= now) {
            self.kill = None;
            return Some(Due::Kill);
        }
        if self.term.is_some_and(|at| at <= now) {
            self.term = None;
            // From the first SIGTERM on there is no way back.
            self.stops = true;
            return Some(Due::Term);
        }
        None
    }

    /// The time until something is due.
    pub(super) fn wait(&self, now: Duration) -> Option<Duration> {
        let next = [self.term, self.kill].into_iter().flatten().min()?;
        Some(next.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn until(term: u64, kill: u64) -> Order {
        Order::Until {
            term: ms(term),
            kill: ms(kill),
        }
    }

    #[test]
    fn a_line_says_the_same_as_its_order() {
        for order in [Order::Signal(1), Order::Stop(ms(10_000)), until(5, 7)] {
            assert_eq!(Order::parse(&order.line()), Some(order));
        }
        for line in [
            "",
            "signal",
            "signal x",
            "until 5",
            "until 5 x",
            "stop -1",
            "sto 1",
        ] {
            assert_eq!(Order::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_command_ends_at_the_last_time_it_was_given() {
        let mut schedule = Schedule::default();
        assert_eq!((schedule.due(ms(1)), schedule.wait(ms(1))), (None, None));
        schedule.take(until(100, 200), ms(0));
        schedule.take(until(300, 400), ms(90));
        assert_eq!(
            (schedule.due(ms(299)), schedule.wait(ms(299))),
            (None, Some(ms(1)))
        );
        assert_eq!(schedule.due(ms(300)), Some(Due::Term));
        assert_eq!(schedule.due(ms(399)), None);
        // Too late: it has got its SIGTERM.
        schedule.take(until(900, 990), ms(399));
        assert_eq!(schedule.due(ms(400)), Some(Due::Kill));
        assert_eq!(
            (schedule.due(ms(1000)), schedule.wait(ms(1000))),
            (None, None)
        );
    }

    #[test]
    fn a_stop_cannot_be_put_off_but_hastened() {
        let mut schedule = Schedule::default();
        schedule.take(until(500, 600), ms(0));
        schedule.take(Order::Stop(ms(50)), ms(10));
        assert_eq!(schedule.due(ms(10)), Some(Due::Term));
        schedule.take(until(800, 900), ms(20));
        schedule.take(Order::Stop(ms(1000)), ms(30));
        assert_eq!(
            (schedule.due(ms(59)), schedule.wait(ms(59))),
            (None, Some(ms(1)))
        );
        assert_eq!(schedule.due(ms(60)), Some(Due::Kill));
        let mut late = Schedule::default();
        late.take(until(500, 600), ms(0));
        // After a suspension: both are due, and the command is killed at once.
        assert_eq!(late.due(ms(9000)), Some(Due::Kill));
    }
}

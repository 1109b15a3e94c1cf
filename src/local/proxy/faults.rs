//! The faults of a proxy or of one connection, by direction. Pure.

use std::time::Duration;

use super::link::Link;

/// The direction of a fault of a [`Proxy`](super::Proxy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
    /// Both of them.
    Both,
}

/// One way of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl Direction {
    pub(super) fn ways(self) -> &'static [Way] {
        match self {
            Direction::Up => &[Way::Up],
            Direction::Down => &[Way::Down],
            Direction::Both => &[Way::Up, Way::Down],
        }
    }
}

/// A value for each way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Each<T> {
    up: T,
    down: T,
}

impl<T> Each<T> {
    pub(super) fn of(&self, way: Way) -> &T {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    pub(super) fn of_mut(&mut self, way: Way) -> &mut T {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// Sets the value of one way or both.
    pub(super) fn set(&mut self, direction: Direction, value: T)
    where
        T: Clone,
    {
        for way in direction.ways() {
            *self.of_mut(*way) = value.clone();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        [&self.up, &self.down].into_iter()
    }
}

/// The faults that are switched on. Those of a proxy and those of a connection add up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) held: Each<bool>,
    pub(super) silent: Each<bool>,
    pub(super) black_hole: bool,
    pub(super) delay: Each<Duration>,
    pub(super) link: Each<Link>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_sets_its_ways_only() {
        let mut each = Each::<u8>::default();
        each.set(Direction::Up, 1);
        assert_eq!((*each.of(Way::Up), *each.of(Way::Down)), (1, 0));
        each.set(Direction::Down, 2);
        assert_eq!((*each.of(Way::Up), *each.of(Way::Down)), (1, 2));
        each.set(Direction::Both, 3);
        assert_eq!(each.iter().copied().collect::<Vec<_>>(), [3, 3]);
    }
}

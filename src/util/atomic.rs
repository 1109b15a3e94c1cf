//! 64-bit atomic integers on every target; a mutex replaces the instructions where the processor has none.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
#[cfg(target_has_atomic = "64")]
pub(crate) use std::sync::atomic::{AtomicI64, AtomicU64};

#[cfg(not(target_has_atomic = "64"))]
pub(crate) type AtomicU64 = locked::Locked<u64>;
#[cfg(not(target_has_atomic = "64"))]
pub(crate) type AtomicI64 = locked::Locked<i64>;

/// The replacement for targets such as PowerPC, MIPS and old ARM.
#[cfg(any(test, not(target_has_atomic = "64")))]
mod locked {
    use std::sync::atomic::Ordering;

    use parking_lot::Mutex;

    /// An integer with those methods of the atomic types of `std` that the crate uses. A mutex is stronger
    /// than every ordering.
    #[derive(Debug, Default)]
    pub(crate) struct Locked<T>(Mutex<T>);

    impl<T: Copy> Locked<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn load(&self, _: Ordering) -> T {
            *self.0.lock()
        }

        pub(crate) fn store(&self, value: T, _: Ordering) {
            *self.0.lock() = value;
        }

        pub(crate) fn swap(&self, value: T, _: Ordering) -> T {
            self.replace(|_| value)
        }

        pub(crate) fn fetch_update(
            &self,
            _: Ordering,
            _: Ordering,
            mut update: impl FnMut(T) -> Option<T>,
        ) -> Result<T, T> {
            let mut value = self.0.lock();
            let old = *value;
            *value = update(old).ok_or(old)?;
            Ok(old)
        }

        fn replace(&self, new: impl FnOnce(T) -> T) -> T {
            let mut value = self.0.lock();
            let old = *value;
            *value = new(old);
            old
        }
    }

    impl<T: Copy + Ord> Locked<T> {
        pub(crate) fn fetch_max(&self, value: T, _: Ordering) -> T {
            self.replace(|old| old.max(value))
        }
    }

    impl Locked<u64> {
        pub(crate) fn fetch_add(&self, added: u64, _: Ordering) -> u64 {
            self.replace(|old| old.wrapping_add(added))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::atomic::{AtomicI64, AtomicU64};

    use super::locked::Locked;

    /// Runs an operation on both types, and compares what it returns and what it leaves.
    macro_rules! assert_same {
        ($ours:ident, $std:ident, $method:ident $arguments:tt) => {
            assert_eq!($ours.$method $arguments, $std.$method $arguments);
            assert_eq!($ours.load(SeqCst), $std.load(SeqCst));
        };
    }

    #[test]
    fn the_replacement_returns_what_the_types_of_std_return() {
        let (ours, std) = (Locked::<u64>::new(7), AtomicU64::new(7));
        assert_same!(ours, std, fetch_add(5, SeqCst));
        assert_same!(ours, std, swap(2, SeqCst));
        assert_same!(ours, std, fetch_update(SeqCst, SeqCst, |old| Some(old + 1)));
        assert_same!(ours, std, fetch_update(SeqCst, SeqCst, |_| None));
        assert_same!(ours, std, store(u64::MAX, SeqCst));
        assert_same!(ours, std, fetch_add(1, SeqCst));

        let (ours, std) = (Locked::<i64>::new(7), AtomicI64::new(7));
        assert_same!(ours, std, fetch_max(3, SeqCst));
        assert_same!(ours, std, fetch_max(40, SeqCst));
        assert_same!(ours, std, fetch_max(-1, SeqCst));
    }
}

//! 64-bit atomic integers on every target; a mutex replaces the instructions where the processor has none.

#[cfg(target_has_atomic = "64")]
pub(crate) use std::sync::atomic::{AtomicI64, AtomicU64};

#[cfg(not(target_has_atomic = "64"))]
pub(crate) use locked::{AtomicI64, AtomicU64};

/// Replacements for targets such as PowerPC, MIPS and old ARM. They have those methods of the types of
/// `std` that the crate uses.
#[cfg(any(test, not(target_has_atomic = "64")))]
mod locked {
    use std::sync::atomic::Ordering;

    use parking_lot::Mutex;

    macro_rules! locked {
        ($name:ident, $int:ty) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name(Mutex<$int>);

            // A mutex is stronger than every ordering.
            impl $name {
                pub(crate) const fn new(value: $int) -> Self {
                    Self(Mutex::new(value))
                }

                pub(crate) fn load(&self, _: Ordering) -> $int {
                    *self.0.lock()
                }

                pub(crate) fn store(&self, value: $int, _: Ordering) {
                    *self.0.lock() = value;
                }

                pub(crate) fn swap(&self, value: $int, _: Ordering) -> $int {
                    self.replace(|_| value)
                }

                pub(crate) fn fetch_add(&self, added: $int, _: Ordering) -> $int {
                    self.replace(|old| old.wrapping_add(added))
                }

                pub(crate) fn fetch_max(&self, value: $int, _: Ordering) -> $int {
                    self.replace(|old| old.max(value))
                }

                pub(crate) fn fetch_update(
                    &self,
                    _: Ordering,
                    _: Ordering,
                    mut update: impl FnMut($int) -> Option<$int>,
                ) -> Result<$int, $int> {
                    let mut value = self.0.lock();
                    let old = *value;
                    *value = update(old).ok_or(old)?;
                    Ok(old)
                }

                fn replace(&self, new: impl FnOnce($int) -> $int) -> $int {
                    let mut value = self.0.lock();
                    let old = *value;
                    *value = new(old);
                    old
                }
            }
        };
    }

    locked!(AtomicU64, u64);
    locked!(AtomicI64, i64);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use super::locked;

    /// Runs the same operations on both types, and compares what each returns.
    macro_rules! compare {
        ($name:ident, $max:expr) => {
            let (ours, std) = (locked::$name::new(7), std::sync::atomic::$name::new(7));
            macro_rules! both {
                            ($method:ident $arguments:tt) => {
                                assert_eq!(ours.$method $arguments, std.$method $arguments);
                                assert_eq!(ours.load(SeqCst), std.load(SeqCst));
                            };
                        }
            both!(fetch_add(5, SeqCst));
            both!(fetch_max(3, SeqCst));
            both!(fetch_max(40, SeqCst));
            both!(swap(2, SeqCst));
            both!(fetch_update(SeqCst, SeqCst, |old| Some(old + 1)));
            both!(fetch_update(SeqCst, SeqCst, |_| None));
            both!(store($max, SeqCst));
            both!(fetch_add(1, SeqCst));
        };
    }

    #[test]
    fn the_replacements_return_what_those_of_std_return() {
        compare!(AtomicU64, u64::MAX);
        compare!(AtomicI64, i64::MAX);
    }
}

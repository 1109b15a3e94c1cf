//! The atomic types of std.
//!
//! loom gives a sequentially consistent access the ordering of acquire and release only, and a sequentially consistent
//! fence its full meaning. So such an access has fences around it here. And loom lets another store come between the
//! two halves of an exchange, which no machine does; so such a store is an exchange here.

pub use std::sync::atomic::Ordering;

use loom::sync::atomic::{self, fence};

fn fenced<T>(order: Ordering, access: impl FnOnce() -> T) -> T {
    if order != Ordering::SeqCst {
        return access();
    }
    fence(order);
    let result = access();
    fence(order);
    result
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug)]
        pub struct $name(atomic::$name);

        impl $name {
            #[allow(clippy::new_without_default, reason = "loom's has none")]
            pub fn new(value: $value) -> Self {
                $name(atomic::$name::new(value))
            }

            pub fn load(&self, order: Ordering) -> $value {
                fenced(order, || self.0.load(order))
            }

            pub fn store(&self, value: $value, order: Ordering) {
                match order {
                    Ordering::SeqCst => drop(self.swap(value, order)),
                    _ => self.0.store(value, order),
                }
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                fenced(order, || self.0.swap(value, order))
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $name::new(<$value>::default())
            }
        }
    };
}

macro_rules! number {
    ($name:ident, $value:ty) => {
        atomic!($name, $value);

        impl $name {
            pub fn fetch_add(&self, added: $value, order: Ordering) -> $value {
                fenced(order, || self.0.fetch_add(added, order))
            }

            pub fn fetch_sub(&self, less: $value, order: Ordering) -> $value {
                fenced(order, || self.0.fetch_sub(less, order))
            }
        }
    };
}

atomic!(AtomicBool, bool);
number!(AtomicU32, u32);
number!(AtomicU64, u64);
number!(AtomicUsize, usize);

//! Resources that all clones of a client share. The modules above the client create them.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::error::Result;

/// The resources of a client, one of each type. A resource exists while it has users.
#[derive(Default)]
pub(super) struct Attached(Mutex<HashMap<TypeId, Weak<dyn Any + Send + Sync>>>);

impl Attached {
    /// Returns the resource of this type. Creates it when it has no user.
    pub(super) fn get<T: Any + Send + Sync>(
        &self,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        let mut attached = self.0.lock();
        let present = attached.get(&TypeId::of::<T>()).and_then(Weak::upgrade);
        if let Some(Ok(present)) = present.map(Arc::downcast) {
            return Ok(present);
        }
        let made = Arc::new(make()?);
        let weak: Weak<T> = Arc::downgrade(&made);
        attached.insert(TypeId::of::<T>(), weak);
        Ok(made)
    }
}

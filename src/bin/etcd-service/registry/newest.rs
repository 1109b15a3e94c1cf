//! The newest picture, which readers wait for.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::picture::Picture;

/// The newest picture.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) picture: Mutex<Arc<Picture>>,
    pub(super) published: Condvar,
}

impl Default for Newest {
    fn default() -> Self {
        Newest {
            picture: Mutex::new(Arc::new(Picture::unknown())),
            published: Condvar::new(),
        }
    }
}

impl Newest {
    pub(super) fn publish(&self, picture: Picture) {
        *self.picture.lock() = Arc::new(picture);
        self.published.notify_all();
    }
}

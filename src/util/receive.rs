//! The methods of every handle whose items arrive on a channel.

/// Adds `recv`, `recv_timeout`, `try_recv`, `iter` and `close` to a handle that has a method
/// `receiver()`, which returns the channel of its items.
macro_rules! receive_methods {
    ($handle:ty, $item:ty) => {
        impl $handle {
            /// Blocks until an item arrives. Returns `None` after the last one.
            pub fn recv(&self) -> Option<$item> {
                self.receiver().recv().ok()
            }

            /// Blocks until an item arrives, for at most `timeout`.
            ///
            /// # Errors
            ///
            /// `Timeout` when no item arrives in that time, `Disconnected` after the last one.
            pub fn recv_timeout(
                &self,
                timeout: std::time::Duration,
            ) -> std::result::Result<$item, crossbeam_channel::RecvTimeoutError> {
                self.receiver().recv_timeout(timeout)
            }

            /// Returns the next item if one has arrived. It does not block.
            ///
            /// # Errors
            ///
            /// `Empty` when no item has arrived, `Disconnected` after the last one.
            pub fn try_recv(&self) -> std::result::Result<$item, crossbeam_channel::TryRecvError> {
                self.receiver().try_recv()
            }

            /// Returns an iterator over the items. Its `next` blocks; it ends after the last item.
            pub fn iter(&self) -> crossbeam_channel::Iter<'_, $item> {
                self.receiver().iter()
            }

            /// Ends the handle, as dropping it does.
            pub fn close(self) {}
        }

        impl<'a> IntoIterator for &'a $handle {
            type Item = $item;
            type IntoIter = crossbeam_channel::Iter<'a, $item>;

            fn into_iter(self) -> Self::IntoIter {
                self.iter()
            }
        }
    };
}

pub(crate) use receive_methods;

//! Limits the streams of one connection to what its server permits.
//!
//! h2 queues a request beyond that limit until a stream ends, and does not report it. A request
//! that waits here instead provably was not sent.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The stream slots of a connection; empty for a server without a limit.
///
/// The limit is that of the server's first SETTINGS. If the server lowers it later, h2 queues the
/// requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamSlots(Option<(usize, Arc<Semaphore>)>);

/// A slot in use. Its drop frees the slot.
pub(crate) type StreamSlot = OwnedSemaphorePermit;

/// A slot reserved for a stream that is not open yet.
pub(crate) type Reserved = Arc<Mutex<Option<StreamSlot>>>;

/// All slots of a connection are in use.
#[derive(Debug)]
pub(crate) struct Full;

impl StreamSlots {
    pub(crate) fn new(limit: usize) -> Self {
        let is_limit =
            limit < Semaphore::MAX_PERMITS && u32::try_from(limit).is_ok_and(|n| n < u32::MAX);
        // A limit of zero would make the connection useless.
        let limit = limit.max(1);
        StreamSlots(is_limit.then(|| (limit, Arc::new(Semaphore::new(limit)))))
    }

    /// The limit, if there is one.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.0.as_ref().map(|(limit, _)| *limit)
    }

    /// Reserves a free slot; `None` when there is no limit.
    pub(crate) fn try_reserve(&self) -> Result<Option<Reserved>, Full> {
        let Some((_, slots)) = &self.0 else {
            return Ok(None);
        };
        match Arc::clone(slots).try_acquire_owned() {
            Ok(slot) => Ok(Some(reserved(slot))),
            Err(_) => Err(Full),
        }
    }

    /// Waits for a slot, in first-come order. Fails when the connection ends.
    pub(crate) async fn reserve(&self) -> Result<Option<Reserved>, Full> {
        let Some((_, slots)) = &self.0 else {
            return Ok(None);
        };
        match Arc::clone(slots).acquire_owned().await {
            Ok(slot) => Ok(Some(reserved(slot))),
            Err(_) => Err(Full),
        }
    }

    /// Takes the slot for a stream that is being opened: the reserved one, or else a free one. A
    /// stream beyond the limit has no slot and is queued by h2.
    pub(crate) fn take(&self, reserved: Option<&Reserved>) -> Option<StreamSlot> {
        let (_, slots) = self.0.as_ref()?;
        let brought = reserved.and_then(|reserved| reserved.lock().take());
        brought.or_else(|| Arc::clone(slots).try_acquire_owned().ok())
    }

    /// Closes the slots: requests that wait for one use another connection.
    pub(crate) fn close(&self) {
        if let Some((_, slots)) = &self.0 {
            slots.close();
        }
    }
}

fn reserved(slot: StreamSlot) -> Reserved {
    Arc::new(Mutex::new(Some(slot)))
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[test]
    fn there_is_no_limit_unless_the_server_sets_one() {
        for none in [u32::MAX as usize, usize::MAX] {
            let slots = StreamSlots::new(none);
            assert_eq!(slots.limit(), None);
            assert!(slots.take(None).is_none());
            assert!(matches!(slots.try_reserve(), Ok(None)));
        }
        assert_eq!(StreamSlots::new(4).limit(), Some(4));
        assert_eq!(StreamSlots::new(0).limit(), Some(1));
    }

    #[test]
    fn a_slot_belongs_to_one_stream_until_its_end() {
        let slots = StreamSlots::new(2);
        let reserved = slots.try_reserve().unwrap();
        let first = slots.take(reserved.as_ref());
        assert!(first.is_some());
        let second = slots.take(reserved.as_ref());
        assert!(second.is_some(), "another one than the one reserved");
        assert!(slots.try_reserve().is_err());
        assert!(slots.take(None).is_none(), "beyond the limit");
        drop(first);
        // A reserved slot that is not used is freed with its handle.
        drop(slots.try_reserve().unwrap());
        assert!(slots.try_reserve().is_ok());
    }

    #[test]
    fn a_waiter_gets_the_freed_slot_or_an_error_when_the_connection_ends() {
        let slots = StreamSlots::new(1);
        let stream = slots.take(None);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut first = std::pin::pin!(slots.reserve());
        let mut second = std::pin::pin!(slots.reserve());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop(stream);
        assert!(slots.try_reserve().is_err(), "it is the first one's");
        let reserved = first.as_mut().poll(&mut cx);
        let Poll::Ready(Ok(Some(reserved))) = reserved else {
            panic!("{reserved:?}");
        };
        let stream = slots.take(Some(&reserved));
        assert!(stream.is_some());
        slots.close();
        assert!(matches!(second.poll(&mut cx), Poll::Ready(Err(Full))));
        let endless = StreamSlots::new(usize::MAX);
        let mut any = std::pin::pin!(endless.reserve());
        assert!(matches!(any.as_mut().poll(&mut cx), Poll::Ready(Ok(None))));
    }
}

//! Reading ahead for paged reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Client;
use crate::client::pages::{PageRead, Piece, pump};
use crate::error::Result;
use crate::rpc::kv::Get;
use crate::runtime::Spawn as _;

/// The maximum number of pages that wait for the reader.
// Each further page ahead would add its size to the memory of every reader.
const AHEAD: usize = 1;

impl Client {
    /// Starts a task that reads a range by a stream, into pages of `size` keys.
    pub(crate) fn read_ahead(&self, get: Get, size: usize) -> Result<mpsc::Receiver<Piece>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let read = PageRead {
            get,
            size,
            namespace: self.namespace_of_view().cloned(),
            patience: self.timeout / 2,
        };
        let transport = Arc::clone(&self.core.transport);
        self.core
            .bridge
            .spawn(Box::pin(pump(transport, read, sender)))?;
        Ok(receiver)
    }

    /// Waits for the next page; returns `None` when it does not arrive in time.
    pub(crate) fn await_piece(
        &self,
        mut pieces: mpsc::Receiver<Piece>,
        within: Duration,
    ) -> Result<(mpsc::Receiver<Piece>, Option<Option<Piece>>)> {
        // A piece that has arrived needs no call into the runtime.
        if let Ok(piece) = pieces.try_recv() {
            return Ok((pieces, Some(Some(piece))));
        }
        self.core.bridge.call(async move {
            let piece = tokio::time::timeout(within, pieces.recv()).await;
            Ok((pieces, piece.ok()))
        })
    }
}

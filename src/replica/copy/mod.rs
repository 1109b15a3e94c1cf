//! Copying a prefix to another cluster, and keeping the copy up to date.

mod batch;
mod copier;
mod difference;
mod handle;
mod writer;

pub use handle::{CopyProgress, Extraneous, MakeMirror, MirrorCopy};

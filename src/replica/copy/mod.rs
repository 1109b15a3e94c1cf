//! Continuous copy of a prefix to another cluster.

mod batch;
mod copier;
mod difference;
mod handle;
mod make_mirror;
mod plan;
mod progress;
mod writer;

pub use handle::MirrorCopy;
pub use make_mirror::MakeMirror;
pub use plan::Extraneous;
pub use progress::CopyProgress;

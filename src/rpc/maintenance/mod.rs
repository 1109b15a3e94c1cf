//! Maintenance: what is asked of one member, or done to it.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod alarm;
mod defragment;
mod downgrade;
mod hash;
mod health;
mod move_leader;
mod snapshot;
mod status;
mod version;

pub use alarm::{Alarm, AlarmDisarm, AlarmKind, AlarmList, AlarmResponse};
pub use defragment::Defragment;
pub use downgrade::{Downgrade, DowngradeResponse};
pub use hash::{Hash, HashKv, HashKvResponse, HashResponse};
pub use health::EndpointHealth;
pub(crate) use health::{HealthCheck, unreachable};
pub use move_leader::MoveLeader;
pub(crate) use snapshot::save;
pub use snapshot::{SnapshotProgress, SnapshotStream, VerifiedSnapshot};
pub use status::{DowngradeInfo, EndpointStatus, StatusResponse};
pub(crate) use version::is_old;

//! The maintenance service: status, health, alarms, hashes, snapshots, defragmentation and downgrades.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod alarm;
mod defragment;
mod downgrade;
mod endpoint_health;
mod endpoint_status;
mod hash;
mod move_leader;
mod snapshot;
mod version;

pub use alarm::{Alarm, AlarmDisarm, AlarmKind, AlarmList, AlarmResponse};
pub use defragment::Defragment;
pub use downgrade::{Downgrade, DowngradeResponse};
pub use endpoint_health::EndpointHealth;
pub(crate) use endpoint_health::{HealthCheck, unreachable};
pub use endpoint_status::{DowngradeInfo, EndpointStatus, StatusResponse};
pub use hash::{Hash, HashKv, HashKvResponse, HashResponse};
pub use move_leader::MoveLeader;
#[cfg(any(test, fuzzing))]
pub(crate) use snapshot::fuzz;
pub(crate) use snapshot::save;
pub use snapshot::{SnapshotProgress, SnapshotStream, VerifiedSnapshot};
pub(crate) use version::is_old;

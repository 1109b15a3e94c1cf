//! The requests that list and disarm the alarms of the cluster.

use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::alarm_request::AlarmAction;
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse as Pb, AlarmType,
};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::{MemberId, ResponseHeader};

/// The kind of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlarmKind {
    /// The database of a member is full. The cluster refuses puts until the alarm is disarmed: compact,
    /// defragment, then disarm it.
    NoSpace,
    /// The data of a member differs from that of the others.
    Corrupt,
    /// A kind that this version of the crate does not support.
    Other(i32),
}

impl AlarmKind {
    fn code(self) -> i32 {
        match self {
            AlarmKind::NoSpace => AlarmType::Nospace.into(),
            AlarmKind::Corrupt => AlarmType::Corrupt.into(),
            AlarmKind::Other(code) => code,
        }
    }
}

/// A raised alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Alarm {
    /// The member that it concerns.
    pub member: MemberId,
    /// The kind of the alarm.
    pub kind: AlarmKind,
}

/// Lists the alarms of the cluster. The member answers from its own state.
///
/// ```no_run
/// use etcd_blocking::maintenance::AlarmList;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// println!("{:?}", client.call(AlarmList::new())?.alarms());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct AlarmList {}

impl AlarmList {
    /// Lists all alarms. There are no options.
    pub fn new() -> Self {
        AlarmList {}
    }

    fn message(&self) -> AlarmRequest {
        // The defaults select all alarms.
        AlarmRequest::default()
    }
}

/// Disarms one alarm of one member. Disarming an alarm that is not raised is not an error.
///
/// Disarming does not remove the cause: a database that is still full raises the alarm again at the next
/// put.
///
/// ```no_run
/// use etcd_blocking::maintenance::AlarmDisarm;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// for alarm in client.maintenance().alarms()?.alarms() {
///     client.call(AlarmDisarm::new(*alarm))?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct AlarmDisarm {
    member: MemberId,
    kind: AlarmKind,
}

impl AlarmDisarm {
    /// Disarms this alarm.
    pub fn new(alarm: Alarm) -> Self {
        AlarmDisarm {
            member: alarm.member,
            kind: alarm.kind,
        }
    }

    /// Disarms the alarm of this kind of this member.
    pub fn of(member: MemberId, kind: AlarmKind) -> Self {
        AlarmDisarm { member, kind }
    }

    fn message(&self) -> AlarmRequest {
        AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: self.member.get(),
            alarm: self.kind.code(),
        }
    }
}

impl Rpc for AlarmList {
    type Response = AlarmResponse;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::new("alarms")
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    unary_rpc!(read AlarmRequest, without leader);
}

impl Rpc for AlarmDisarm {
    type Response = AlarmResponse;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::about(
            "disarm",
            format_args!("the alarm of member {}", self.member),
        )
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    // Not repeated: a repetition could disarm an alarm that was raised again in between.
    unary_rpc!(write AlarmRequest);
}

/// The response to an [`AlarmList`] or an [`AlarmDisarm`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct AlarmResponse {
    header: ResponseHeader,
    alarms: Vec<Alarm>,
}

impl AlarmResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The raised alarms. In the response to a disarm request, the disarmed ones.
    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }
}

impl From<Pb> for AlarmResponse {
    fn from(pb: Pb) -> Self {
        AlarmResponse {
            header: header(pb.header),
            alarms: pb.alarms.into_iter().map(Alarm::from).collect(),
        }
    }
}

impl From<AlarmMember> for Alarm {
    fn from(pb: AlarmMember) -> Self {
        Alarm {
            member: MemberId::new(pb.member_id),
            kind: match pb.alarm() {
                AlarmType::Nospace => AlarmKind::NoSpace,
                AlarmType::Corrupt => AlarmKind::Corrupt,
                AlarmType::None => AlarmKind::Other(pb.alarm),
            },
        }
    }
}

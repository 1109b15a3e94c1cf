//! The steps of the model.

use proptest::prelude::*;

use super::LEASES;
use crate::rpc::lease::renewal_schedule::StreamRole;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Add(i64),
    Remove(i64),
    Revoke(i64),
    /// The server changes a time to live.
    Live(i64, i64),
    /// The server begins or ceases to refuse renewals of a lease.
    Deny(i64, bool),
    /// The server handles requests.
    Serve(StreamRole, usize),
    /// Answers arrive.
    Arrive(StreamRole, usize),
    /// The opening of the stream succeeds or fails.
    Open(StreamRole, bool),
    Cut(StreamRole),
    /// The same on the late stream.
    ServeLate(usize),
    ArriveLate(usize),
    CutLate,
    /// Time passes, with the ticks that the schedule requests.
    Wait(u64),
    /// Time passes without ticks: a suspended machine or a stopped process.
    Sleep(u64),
    /// An answer without a request.
    Stray(i64),
}

fn role() -> impl Strategy<Value = StreamRole> {
    prop_oneof![3 => Just(StreamRole::Shared), 1 => Just(StreamRole::Isolated)]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let id = 1..=LEASES;
    prop_oneof![
        2 => id.clone().prop_map(Step::Add),
        1 => id.clone().prop_map(Step::Remove),
        1 => id.clone().prop_map(Step::Revoke),
        1 => (id.clone(), 1..40i64).prop_map(|(id, ttl)| Step::Live(id, ttl)),
        1 => (id.clone(), any::<bool>()).prop_map(|(id, on)| Step::Deny(id, on)),
        8 => (role(), 1..4usize).prop_map(|(role, count)| Step::Serve(role, count)),
        8 => (role(), 1..4usize).prop_map(|(role, count)| Step::Arrive(role, count)),
        5 => (role(), any::<bool>()).prop_map(|(role, works)| Step::Open(role, works)),
        1 => role().prop_map(Step::Cut),
        2 => (1..4usize).prop_map(Step::ServeLate),
        3 => (1..4usize).prop_map(Step::ArriveLate),
        1 => Just(Step::CutLate),
        4 => (1..3_000u64).prop_map(Step::Wait),
        1 => (1..20_000u64).prop_map(Step::Sleep),
        1 => (1..=LEASES + 2).prop_map(Step::Stray),
    ]
}

//! The public modules of discovery.

/// Choosing an instance for each call: guards of calls, ejection, retries and filters, beside [`Balance`](crate::Balance).
pub mod balance {
    pub use crate::discovery::{Attempt, CallError, CallGuard, Ejection, Filter, RetryBudget};
}

/// The formats in which registrars and views store instances: [`RegistrarBuilder::codec`](crate::RegistrarBuilder::codec),
/// [`Discovery::codec`](crate::Discovery::codec).
pub mod codec {
    pub use crate::discovery::codec::{
        BadValue, Codec, DubboGo, GoMicro, GoNaming, GoZero, Hertz, Kitex, Kratos, Native, Plain,
        Rpcx, SkyDns, all, by_name,
    };
}

/// Health checks of registered instances: what is checked, how often, and what follows.
///
/// A [`Check`](health::Check) says what is checked, and [`Checks`](health::Checks) say what follows from the
/// results.
pub mod health {
    pub use crate::discovery::check::{
        Check, CheckHealth, CheckStatus, Checks, Health, Heartbeat, Initial,
    };
}

//! The public modules of discovery.

/// Choosing an instance for each call: guards of calls, ejection, retries and filters, beside [`Balance`].
pub mod balance {
    pub use crate::discovery::{Attempt, CallError, CallGuard, Ejection, Filter, RetryBudget};
}

/// The formats in which registrars and views store instances: [`RegistrarBuilder::codec`], [`Discovery::codec`].
pub mod codec {
    pub use crate::discovery::codec::{
        BadValue, Codec, DubboGo, GoMicro, GoNaming, GoZero, Hertz, Kitex, Kratos, Native, Plain,
        Rpcx, SkyDns, all, by_name,
    };
}

//! Tests of transactions in memory.

mod model;

//! Tests of the pure parts of a mirror.

mod model;

//! Tests of the parts of a mirror that do no I/O.

mod model;

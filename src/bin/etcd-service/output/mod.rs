//! What the program prints: text that is safe on a terminal, and lines whose reader may be gone.

mod bytes;
mod counted;
mod csv;
mod json;
mod lines;
mod printable;
mod say;
mod shell;
mod table;
mod utc;
mod whole_file;

pub(crate) use bytes::bytes;
pub(crate) use counted::counted;
pub(crate) use csv::csv_record;
pub(crate) use json::{instance_json, json_line};
pub(crate) use lines::{Lines, wait_until_closed};
pub(crate) use printable::printable;
pub(crate) use say::{complain, say};
pub(crate) use shell::{shell_variable, variable_name};
pub(crate) use table::table;
pub(crate) use utc::utc;
pub(crate) use whole_file::write_whole;

//! The peers that are this program: `peers peer NAME ENDPOINT WORK KEY=VALUE...`.

mod etcd_blocking;
mod floor;

use peers::Failure;
use peers::task::Task;

/// Does one work and prints its figures.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let Some((name, args)) = args.split_first() else {
        return Err("usage: peers peer NAME ENDPOINT WORK KEY=VALUE...".into());
    };
    let task = Task::parse(args)?;
    let report = match name.as_str() {
        "etcd-blocking" => etcd_blocking::run(&task)?,
        "floor" => floor::run(&task)?,
        _ => return Err(format!("no peer has the name {name}").into()),
    };
    report.print();
    Ok(())
}

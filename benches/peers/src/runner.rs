//! Runs every work with every peer, in turn.

use std::time::Duration;
use std::{fs, thread};

use peers::Failure;
use peers::report::Report;

use crate::args::Args;
use crate::child::Peer;
use crate::figures::Measured;
use crate::programs::{self, Program};
use crate::server::Server;
use crate::works::{self, Feed, Work};
use crate::{picture, section, tables};

/// The peer to which the others are compared.
pub(crate) const OWN: &str = "etcd-blocking";

/// A run that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(300);

/// What was measured of one work.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) work: Work,
    pub(crate) measured: std::rc::Rc<Measured>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (programs, skipped) = programs::build()?;
    for line in &skipped {
        println!("{line}");
    }
    let mut works = works::all(args.quick);
    works.retain(|work| {
        args.only.is_empty()
            || args
                .only
                .iter()
                .any(|only| work.name.starts_with(only) || work.verb == only)
    });
    if works.is_empty() {
        return Err("no work has this name".into());
    }
    let mut server = Server::start()?;
    let mut rows = Vec::new();
    for (place, work) in works.into_iter().enumerate() {
        server.prepare(&work)?;
        let mut measured = Measured::default();
        for round in 0..args.rounds {
            let mut reports = std::collections::BTreeMap::new();
            // Another one begins each time: what is first may find colder data.
            for n in 0..programs.len() {
                let program = &programs[(n + round + place) % programs.len()];
                let report = measure(&mut server, &work, program, args.quick);
                let report =
                    report.unwrap_or_else(|error| Report::none(format!("failed: {error}")));
                print(&work, program, &report);
                reports.insert(program.name, report);
            }
            measured.rounds.push(reports);
        }
        rows.push(Row {
            work,
            measured: measured.into(),
        });
    }
    let peers: Vec<&'static str> = programs.iter().map(|program| program.name).collect();
    let about = about(args, &programs, &skipped, &server);
    let tables = tables::all(&rows, &peers);
    println!("\n{about}\n\n{tables}");
    if args.write {
        let (rounds, plural) = (args.rounds, if args.rounds == 1 { "" } else { "s" });
        let size = if args.quick { "quick run, " } else { "" };
        let caption = format!(
            "{size}median of the ratios of {rounds} round{plural}; etcd {} on the same machine",
            server.version()
        );
        section::write(
            &format!("{about}\n\n{tables}"),
            &picture::draw(&rows, &peers, &caption),
        )?;
    }
    Ok(())
}

fn print(work: &Work, program: &Program, report: &Report) {
    let figures = match (&report.none, report.rate()) {
        (Some(reason), _) => reason.clone(),
        (None, Some(rate)) => format!(
            "{} {}s/s, {} us of CPU, {} MiB",
            tables::number(rate),
            work.unit,
            tables::number(report.cpu.unwrap_or(f64::NAN)),
            tables::number(report.rss.unwrap_or(f64::NAN) / 1024.0)
        ),
        (None, None) => format!(
            "{} MiB, one more {} KiB, {} wake-ups",
            tables::number(report.rss.unwrap_or(0.0) / 1024.0),
            tables::number(report.per_client.unwrap_or(0.0)),
            report.wakeups.unwrap_or(0.0)
        ),
    };
    println!("{:<28} {:<14} {figures}", work.name, program.name);
}

fn measure(
    server: &mut Server,
    work: &Work,
    program: &Program,
    quick: bool,
) -> Result<Report, Failure> {
    if work.feed == Feed::Idle {
        return idle(server, work, program, quick);
    }
    let mut params = work.params.clone();
    if program.name == "jetcd" && params.has("warm") {
        // The virtual machine compiles what runs often, which takes some seconds of calls.
        params.set("warm", if quick { 5 } else { 10 });
    }
    if let Feed::Past { events } = work.feed {
        params.set(
            "revision",
            server
                .first_past_revision(events)
                .ok_or("there is no history")?,
        );
    }
    let is_floor = program.name == "floor";
    match work.feed {
        // The floor has no streams.
        Feed::Live { .. } | Feed::Past { .. } | Feed::Leases { .. } | Feed::Instances { .. }
            if is_floor =>
        {
            Ok(Report::none("no counterpart"))
        }
        Feed::Live { events, keys } => {
            let mut peer = start(server, work, program, &params)?;
            if let Some(report) = peer.ready()? {
                return Ok(report);
            }
            server.put_events(events, keys)?;
            peer.report()
        }
        Feed::Leases { count, ttl } => {
            let first = server.grant(count, ttl)?;
            params.set("first", first);
            let mut peer = start(server, work, program, &params)?;
            let report = peer.report();
            let left = server.left(first, count)?;
            drop(peer);
            server.revoke_all()?;
            Ok(Report {
                lost: Some((count - left) as f64),
                ..report?
            })
        }
        feed => {
            let report = start(server, work, program, &params)?.report();
            match feed {
                Feed::Compacted => server.compact()?,
                _ if work.verb == "register" => server.revoke_all()?,
                _ => {}
            }
            report
        }
    }
}

fn start(
    server: &Server,
    work: &Work,
    program: &Program,
    params: &peers::params::Params,
) -> Result<Peer, Failure> {
    let mut command = program.command();
    command
        .arg(server.endpoint())
        .arg(work.verb)
        .args(params.args());
    Peer::start(command, LIMIT)
}

/// Observes a process with one idle client, and one with many.
fn idle(server: &Server, work: &Work, program: &Program, quick: bool) -> Result<Report, Failure> {
    if program.name == "floor" {
        return Ok(Report::none("no counterpart"));
    }
    let many = work.params.number("clients")?;
    let settle = Duration::from_secs(if quick { 2 } else { 10 });
    let mut params = work.params.clone();
    params.set("clients", 1);
    let mut peer = start(server, work, program, &params)?;
    if let Some(report) = peer.ready()? {
        return Ok(report);
    }
    // What the first call has left behind ends meanwhile.
    thread::sleep(settle);
    let before = peer.wakeups().ok_or("the peer ended")?;
    thread::sleep(Duration::from_secs(10));
    let wakeups = peer.wakeups().ok_or("the peer ended")? - before;
    let one = peer.resident().ok_or("the peer ended")?;
    drop(peer);
    params.set("clients", many);
    let mut peer = start(server, work, program, &params)?;
    if let Some(report) = peer.ready()? {
        return Ok(report);
    }
    thread::sleep(settle);
    let all = peer.resident().ok_or("the peer ended")?;
    let per_client = (all - one) / (many - 1) as f64;
    Ok(Report {
        rss: Some(one),
        per_client: Some(per_client),
        wakeups: Some(wakeups),
        ..Report::default()
    })
}

/// The machine, the versions and the command.
fn about(args: &Args, programs: &[Program], skipped: &[String], server: &Server) -> String {
    let versions: Vec<String> = programs
        .iter()
        .map(|program| format!("{} {}", program.name, program.version))
        .collect();
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let mut text = format!(
        "`{}`\n\n{cores} cores ({}), load {load} at the end; etcd {} on the same machine; {}.",
        args.command(),
        model.map_or("unknown", |(_, name)| name.trim()),
        server.version(),
        versions.join(", ")
    );
    if args.quick {
        text.push_str(
            " A quick run: single figures of a loaded machine may be wrong by a factor of two.",
        );
    }
    for line in skipped {
        text.push_str(&format!(" {line}."));
    }
    text
}

//! The verb `replay`.

#[cfg(test)]
mod fuzz;
mod history;
mod moment;
mod picture;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;

use crate::arguments::{ConnectionArguments, FormatArguments};
use crate::failure::{Failure, Outcome};
use crate::output::{complain, counted, write_whole};
use crate::verbs::record::Line;
use history::History;
use moment::moment;

/// The largest line that is read at once; that of a value of 1.5 MiB, the limit of etcd, has 2 MiB in base64.
const LONGEST: u64 = 64 * 1024 * 1024;

/// The number of lines after which a file without a line of a recording is not read on.
const FOREIGN: u64 = 100;

/// The arguments of `replay`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  etcd-service replay registry.jsonl --out timeline.svg
  etcd-service replay registry.jsonl --from '2026-05-04 10:00' --to '2026-05-04 10:15' >timeline.svg")]
pub(crate) struct Replay {
    /// The file that `record` wrote
    file: PathBuf,
    /// The picture, in SVG [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Draws what happened since this time, in UTC, such as '2026-05-04 10:00:00' [default: all]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<SystemTime>,
    /// Draws what happened until this time, in UTC [default: all]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<SystemTime>,
    #[command(flatten)]
    formats: FormatArguments,
}

impl Replay {
    pub(crate) fn run(self, _: &ConnectionArguments) -> Outcome {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(Failure::usage("--from must be before --to"));
        }
        let unreadable =
            |error: io::Error| Failure::failed(format!("read {}: {error}", self.file.display()));
        let mut lines = BufReader::new(File::open(&self.file).map_err(unreadable)?);
        let mut history = History::new(self.formats.formats().collect());
        let (mut read, mut broken) = (0_u64, 0_u64);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = (&mut lines).take(LONGEST);
            if limited.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
                break;
            }
            match serde_json::from_slice::<Line>(&line) {
                Ok(line) => {
                    read += 1;
                    history.apply(&line);
                }
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(_) => broken += 1,
            }
            if read == 0 && broken >= FOREIGN {
                break;
            }
        }
        if read <= broken {
            let path = self.file.display();
            return Err(Failure::failed(match read {
                0 => {
                    format!("{path} is no recording: none of its lines is one that `record` writes")
                }
                _ => format!(
                    "{path} is no recording: {} of {} are not what `record` writes",
                    counted(broken, "line"),
                    read + broken
                ),
            }));
        }
        if broken > 0 {
            complain(format!(
                "{} cut off or not of a recording, and left out",
                match broken {
                    1 => "1 line is".to_owned(),
                    _ => format!("{} are", counted(broken, "line")),
                }
            ));
        }
        let svg = picture::svg(&history.chart(self.from, self.to));
        match &self.out {
            Some(path) => write_whole(path, svg.as_bytes())
                .map_err(|error| Failure::failed(format!("write {}: {error}", path.display())))?,
            None => {
                let mut stdout = io::stdout().lock();
                let written = stdout.write_all(svg.as_bytes());
                let written = written.and_then(|()| stdout.flush());
                written.map_err(|error| Failure::stdout(&error))?;
            }
        }
        Ok(0)
    }
}

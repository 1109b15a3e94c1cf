//! The arguments of the runner.

use peers::Failure;

/// What the runner is asked for.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) rounds: usize,
    /// Smaller data and shorter runs.
    pub(crate) quick: bool,
    /// Only works whose name begins with one of these.
    pub(crate) only: Vec<String>,
    /// Whether the documents are changed.
    pub(crate) write: bool,
}

impl Args {
    pub(crate) fn parse(args: &[String]) -> Result<Self, Failure> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let rounds = if quick { 2 } else { 5 };
        let mut parsed = Self {
            rounds,
            quick,
            only: Vec::new(),
            write: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => {}
                "--write" => parsed.write = true,
                "--rounds" => parsed.rounds = value()?.parse::<usize>()?.max(1),
                "--only" => parsed.only.extend(value()?.split(',').map(str::to_owned)),
                _ => return Err(format!("unknown argument {arg}; known are --quick, --rounds N, --only WORK[,WORK], --write").into()),
            }
        }
        Ok(parsed)
    }

    /// The command that gives the same run.
    pub(crate) fn command(&self) -> String {
        let mut command =
            "cargo run --release --manifest-path benches/peers/Cargo.toml --".to_owned();
        if self.quick {
            command.push_str(" --quick");
        }
        command.push_str(&format!(" --rounds {}", self.rounds));
        if !self.only.is_empty() {
            command.push_str(&format!(" --only {}", self.only.join(",")));
        }
        command.push_str(" --write");
        command
    }
}

//! A health check that is a command of the shell.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::group::Running;

/// How often the end of the command is looked for, at most.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the command. It passes with exit code 0, and is killed with its children after `timeout`.
pub(crate) fn shell_check(command: &str, timeout: Duration) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).process_group(0);
    shell
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let failed = |error: std::io::Error| format!("cannot be started: {error}");
    let mut running = Running::new(shell.spawn().map_err(failed)?);
    let begun = Instant::now();
    let mut look = Duration::from_millis(1);
    loop {
        if let Some(status) = running.ended().map_err(failed)? {
            return match status.success() {
                true => Ok(()),
                false => Err(status.to_string()),
            };
        }
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(format!("did not end within {timeout:?}"));
        }
        thread::sleep(look.min(left));
        look = (look * 2).min(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_decides_and_a_command_that_hangs_fails() {
        let limit = Duration::from_secs(30);
        assert_eq!(shell_check("true", limit), Ok(()));
        assert_eq!(shell_check("exit 3", limit), Err("exit status: 3".into()));
        let hangs = shell_check("sleep 1000 & wait", Duration::from_millis(100));
        assert_eq!(hangs, Err("did not end within 100ms".into()));
    }
}

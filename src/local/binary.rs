//! The etcd program to run, and whether its version is 3.5 or later.

use std::{
    collections::BTreeMap,
    env, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// An etcd program on this machine.
#[derive(Clone, Debug)]
pub(super) struct Binary {
    pub(super) path: PathBuf,
    /// `--unsafe-no-fsync` exists since 3.5; zap became the only logger in 3.5 as well.
    pub(super) since_3_5: bool,
}

/// Finds the program: `ETCD_BIN` if set, or else the vendored one.
pub(super) fn find() -> io::Result<Binary> {
    if let Some(path) = env::var_os("ETCD_BIN").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        let since_3_5 = version(&path)? >= (3, 5);
        return Ok(Binary { path, since_3_5 });
    }
    let path = etcd_bin_vendored::etcd_bin_path().map_err(|error| {
        let text = format!("{error}; set ETCD_BIN to the path of an etcd program");
        io::Error::new(io::ErrorKind::Unsupported, text)
    })?;
    // Every version of that crate ships etcd 3.5 or later, so `etcd --version` is not needed.
    Ok(Binary {
        path: path.to_owned(),
        since_3_5: true,
    })
}

/// Major and minor version of the program at `path`; `--version` runs once per path and process.
fn version(path: &Path) -> io::Result<(u32, u32)> {
    static KNOWN: Mutex<BTreeMap<PathBuf, (u32, u32)>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(version) = known.get(path) {
        return Ok(*version);
    }
    let output = Command::new(path)
        .arg("--version")
        .output()
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("ETCD_BIN={}: {error}", path.display()),
            )
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = parse_version(&text).ok_or_else(|| {
        let first = text.lines().next().unwrap_or_default();
        let text = format!(
            "ETCD_BIN={} is not etcd: its --version is {first:?}",
            path.display()
        );
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    known.insert(path.to_owned(), version);
    Ok(version)
}

/// Parses the line `etcd Version: 3.4.23`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("etcd Version: "))?;
    let mut parts = version.trim().split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn the_version_is_parsed_from_the_output_of_etcd() {
        let text =
            "etcd Version: 3.4.23\nGit SHA: Not provided (use ./build instead of go build)\n";
        assert_eq!(parse_version(text), Some((3, 4)));
        assert_eq!(parse_version("etcd Version: 3.10.0-rc.0\n"), Some((3, 10)));
        assert_eq!(parse_version("etcdctl version: 3.5.0\n"), None);
        assert_eq!(parse_version(""), None);
    }
}

//! The programs of the peers: how they are built, started and named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use peers::Failure;

/// A client that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    command: Vec<String>,
}

impl Program {
    pub(crate) fn command(&self) -> Command {
        let (program, args) = self
            .command
            .split_first()
            .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let mut command = Command::new(program);
        command.args(args);
        command
    }
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text between these marks of a file.
fn between(file: &str, before: &str, after: &str) -> Option<String> {
    let text = fs::read_to_string(folder().join(file)).ok()?;
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0.to_owned())
}

/// Builds all peers. Those that cannot be built are named with the reason.
pub(crate) fn build() -> Result<(Vec<Program>, Vec<String>), Failure> {
    let own = std::env::current_exe()?;
    let rust = |name: &'static str, version: Option<String>| Program {
        name,
        version: version.unwrap_or_else(|| "?".to_owned()),
        command: vec![
            own.display().to_string(),
            "peer".to_owned(),
            name.to_owned(),
        ],
    };
    let lock = |name: &str| {
        between(
            "Cargo.lock",
            &format!("name = \"{name}\"\nversion = \""),
            "\"",
        )
    };
    let mut programs = vec![rust("etcd-blocking", lock("etcd-blocking"))];
    let mut skipped = Vec::new();
    for (name, built) in [
        ("etcd-client", etcd_client(&own, lock("etcd-client"))),
        ("clientv3", go(&own)),
        ("jetcd", java()),
    ] {
        match built {
            Ok(program) => programs.push(program),
            Err(reason) => skipped.push(format!("skipped: {name}: {reason}")),
        }
    }
    programs.push(rust(
        "floor",
        lock("h2").map(|version| format!("h2 {version}")),
    ));
    Ok((programs, skipped))
}

fn run(mut command: Command) -> Result<(), Failure> {
    let output = command
        .output()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    Err(last.unwrap_or("the build failed").into())
}

/// Built apart, because the build of the crate needs protoc; a crate brings it.
fn etcd_client(own: &Path, version: Option<String>) -> Result<Program, Failure> {
    let folder = own.parent().ok_or("this program has no folder")?;
    let target = folder.parent().ok_or("this program has no target folder")?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args([
        "build",
        "--release",
        "--locked",
        "-p",
        "peer-etcd-client",
        "--manifest-path",
    ]);
    build
        .arg(self::folder().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    if std::env::var_os("PROTOC").is_none() {
        build.env("PROTOC", protoc_bin_vendored::protoc_bin_path()?);
    }
    run(build)?;
    let program = target
        .join("release/peer-etcd-client")
        .display()
        .to_string();
    Ok(Program {
        name: "etcd-client",
        version: version.unwrap_or_default(),
        command: vec![program],
    })
}

fn go(own: &Path) -> Result<Program, Failure> {
    let program: PathBuf = own.with_file_name("peer-go");
    let mut build = Command::new("go");
    build
        .current_dir(folder().join("go"))
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local");
    build
        .args(["build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(".");
    run(build)?;
    let version = between("go/go.mod", "go.etcd.io/etcd/client/v3 v", "\n").unwrap_or_default();
    Ok(Program {
        name: "clientv3",
        version,
        command: vec![program.display().to_string()],
    })
}

fn java() -> Result<Program, Failure> {
    let target = folder().join("java/target");
    let mut build = Command::new("mvn");
    build
        .current_dir(folder().join("java"))
        .args(["-q", "-B", "package"]);
    run(build)?;
    let version = between(
        "java/pom.xml",
        "<artifactId>jetcd-core</artifactId>\n      <version>",
        "<",
    )
    .unwrap_or_default();
    let path = format!("{0}/peer.jar:{0}/lib/*", target.display());
    Ok(Program {
        name: "jetcd",
        version,
        command: ["java", "-cp", &path, "peers.Peer"]
            .map(str::to_owned)
            .to_vec(),
    })
}

//! The file of settings: each key is a flag of the command line. Pure, but for reading the file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Command;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The flag that names the file, and its environment variable.
const FLAG: &str = "--config";
const VARIABLE: &str = "ETCD_SERVICE_CONFIG";

/// Returns the arguments with those of the file of settings inserted, if one is named.
///
/// The keys at the top of the file are the flags that all verbs have; a table with the name of a verb has the
/// flags of that verb. `command` is the command line of `run`, `lock` and `lead`. Arguments win over the file.
///
/// ```toml
/// endpoints = ["10.0.0.1:2379", "10.0.0.2:2379"]
///
/// [run]
/// service = "web"
/// addr = "10.0.0.5:8080"
/// check = ["http://10.0.0.5:8080/health"]
/// command = ["python3", "-m", "http.server", "8080"]
/// ```
pub(crate) fn with_settings(
    arguments: Vec<OsString>,
    program: &Command,
) -> Result<Vec<OsString>, Failure> {
    let variable = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    let Some(path) = named(&arguments).or_else(|| variable.map(PathBuf::from)) else {
        return Ok(arguments);
    };
    let failed = |why: &dyn std::fmt::Display| Failure::usage(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
    let settings = parse(&path, &text).map_err(|why| failed(&why))?;
    merge(arguments, &settings, program).map_err(|why| failed(&why))
}

/// The path after `--config`.
fn named(arguments: &[OsString]) -> Option<PathBuf> {
    let mut arguments = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == FLAG {
            return arguments.next().map(PathBuf::from);
        }
        let text = argument.to_str().and_then(|text| text.strip_prefix(FLAG));
        if let Some(path) = text.and_then(|text| text.strip_prefix('=')) {
            return Some(PathBuf::from(path));
        }
    }
    None
}

/// Parses TOML, or YAML if the name of the file ends with `.yaml` or `.yml`.
fn parse(path: &Path, text: &str) -> Result<Map<String, Value>, String> {
    let is_yaml = path
        .extension()
        .is_some_and(|end| end == "yaml" || end == "yml");
    match is_yaml {
        true => serde_norway::from_str(text).map_err(|error| error.to_string()),
        // The first line of the error says the line and the column.
        false => {
            toml::from_str(text).map_err(|error| error.to_string().trim_end().replace('\n', " "))
        }
    }
}

/// Inserts the flags of the settings before the other arguments, so that those win.
fn merge(
    arguments: Vec<OsString>,
    settings: &Map<String, Value>,
    program: &Command,
) -> Result<Vec<OsString>, String> {
    let Some(at) = arguments.iter().position(|argument| {
        argument
            .to_str()
            .is_some_and(|name| program.find_subcommand(name).is_some())
    }) else {
        return Ok(arguments);
    };
    let verb = arguments
        .get(at)
        .and_then(|name| program.find_subcommand(name));
    let given = |name: &str| is_given(&arguments, name);
    let mut inserted = Vec::new();
    let mut command = Vec::new();
    for (name, value) in settings {
        match (program.find_subcommand(name), value) {
            (Some(of), Value::Object(table))
                if verb.is_some_and(|verb| verb.get_name() == of.get_name()) =>
            {
                for (name, value) in table {
                    match name.as_str() {
                        "command" => command = words(name, value)?,
                        name if given(name) => {}
                        _ => flag(of, name, value, &mut inserted)?,
                    }
                }
            }
            // The settings of another verb.
            (Some(_), Value::Object(_)) => {}
            _ if given(name) => {}
            _ => flag(program, name, value, &mut inserted)?,
        }
    }
    let has_command = arguments.iter().any(|argument| argument == "--");
    let mut merged = arguments;
    merged.splice(at + 1..at + 1, inserted);
    if !command.is_empty() && !has_command {
        merged.push("--".into());
        merged.extend(command);
    }
    Ok(merged)
}

/// Whether the user has given the flag: then that of the file does not count, also if it could be repeated.
fn is_given(arguments: &[OsString], name: &str) -> bool {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    let mut flags = own.filter_map(|argument| argument.to_str()?.strip_prefix("--"));
    flags.any(|flag| flag.split_once('=').map_or(flag, |(flag, _)| flag) == name)
}

/// Adds a flag with its values.
fn flag(of: &Command, name: &str, value: &Value, to: &mut Vec<OsString>) -> Result<(), String> {
    let argument = of
        .get_arguments()
        .find(|argument| argument.get_long() == Some(name));
    let argument =
        argument.ok_or_else(|| format!("{name:?} is not a setting of {}", of.get_name()))?;
    let takes_value = argument.get_action().takes_values();
    match value {
        Value::Bool(on) if !takes_value => {
            if *on {
                to.push(format!("--{name}").into());
            }
        }
        _ if !takes_value => return Err(format!("{name:?} is true or false")),
        _ => {
            let values = words(name, value)?;
            match argument.get_action() {
                // Repeated.
                clap::ArgAction::Append if argument.get_value_delimiter().is_none() => {
                    to.extend(values.into_iter().map(|value| joined(name, value)));
                }
                _ => to.push(joined(name, values.join(&OsString::from(",")))),
            }
        }
    }
    Ok(())
}

fn joined(name: &str, value: OsString) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value);
    flag
}

/// A text, number or bool, or a list of them, as arguments.
fn words(name: &str, value: &Value) -> Result<Vec<OsString>, String> {
    let word = |value: &Value| match value {
        Value::String(text) => Ok(OsString::from(text)),
        Value::Number(number) => Ok(number.to_string().into()),
        Value::Bool(on) => Ok(on.to_string().into()),
        _ => Err(format!("{name:?} is a text, a number, or a list of them")),
    };
    match value {
        Value::Array(values) => values.iter().map(word).collect(),
        value => Ok(vec![word(value)?]),
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    fn program() -> Command {
        Command::new("etcd-service")
            .arg(Arg::new("config").long("config").global(true))
            .arg(Arg::new("endpoints").long("endpoints").global(true))
            .subcommand(
                Command::new("run")
                    .arg(Arg::new("service").long("service"))
                    .arg(Arg::new("check").long("check").action(ArgAction::Append))
                    .arg(Arg::new("quiet").long("quiet").action(ArgAction::SetTrue))
                    .arg(Arg::new("ttl").long("ttl"))
                    .arg(Arg::new("command").last(true).num_args(0..)),
            )
            .subcommand(Command::new("list").arg(Arg::new("service").long("service")))
    }

    const FILE: &str = r#"
        endpoints = ["a:1", "b:2"]
        [run]
        service = "web"
        check = ["tcp", "exec:a,b"]
        quiet = true
        ttl = 5
        command = ["sleep", "9"]
        [list]
        service = "other"
    "#;

    fn merged(line: &str, file: &str) -> Result<String, String> {
        let arguments = line.split(' ').map(OsString::from).collect();
        let settings = parse(Path::new("x.toml"), file)?;
        let merged = merge(arguments, &settings, &program())?;
        Ok(merged.join(&OsString::from(" ")).into_string().unwrap())
    }

    #[test]
    fn the_file_comes_before_the_arguments() {
        assert_eq!(
            merged("etcd-service run --ttl 9", FILE).unwrap(),
            "etcd-service run --endpoints=a:1,b:2 --check=tcp --check=exec:a,b --quiet --service=web --ttl 9 -- \
             sleep 9"
        );
        assert_eq!(
            merged("etcd-service list", FILE).unwrap(),
            "etcd-service list --endpoints=a:1,b:2 --service=other"
        );
        let other = merged("etcd-service run --check=x", FILE).unwrap();
        assert!(!other.contains("--check=tcp"), "{other}");
        let own = merged("etcd-service run -- echo", FILE).unwrap();
        assert!(own.ends_with("--ttl=5 -- echo"), "{own}");
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        for (file, expected) in [
            (
                "endpoint = 1",
                "\"endpoint\" is not a setting of etcd-service",
            ),
            ("[run]\nsevice = 1", "\"sevice\" is not a setting of run"),
            ("[run]\nquiet = 1", "\"quiet\" is true or false"),
            ("[run]\nservice = { a = 1 }", "\"service\" is a text"),
            ("[run", "line 1"),
        ] {
            let error = merged("etcd-service run", file).unwrap_err();
            assert!(error.contains(expected), "{file}: {error}");
        }
    }

    #[test]
    fn toml_and_yaml_say_the_same() {
        let yaml = "endpoints: [\"a:1\"]\nrun:\n  service: web\n  ttl: 5\n";
        let toml = "endpoints = [\"a:1\"]\n[run]\nservice = \"web\"\nttl = 5\n";
        let [yaml, toml] = [("x.yaml", yaml), ("x.toml", toml)]
            .map(|(path, text)| parse(Path::new(path), text).unwrap());
        assert_eq!(yaml, toml);
    }

    #[test]
    fn the_file_is_named_before_the_command_of_the_user() {
        let named = |line: &str| {
            let arguments: Vec<_> = line.split(' ').map(OsString::from).collect();
            super::named(&arguments)
        };
        assert_eq!(named("x run --config a.toml -- c"), Some("a.toml".into()));
        assert_eq!(named("x --config=b.toml run"), Some("b.toml".into()));
        assert_eq!(named("x run -- c --config a.toml"), None);
        assert_eq!(named("x run"), None);
    }
}

//! The flags of `register` and `discover`: `--name value` or `--name=value`.

use std::collections::BTreeMap;
use std::sync::Arc;

use etcd_blocking::codec::{self, Codec};

use crate::program::Ending;

/// A codec, and the prefix of its keys if it is not the codec's own.
type Format<'a> = (Arc<dyn Codec>, Option<&'a str>);

/// The flags on the command line.
#[derive(Debug)]
pub(crate) struct Flags {
    given: BTreeMap<String, String>,
}

impl Flags {
    /// Reads the command line of this process: flags that take a value, and flags that do not.
    pub(crate) fn read(valued: &[&str], switches: &[&str]) -> Result<Self, Ending> {
        let mut given = BTreeMap::new();
        // Not `args()`: it panics at an argument that is not UTF-8.
        let mut args = std::env::args_os().skip(1).map(|arg| {
            arg.into_string()
                .map_err(|arg| Ending::Misused(format!("{arg:?} is not UTF-8")))
        });
        while let Some(arg) = args.next().transpose()? {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (arg, None),
            };
            let value = match (name.as_str(), value) {
                ("--help" | "-h", _) => return Err(Ending::Help),
                (flag, value) if valued.contains(&flag) => match value {
                    Some(value) => value,
                    // A flag is no value: in `--service --addr` the value is missing.
                    None => args
                        .next()
                        .transpose()?
                        .filter(|value| !value.starts_with("--"))
                        .ok_or_else(|| Ending::Misused(format!("{flag} needs a value")))?,
                },
                (flag, None) if switches.contains(&flag) => String::new(),
                (flag, Some(_)) if switches.contains(&flag) => {
                    return Err(Ending::Misused(format!("{flag} takes no value")));
                }
                (other, _) => return Err(Ending::Misused(format!("unknown argument {other:?}"))),
            };
            if given.insert(name.clone(), value).is_some() {
                return Err(Ending::Misused(format!("{name} is given twice")));
            }
        }
        Ok(Flags { given })
    }

    /// The value of a flag, if it was given.
    pub(crate) fn get(&self, flag: &str) -> Option<&str> {
        self.given.get(flag).map(String::as_str)
    }

    /// The value of a flag that has no default.
    pub(crate) fn required(&self, flag: &str) -> Result<&str, Ending> {
        self.get(flag)
            .ok_or_else(|| Ending::Misused(format!("{flag} is missing")))
    }

    /// The codecs by their names, each with its prefix if one was given for it.
    pub(crate) fn codecs(&self) -> Result<Vec<Format<'_>>, Ending> {
        let names = self.get("--codec").unwrap_or("native").split(',');
        let prefixes: Vec<&str> = self.get("--prefix").unwrap_or("").split(',').collect();
        let codecs = names.enumerate().map(|(index, name)| {
            let prefix = prefixes.get(index).filter(|prefix| !prefix.is_empty());
            Ok((codec(name)?, prefix.copied()))
        });
        let codecs = codecs.collect::<Result<Vec<_>, Ending>>()?;
        if prefixes.len() > codecs.len() {
            let more = "--prefix has more prefixes than --codec has codecs";
            return Err(Ending::Misused(more.to_owned()));
        }
        Ok(codecs)
    }
}

fn codec(name: &str) -> Result<Arc<dyn Codec>, Ending> {
    codec::by_name(name).ok_or_else(|| {
        let all = codec::all();
        let names: Vec<&str> = all.iter().map(|codec| codec.name()).collect();
        let names = names.join(", ");
        Ending::Misused(format!("--codec is one of {names}, not {name:?}"))
    })
}

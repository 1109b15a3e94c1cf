//! The parameters of a work, as the arguments `KEY=VALUE` of a peer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Failure;

/// What a peer is told about its work.
#[derive(Clone, Debug, Default)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    pub fn parse(args: &[String]) -> Result<Self, Failure> {
        let pairs = args.iter().map(|arg| {
            arg.split_once('=')
                .ok_or_else(|| format!("{arg} is not KEY=VALUE"))
        });
        let pairs: Result<Vec<_>, _> = pairs.collect();
        Ok(pairs?.into_iter().collect::<Self>())
    }

    pub fn set(&mut self, key: &str, value: impl ToString) {
        self.0.insert(key.to_owned(), value.to_string());
    }

    pub fn number(&self, key: &str) -> Result<usize, Failure> {
        let value = self
            .0
            .get(key)
            .ok_or_else(|| format!("the parameter {key} is missing"))?;
        Ok(value.parse()?)
    }

    pub fn seconds(&self, key: &str) -> Result<Duration, Failure> {
        let value = self
            .0
            .get(key)
            .ok_or_else(|| format!("the parameter {key} is missing"))?;
        Ok(Duration::try_from_secs_f64(value.parse()?)?)
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub fn is(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_some_and(|set| set == value)
    }

    /// As arguments of a program.
    pub fn args(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Params {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        )
    }
}

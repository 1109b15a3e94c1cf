//! What is registered: `--service`, `--addr` and the other properties of an instance.

use clap::Args;
use etcd_blocking::Instance;

/// The instance that is registered.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Instance")]
pub(crate) struct InstanceArguments {
    /// Service, such as web
    #[arg(long, value_name = "NAME")]
    service: String,
    /// Address at which others reach the instance, such as 10.0.0.5:8080
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: String,
    /// Id of the instance [default: its address]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Share of the calls that it gets, relative to the weights of the others
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Zone, for clients that prefer their own
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Version of the program
    #[arg(long = "instance-version", value_name = "VERSION")]
    version: Option<String>,
    /// Tags, separated by commas or repeated
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// Metadata; repeated for each
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    meta: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=');
    let (name, value) = pair.ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl InstanceArguments {
    /// The instance, checked.
    pub(crate) fn instance(&self) -> etcd_blocking::Result<Instance> {
        let mut instance = Instance::new(self.service.as_str(), &self.addr);
        if let Some(id) = &self.id {
            instance = instance.id(id.as_str());
        }
        if let Some(weight) = self.weight {
            instance = instance.weight(weight);
        }
        if let Some(zone) = &self.zone {
            instance = instance.zone(zone.as_str());
        }
        if let Some(version) = &self.version {
            instance = instance.version(version.as_str());
        }
        for tag in &self.tag {
            instance = instance.tag(tag.as_str());
        }
        for (name, value) in &self.meta {
            instance = instance.meta(name.as_str(), value.as_str());
        }
        instance.check()?;
        Ok(instance)
    }
}

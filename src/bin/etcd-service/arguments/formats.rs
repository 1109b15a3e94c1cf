//! The formats of instances: `--format` and `--prefix`.

use std::sync::Arc;

use clap::Args;
use etcd_blocking::codec::{self, Codec};
use etcd_blocking::{Discovery, RegistrarBuilder};

/// In which formats instances are in etcd, and below which keys.
#[derive(Args, Clone, Debug)]
pub(crate) struct FormatArguments {
    /// Formats, separated by commas: native, plain, go-naming, go-zero, kratos, kitex, hertz, rpcx, go-micro,
    /// dubbo-go or skydns
    #[arg(long, value_name = "FORMATS", default_value = "native", value_delimiter = ',', value_parser = format)]
    format: Vec<Arc<dyn Codec>>,
    /// Prefixes of the keys, one for each format, separated by commas. Each format has a default, which an empty
    /// prefix stands for; that of native is /services/
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',')]
    prefix: Vec<String>,
}

fn format(name: &str) -> Result<Arc<dyn Codec>, String> {
    let names = || {
        codec::all()
            .iter()
            .map(|codec| codec.name().to_owned())
            .collect::<Vec<_>>()
    };
    codec::by_name(name).ok_or_else(|| {
        format!(
            "there is no such format; the formats are {}",
            names().join(", ")
        )
    })
}

impl FormatArguments {
    /// The formats, each with its prefix.
    ///
    /// The first format is the one whose prefix has the overrides of operators.
    pub(crate) fn formats(&self) -> impl Iterator<Item = (Arc<dyn Codec>, String)> {
        self.format.iter().enumerate().map(|(index, codec)| {
            let prefix = self.prefix.get(index).filter(|prefix| !prefix.is_empty());
            let prefix = prefix.map_or(codec.default_prefix(), String::as_str);
            (Arc::clone(codec), prefix.to_owned())
        })
    }

    /// The prefix of the first format.
    pub(crate) fn first_prefix(&self) -> String {
        self.formats()
            .next()
            .map_or_else(String::new, |(_, prefix)| prefix)
    }

    /// Makes a registrar write the formats.
    pub(crate) fn write(&self, mut registrar: RegistrarBuilder) -> RegistrarBuilder {
        for (index, (codec, prefix)) in self.formats().enumerate() {
            registrar = match index {
                0 => registrar.codec(codec),
                _ => registrar.add_codec(codec),
            };
            registrar = registrar.prefix(prefix);
        }
        registrar
    }

    /// Makes views read the formats.
    pub(crate) fn read(&self, mut discovery: Discovery) -> Discovery {
        for (index, (codec, prefix)) in self.formats().enumerate() {
            discovery = match index {
                0 => discovery.codec(codec),
                _ => discovery.add_codec(codec),
            };
            discovery = discovery.prefix(prefix);
        }
        discovery
    }
}

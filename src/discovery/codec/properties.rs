//! Properties that a format without fields for them holds as entries of its metadata. Pure.

use std::collections::BTreeMap;

use crate::discovery::instance::Instance;

/// A property that is an entry of the metadata. It is written unless it has its default.
#[derive(Clone, Copy, Debug)]
pub(super) enum Property {
    /// `version`
    Version,
    /// `zone`
    Zone,
    /// `weight`; readers of the format assume this default.
    Weight { default: u32 },
}

/// The metadata of an instance together with its properties.
pub(super) fn to_metadata(
    instance: &Instance,
    properties: &[Property],
) -> BTreeMap<String, String> {
    let mut metadata = instance.meta.clone();
    for property in properties {
        let (name, value) = match *property {
            Property::Version => ("version", instance.version.clone()),
            Property::Zone => ("zone", instance.zone.clone()),
            Property::Weight { default } if instance.weight == default => continue,
            Property::Weight { .. } => ("weight", instance.weight.to_string()),
        };
        if !value.is_empty() {
            metadata.insert(name.to_owned(), value);
        }
    }
    metadata
}

/// Sets the metadata of an instance, and its properties from entries of the metadata.
///
/// An entry that cannot be the property stays in the metadata: other readers ignore it too.
pub(super) fn from_metadata(
    instance: &mut Instance,
    properties: &[Property],
    metadata: BTreeMap<String, String>,
) {
    instance.meta = metadata;
    for property in properties {
        match *property {
            Property::Version => {
                instance.version = instance.meta.remove("version").unwrap_or_default();
            }
            Property::Zone => instance.zone = instance.meta.remove("zone").unwrap_or_default(),
            Property::Weight { default } => {
                let weight = instance.meta.get("weight").and_then(|w| w.parse().ok());
                instance.weight = weight.unwrap_or(default);
                if weight.is_some() {
                    instance.meta.remove("weight");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_entries_and_entries_are_properties() {
        let all = [
            Property::Version,
            Property::Zone,
            Property::Weight { default: 100 },
        ];
        let web = Instance::new("web", "a:1")
            .version("1")
            .zone("eu")
            .weight(3)
            .meta("k", "v");
        let metadata = to_metadata(&web, &all);
        let sorted: Vec<_> = metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(sorted, ["k=v", "version=1", "weight=3", "zone=eu"]);
        let mut read = Instance::new("web", "a:1");
        from_metadata(&mut read, &all, metadata);
        assert_eq!(read, web);
        assert!(to_metadata(&Instance::new("web", "a:1").weight(100), &all).is_empty());
        from_metadata(&mut read, &all, BTreeMap::new());
        assert_eq!(read, Instance::new("web", "a:1").weight(100));
    }

    #[test]
    fn a_weight_that_is_no_number_stays_in_the_metadata() {
        let mut read = Instance::new("web", "a:1");
        let metadata = BTreeMap::from([("weight".to_owned(), "heavy".to_owned())]);
        from_metadata(&mut read, &[Property::Weight { default: 100 }], metadata);
        assert_eq!((read.weight, read.meta["weight"].as_str()), (100, "heavy"));
    }
}

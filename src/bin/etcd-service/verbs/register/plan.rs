//! What a new list of services changes. Pure.

use std::collections::BTreeMap;

use super::services_file::Entry;

/// The service and the id of an instance.
pub(super) type Name = (String, String);

/// The steps from the present services to the new ones.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Leave first: the address may be registered again.
    pub(super) leave: Vec<Name>,
    pub(super) update: Vec<Entry>,
    pub(super) add: Vec<Entry>,
}

/// Compares the present services with the new ones. An instance whose address or checks differ is
/// registered anew.
pub(super) fn plan(present: &BTreeMap<Name, Entry>, new: Vec<Entry>) -> Plan {
    let mut plan = Plan::default();
    let mut left: BTreeMap<&Name, &Entry> = present.iter().collect();
    for entry in new {
        match left.remove(&entry.name()) {
            None => plan.add.push(entry),
            Some(known) if !known.continues(&entry) => {
                plan.leave.push(entry.name());
                plan.add.push(entry);
            }
            Some(known) if known.instance == entry.instance => {}
            Some(_) => plan.update.push(entry),
        }
    }
    plan.leave.extend(left.into_keys().cloned());
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::CheckArguments;

    fn entry(id: &str, addr: &str, weight: u32) -> Entry {
        let text = format!("service = 'web'\nid = '{id}'\naddr = '{addr}'\nweight = {weight}");
        Entry::new(&toml::from_str(&text).unwrap(), CheckArguments::default()).unwrap()
    }

    #[test]
    fn the_difference_is_carried_out_and_nothing_else() {
        let present = [
            entry("a", "a:1", 1),
            entry("b", "b:1", 1),
            entry("c", "c:1", 1),
            entry("d", "d:1", 1),
        ];
        let present = present.into_iter().map(|one| (one.name(), one)).collect();
        let new = vec![
            entry("a", "a:1", 1),
            entry("b", "b:1", 5),
            entry("c", "c:2", 1),
            entry("e", "e:1", 1),
        ];
        let name = |id: &str| ("web".to_owned(), id.to_owned());
        let plan = plan(&present, new);
        assert_eq!(plan.leave, [name("c"), name("d")]);
        let names = |entries: &[Entry]| -> Vec<_> { entries.iter().map(Entry::name).collect() };
        assert_eq!(names(&plan.update), [name("b")]);
        assert_eq!(names(&plan.add), [name("c"), name("e")]);
    }
}

//! Difference of two sorted lists, found in one pass.

use std::cmp::Ordering;
use std::iter::Peekable;

use bytes::Bytes;

use super::batch::KeyWrite;
use crate::error::Result;

/// A key of the destination and its value.
pub(super) type Pair = (Bytes, Bytes);

/// Iterator over the changes that make `copy` equal to `source`; both are sorted by key. It holds one key
/// of each at a time.
pub(super) struct Difference<S: Iterator, D: Iterator> {
    source: Peekable<S>,
    copy: Peekable<D>,
}

impl<S, D> Difference<S, D>
where
    S: Iterator<Item = Result<Pair>>,
    D: Iterator<Item = Result<Pair>>,
{
    pub(super) fn new(source: S, copy: D) -> Self {
        Difference {
            source: source.peekable(),
            copy: copy.peekable(),
        }
    }
}

impl<S, D> Iterator for Difference<S, D>
where
    S: Iterator<Item = Result<Pair>>,
    D: Iterator<Item = Result<Pair>>,
{
    type Item = Result<KeyWrite>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // Both lists are sorted by key, so one pass finds every difference.
            let order = match (self.source.peek(), self.copy.peek()) {
                (None, None) => return None,
                // An error is returned before further keys: a list that ends early must not look
                // like deletions.
                (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
                (_, Some(Err(_))) | (None, Some(_)) => Ordering::Greater,
                (Some(Ok((source, _))), Some(Ok((copy, _)))) => source.cmp(copy),
            };
            match order {
                Ordering::Less => {
                    let put = self.source.next()?;
                    return Some(put.map(|(key, value)| KeyWrite::Put(key, value)));
                }
                Ordering::Greater => {
                    let extra = self.copy.next()?;
                    return Some(extra.map(|(key, _)| KeyWrite::Delete(key)));
                }
                Ordering::Equal => {
                    let (source, copy) = (self.source.next()?, self.copy.next()?);
                    match (source, copy) {
                        (Ok((_, value)), Ok((_, old))) if value == old => {}
                        (Ok((key, value)), Ok(_)) => return Some(Ok(KeyWrite::Put(key, value))),
                        (Err(error), _) | (_, Err(error)) => return Some(Err(error)),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::error::Error;

    type Store = BTreeMap<u8, u8>;

    fn pairs(store: &Store) -> impl Iterator<Item = Result<Pair>> {
        store
            .iter()
            .map(|(key, value)| Ok((vec![*key].into(), vec![*value].into())))
    }

    proptest! {
        #[test]
        fn the_changes_make_the_copy_equal_to_the_source(
            source in prop::collection::btree_map(0u8..30, 0u8..3, 0..20),
            copy in prop::collection::btree_map(0u8..30, 0u8..3, 0..20),
        ) {
            let changes: Vec<_> = Difference::new(pairs(&source), pairs(&copy))
                .collect::<Result<_>>()
                .unwrap();
            let differing = (0u8..30).filter(|key| source.get(key) != copy.get(key)).count();
            prop_assert_eq!(changes.len(), differing);
            let mut made = copy;
            for change in changes {
                match change {
                    KeyWrite::Put(key, value) => drop(made.insert(key[0], value[0])),
                    KeyWrite::Delete(key) => prop_assert!(made.remove(&key[0]).is_some()),
                }
            }
            prop_assert_eq!(made, source);
        }
    }

    #[test]
    fn a_list_that_ends_early_is_an_error_and_not_a_deletion() {
        let copy: Store = (0..9).map(|key| (key, 0)).collect();
        let broken = || std::iter::once(Err(Error::closed()));
        let source: Store = (0..3).map(|key| (key, 0)).collect();
        let mut difference = Difference::new(pairs(&source).chain(broken()), pairs(&copy));
        assert!(difference.next().unwrap().is_err());
        let mut difference = Difference::new(pairs(&copy), pairs(&source).chain(broken()));
        assert!(difference.next().unwrap().is_err());
    }
}

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn kv(key: u16, version: i64) -> KeyValue {
    KeyValue {
        key: key.to_be_bytes().to_vec().into(),
        version,
        ..KeyValue::default()
    }
}

type Model = BTreeMap<Vec<u8>, KeyValue>;

/// Checks the nodes below a node, whose keys are in `from..to`, and returns the depth and the number of key values.
fn check(node: &Node, from: Option<&[u8]>, to: Option<&[u8]>) -> (usize, usize) {
    assert!((1..=MAX).contains(&node.len()));
    match node {
        Node::Leaf(kvs) => {
            assert!(kvs.windows(2).all(|two| two[0].key() < two[1].key()));
            let first = kvs.first().map(|kv| &kv.key()[..]);
            let last = kvs.last().map(|kv| &kv.key()[..]);
            assert!(from.is_none() || from <= first, "{from:?} {first:?}");
            assert!(to.is_none() || last < to, "{last:?} {to:?}");
            (1, kvs.len())
        }
        Node::Inner(children) => {
            let bounds = children.windows(2).skip(1);
            assert!(
                bounds
                    .map(|two| (&two[0].bound, &two[1].bound))
                    .all(|(a, b)| a < b)
            );
            let mut below = Vec::new();
            for (n, child) in children.iter().enumerate() {
                let from = if n == 0 { from } else { Some(&child.bound[..]) };
                let next = children.get(n + 1).map(|child| &child.bound[..]);
                below.push(check(&child.node, from, next.or(to)));
            }
            // Of two neighbours, at most one is small: a node that becomes small is merged.
            let is_small = |child: &Child| child.node.len() < MIN;
            assert!(!children.windows(2).any(|two| two.iter().all(is_small)));
            let depths: Vec<_> = below.iter().map(|(depth, _)| depth).collect();
            assert!(depths.windows(2).all(|two| two[0] == two[1]));
            let len = below.iter().map(|(_, len)| len).sum();
            (below[0].0 + 1, len)
        }
    }
}

fn assert_equal(tree: &KeyTree, model: &Model) {
    let counted = tree
        .root
        .as_ref()
        .map_or(0, |root| check(root, None, None).1);
    assert_eq!((counted, tree.len()), (model.len(), model.len()));
    assert!(tree.iter().eq(model.values()));
}

/// Runs of keys that are put or deleted: single keys, and what a list or a deletion of a range does.
fn runs() -> impl Strategy<Value = Vec<(bool, u16, u16)>> {
    let run = (
        any::<bool>(),
        0u16..600,
        prop_oneof![Just(1u16), 1..40u16, 200..600u16],
    );
    prop::collection::vec(run, 1..60)
}

/// The trees and models after each run, and the nodes that a tree shares with the one before.
fn histories(runs: &[(bool, u16, u16)]) -> Vec<(KeyTree, Model)> {
    let mut tree = KeyTree::default();
    let mut model = Model::new();
    let mut histories = vec![(tree.clone(), model.clone())];
    for (version, (is_put, first, len)) in runs.iter().enumerate() {
        for key in *first..first + len {
            let new = kv(key, version as i64);
            let (old, known) = match is_put {
                true => (
                    tree.insert(new.clone()),
                    model.insert(new.key().to_vec(), new),
                ),
                false => (tree.remove(new.key()), model.remove(&new.key()[..])),
            };
            assert_eq!(old, known);
        }
        histories.push((tree.clone(), model.clone()));
    }
    histories
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_version_of_a_tree_equals_a_map_and_stays_as_it_was(runs in runs()) {
        for (tree, model) in histories(&runs) {
            assert_equal(&tree, &model);
            for key in 0..1200u16 {
                let key = key.to_be_bytes();
                prop_assert_eq!(tree.get(&key), model.get(&key[..]));
            }
            for key in [0u16, 1, 77, 300, 599, 1199] {
                for key in [&key.to_be_bytes()[..], &key.to_be_bytes()[..1], &[key.to_be_bytes()[0], 5, 0]] {
                    let rest = model.range(key.to_vec()..).map(|(_, kv)| kv);
                    prop_assert!(tree.iter_from(key).eq(rest));
                }
            }
        }
    }

    #[test]
    fn the_difference_leads_exactly_from_one_version_to_another(runs in runs(), steps in 1usize..50) {
        let histories = histories(&runs);
        for (before, old) in histories.iter().rev().take(6).chain(histories.first()) {
            let (now, new) = &histories[histories.len() / 2];
            let revision = Revision::new(9);
            let mut difference = Difference::new(before.clone(), now.clone(), revision);
            let Found { changes, size, old: mut remains } = loop {
                if let Some(found) = difference.step(steps) {
                    break found;
                }
            };
            // What other versions share stays.
            while remains.free() {}
            prop_assert_eq!(size, changes.iter().map(KeyChange::size).sum::<usize>());
            let keys: Vec<_> = changes.iter().map(KeyChange::key).collect();
            prop_assert!(keys.windows(2).all(|two| two[0] < two[1]));
            let mut replayed = old.clone();
            for change in &changes {
                match change {
                    KeyChange::Put { kv, prev } => {
                        prop_assert_ne!(prev.as_ref(), Some(kv));
                        let old = replayed.insert(kv.key().to_vec(), kv.clone());
                        prop_assert_eq!(&old, prev);
                    }
                    KeyChange::Deleted { prev, revision } => {
                        prop_assert_eq!(*revision, Revision::new(9));
                        let old = replayed.remove(&prev.key()[..]);
                        prop_assert_eq!(old.as_ref(), Some(prev));
                    }
                }
            }
            prop_assert_eq!(&replayed, new);
        }
        for (tree, model) in &histories {
            assert_equal(tree, model);
        }
    }
}

fn nodes(node: &Arc<Node>, into: &mut Vec<Arc<Node>>) {
    into.push(Arc::clone(node));
    if let Node::Inner(children) = &**node {
        children.iter().for_each(|child| nodes(&child.node, into));
    }
}

#[test]
fn a_change_copies_only_the_nodes_on_the_path_to_its_key() {
    let mut tree: KeyTree = (0..20_000).map(|key| kv(key, 1)).collect();
    let before = tree.clone();
    tree.insert(kv(7_000, 2));
    tree.remove(kv(13_000, 1).key());
    // A key that is not there changes nothing.
    tree.remove(kv(20_001, 1).key());
    let (mut old, mut new) = (Vec::new(), Vec::new());
    nodes(before.root.as_ref().unwrap(), &mut old);
    nodes(tree.root.as_ref().unwrap(), &mut new);
    let shared = new
        .iter()
        .filter(|new| old.iter().any(|old| Arc::ptr_eq(old, new)));
    // 20,000 keys are three levels. The paths share the root at least.
    assert!(new.len() - shared.count() <= 5);
    let mut difference = Difference::new(before, tree, Revision::new(3));
    // One step for each shared leaf, and one for each key of the others.
    let found = difference.step(20_000 / MAX + 2 * MAX + 1).unwrap();
    assert_eq!(found.changes.len(), 2);
}

#[test]
fn an_empty_node_without_neighbours_is_removed() {
    // The last key is alone in its leaf, and the leaf in its inner node.
    let last = (MAX * MAX) as u16;
    let mut tree: KeyTree = (0..=last).map(|key| kv(key, 1)).collect();
    tree.remove(kv(last, 1).key());
    let model = (0..last).map(|key| (kv(key, 1).key().to_vec(), kv(key, 1)));
    assert_equal(&tree, &model.collect());
}

#[test]
fn the_halves_of_a_node_are_not_merged_again_at_once() {
    let mut tree = KeyTree::default();
    for key in (0..=MAX as u16).rev() {
        tree.insert(kv(key, 1));
    }
    let root_len = |tree: &KeyTree| tree.root.as_ref().unwrap().len();
    assert_eq!(root_len(&tree), 2);
    tree.remove(kv(0, 1).key());
    assert_eq!(root_len(&tree), 2);
    // A leaf below the minimum is merged.
    for key in 1..10 {
        tree.remove(kv(key, 1).key());
    }
    assert_eq!(root_len(&tree), MAX + 1 - 10);
}

#[test]
fn small_leaves_at_the_seam_of_merged_nodes_are_merged() {
    let mut tree: KeyTree = (0..1200).map(|key| kv(key, 1)).collect();
    let mut model: Model = tree
        .iter()
        .map(|kv| (kv.key().to_vec(), kv.clone()))
        .collect();
    for key in (990..1021).chain(1028..1088).chain(300..600).chain([1150]) {
        assert_eq!(
            tree.remove(kv(key, 1).key()),
            model.remove(&kv(key, 1).key()[..])
        );
        assert_equal(&tree, &model);
    }
}

#[test]
fn a_node_gets_no_more_room_than_it_needs() {
    let capacity = |tree: &KeyTree| match &**tree.root.as_ref().unwrap() {
        Node::Leaf(kvs) => kvs.capacity(),
        Node::Inner(children) => children.capacity(),
    };
    let tree: KeyTree = (0..20).map(|key| kv(key, 1)).collect();
    // The leaf is copied without spare room.
    let mut copy = tree.clone();
    copy.insert(kv(20, 1));
    assert_eq!(capacity(&copy), MAX);
    for (keys, room) in [(1, 1), (2, 5), (6, 10)] {
        let tree: KeyTree = (0..keys).map(|key| kv(key, 1)).collect();
        assert_eq!(capacity(&tree), room);
    }
}

#[test]
fn the_leaves_of_a_list_are_full() {
    let tree: KeyTree = (0..10_000).map(|key| kv(key, 1)).collect();
    let (mut all, mut leaves) = (Vec::new(), 0);
    nodes(tree.root.as_ref().unwrap(), &mut all);
    for node in all {
        if let Node::Leaf(kvs) = &*node {
            assert!(kvs.capacity() <= MAX);
            leaves += 1;
        }
    }
    assert_eq!(leaves, 10_000_usize.div_ceil(MAX));
}

#[test]
fn a_tree_is_freed_in_steps_except_what_others_share() {
    let value = Bytes::from(vec![b'v'; 10]);
    let with_value = |key| KeyValue {
        value: value.clone(),
        ..kv(key, 1)
    };
    let tree: KeyTree = (0..3_200).map(with_value).collect();
    let mut changed = tree.clone();
    changed.insert(kv(1_000, 2));
    let mut remains = Remains::new(tree);
    while remains.free() {}
    assert_eq!(changed.iter().count(), 3_200);
    let mut remains = Remains::new(changed);
    let mut steps = 1;
    while remains.free() {
        steps += 1;
        assert!(!value.is_unique());
    }
    // 100 leaves, and the inner nodes.
    assert_eq!(steps, 105_usize.div_ceil(FREED));
    assert!(value.is_unique());
}

//! Ordered set of key values whose clones share their nodes: a persistent B+ tree.
//!
//! A clone copies one pointer. A change of a set that has clones copies the nodes on the path to the key. A reader that
//! holds an older set therefore does not slow down the writer. A comparison of two sets skips the leaves that they share.

use std::mem;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;

use super::event::KeyChange;
use crate::types::{KeyValue, Revision};

/// The maximum number of key values in a leaf, and of children of an inner node.
const MAX: usize = 32;
/// A node below this size is merged with a neighbour, if both fit in one.
const MIN: usize = 8;
/// The number of nodes that are freed in one step. A step takes some 100 µs.
const FREED: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct KeyTree {
    root: Option<Arc<Node>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Vec<KeyValue>),
    Inner(Vec<Child>),
}

#[derive(Clone, Debug)]
struct Child {
    /// A lower bound of the keys of the node, above all keys of the child before. The bound of the first child has no
    /// meaning.
    bound: Bytes,
    node: Arc<Node>,
}

impl KeyTree {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        let mut node = self.root.as_ref()?;
        loop {
            match &**node {
                Node::Leaf(kvs) => return kvs.get(find(kvs, key).ok()?),
                Node::Inner(children) => node = &children.get(child_of(children, key))?.node,
            }
        }
    }

    /// Inserts a key value, and returns the one with the same key that it replaces.
    pub(super) fn insert(&mut self, kv: KeyValue) -> Option<KeyValue> {
        let Some(root) = &mut self.root else {
            self.root = Some(Arc::new(Node::Leaf(vec![kv])));
            self.len = 1;
            return None;
        };
        let (replaced, split) = insert(root, kv, true);
        if let Some(right) = split {
            let left = Child {
                bound: Bytes::new(),
                node: Arc::clone(root),
            };
            *root = Arc::new(Node::Inner(vec![left, right]));
        }
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Removes a key, and returns its key value.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<KeyValue> {
        // Nothing is copied for a key that is not there.
        self.get(key)?;
        let root = self.root.as_mut()?;
        let removed = remove(root, key);
        self.len -= usize::from(removed.is_some());
        while let Node::Inner(children) = &**root
            && let [only] = &children[..]
        {
            *root = Arc::clone(&only.node);
        }
        self.root.take_if(|root| root.len() == 0);
        removed
    }

    /// All key values, in the order of their keys.
    pub(super) fn iter(&self) -> Iter<'_> {
        self.iter_from(&[])
    }

    /// The key values from this key on, in the order of their keys.
    pub(super) fn iter_from(&self, key: &[u8]) -> Iter<'_> {
        let mut iter = Iter {
            path: Vec::new(),
            leaf: [].iter(),
        };
        let mut next = self.root.as_deref();
        while let Some(node) = next {
            next = match node {
                Node::Leaf(kvs) => {
                    let start = find(kvs, key).unwrap_or_else(|start| start);
                    iter.leaf = kvs.get(start..).unwrap_or_default().iter();
                    None
                }
                Node::Inner(children) => {
                    let from = children.get(child_of(children, key)..);
                    let mut from = from.unwrap_or_default().iter();
                    let child = from.next();
                    iter.path.push(from);
                    child.map(|child| &*child.node)
                }
            };
        }
        iter
    }
}

impl FromIterator<KeyValue> for KeyTree {
    fn from_iter<I: IntoIterator<Item = KeyValue>>(kvs: I) -> Self {
        let mut tree = KeyTree::default();
        for kv in kvs {
            tree.insert(kv);
        }
        tree
    }
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(kvs) => kvs.len(),
            Node::Inner(children) => children.len(),
        }
    }

    /// Moves the entries of the next node, which has this bound, into this one.
    fn append(&mut self, bound: Bytes, next: Node) {
        match (self, next) {
            (Node::Leaf(kvs), Node::Leaf(next)) => kvs.extend(next),
            (Node::Inner(children), Node::Inner(mut next)) => {
                if let Some(first) = next.first_mut() {
                    first.bound = bound;
                }
                let seam = children.len();
                children.extend(next);
                // These two were no neighbours, and both may be small.
                merge(children, seam.saturating_sub(1));
            }
            // All leaves have the same depth.
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {}
        }
    }
}

fn find(kvs: &[KeyValue], key: &[u8]) -> Result<usize, usize> {
    match kvs.last() {
        // The usual case while a tree is built from a list.
        Some(last) if &last.key()[..] < key => Err(kvs.len()),
        _ => kvs.binary_search_by(|kv| kv.key()[..].cmp(key)),
    }
}

/// The index of the child that has this key or would have it.
fn child_of(children: &[Child], key: &[u8]) -> usize {
    // The first child has the keys below the bound of the second one, whatever its own bound is.
    let others = children.get(1..).unwrap_or_default();
    match others.last() {
        // The usual case while a tree is built from a list.
        Some(last) if &last.bound[..] <= key => others.len(),
        _ => others.partition_point(|child| &child.bound[..] <= key),
    }
}

/// Inserts below this node. Returns what was replaced, and the right part of the node if it was split.
fn insert(node: &mut Arc<Node>, kv: KeyValue, is_last: bool) -> (Option<KeyValue>, Option<Child>) {
    match Arc::make_mut(node) {
        Node::Leaf(kvs) => match find(kvs, kv.key()) {
            Ok(at) => (kvs.get_mut(at).map(|old| mem::replace(old, kv)), None),
            Err(at) => {
                let right = insert_at(kvs, at, kv, is_last);
                // A copy, so that the bound does not keep the buffer of a key value that is removed.
                let bound = |kv: &KeyValue| Bytes::copy_from_slice(kv.key());
                let right = right.map(|right| Child {
                    bound: right.first().map(bound).unwrap_or_default(),
                    node: Arc::new(Node::Leaf(right)),
                });
                (None, right)
            }
        },
        Node::Inner(children) => {
            let at = child_of(children, kv.key());
            let is_last = is_last && at + 1 == children.len();
            let Some(child) = children.get_mut(at) else {
                return (None, None);
            };
            let (replaced, new) = insert(&mut child.node, kv, is_last);
            let right = new.and_then(|new| insert_at(children, at + 1, new, is_last));
            let bound = |child: &Child| child.bound.clone();
            let right = right.map(|right| Child {
                bound: right.first().map(bound).unwrap_or_default(),
                node: Arc::new(Node::Inner(right)),
            });
            (replaced, right)
        }
    }
}

/// Inserts an entry, and returns the right part of the entries if they had to be split. At the end of the tree the left
/// part stays full, because a list comes in the order of its keys.
fn insert_at<T>(entries: &mut Vec<T>, at: usize, entry: T, is_last: bool) -> Option<Vec<T>> {
    if entries.len() < MAX {
        if entries.len() == entries.capacity() {
            // A vector grows to twice its size, which can be more than a node has.
            entries.reserve_exact(entries.len().max(4).min(MAX - entries.len()));
        }
        entries.insert(at, entry);
        return None;
    }
    let is_appended = is_last && at == entries.len();
    let mut right = match is_appended {
        true => Vec::new(),
        false => entries.split_off(MAX / 2),
    };
    match at.checked_sub(entries.len()) {
        Some(at) => right.insert(at, entry),
        None => entries.insert(at, entry),
    }
    Some(right)
}

fn remove(node: &mut Arc<Node>, key: &[u8]) -> Option<KeyValue> {
    match Arc::make_mut(node) {
        Node::Leaf(kvs) => find(kvs, key).ok().map(|at| kvs.remove(at)),
        Node::Inner(children) => {
            let at = child_of(children, key);
            let child = children.get_mut(at)?;
            let removed = remove(&mut child.node, key);
            match child.node.len() {
                0 => drop(children.remove(at)),
                MIN.. => {}
                // With the next child, or else with the one before.
                _ => {
                    if !merge(children, at) && at > 0 {
                        merge(children, at - 1);
                    }
                }
            }
            removed
        }
    }
}

/// Merges a child with the next one, if both fit in one node.
fn merge(children: &mut Vec<Child>, at: usize) -> bool {
    let len = |at: usize| children.get(at).map(|child| child.node.len());
    let fits = len(at)
        .zip(len(at + 1))
        .is_some_and(|(left, right)| left + right <= MAX);
    if fits {
        let Child { bound, node } = children.remove(at + 1);
        if let Some(child) = children.get_mut(at) {
            Arc::make_mut(&mut child.node).append(bound, Arc::unwrap_or_clone(node));
        }
    }
    fits
}

/// Iterator over key values in the order of their keys.
#[derive(Clone, Debug)]
pub(super) struct Iter<'a> {
    /// The children that follow, of each inner node on the path to the leaf.
    path: Vec<slice::Iter<'a, Child>>,
    leaf: slice::Iter<'a, KeyValue>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a KeyValue;

    fn next(&mut self) -> Option<&'a KeyValue> {
        loop {
            if let Some(kv) = self.leaf.next() {
                return Some(kv);
            }
            let Some(child) = self.path.last_mut()?.next() else {
                self.path.pop();
                continue;
            };
            let mut node = &*child.node;
            while let Node::Inner(children) = node {
                let mut children = children.iter();
                let first = children.next()?;
                self.path.push(children);
                node = &first.node;
            }
            if let Node::Leaf(kvs) = node {
                self.leaf = kvs.iter();
            }
        }
    }
}

/// A tree that is freed in steps, except what others share.
#[derive(Debug)]
pub(super) struct Remains(Vec<Arc<Node>>);

impl Remains {
    pub(super) fn new(tree: KeyTree) -> Self {
        Remains(tree.root.into_iter().collect())
    }

    /// Frees some nodes. Returns whether there are more.
    pub(super) fn free(&mut self) -> bool {
        for _ in 0..FREED {
            let Some(node) = self.0.pop() else { break };
            if let Some(Node::Inner(children)) = Arc::into_inner(node) {
                self.0.extend(children.into_iter().map(|child| child.node));
            }
        }
        !self.0.is_empty()
    }
}

/// Walk over the key values of a tree, leaf by leaf.
#[derive(Debug)]
struct Position {
    /// The inner nodes on the path to the leaf, each with the index of the child that follows.
    path: Vec<(Arc<Node>, usize)>,
    /// The current leaf; `None` after the last one.
    leaf: Option<Arc<Node>>,
    /// The index of the next key value in the leaf.
    at: usize,
}

impl Position {
    fn first(tree: &KeyTree) -> Self {
        let mut position = Position {
            path: Vec::new(),
            leaf: None,
            at: 0,
        };
        if let Some(root) = &tree.root {
            position.descend(Arc::clone(root));
        }
        position
    }

    /// Goes to the first leaf below this node.
    fn descend(&mut self, mut node: Arc<Node>) {
        while let Node::Inner(children) = &*node {
            let Some(first) = children.first() else {
                return;
            };
            let first = Arc::clone(&first.node);
            self.path.push((node, 1));
            node = first;
        }
        self.leaf = Some(node);
    }

    fn next(&self) -> Option<&KeyValue> {
        match self.leaf.as_deref() {
            Some(Node::Leaf(kvs)) => kvs.get(self.at),
            _ => None,
        }
    }

    fn pass(&mut self) {
        self.at += 1;
        if self.next().is_none() {
            self.pass_leaf();
        }
    }

    fn pass_leaf(&mut self) {
        self.at = 0;
        self.leaf = None;
        while let Some((node, next)) = self.path.last_mut() {
            if let Node::Inner(children) = &**node
                && let Some(child) = children.get(*next)
            {
                *next += 1;
                let child = Arc::clone(&child.node);
                return self.descend(child);
            }
            self.path.pop();
        }
    }

    /// The leaf that begins here.
    fn whole_leaf(&self) -> Option<&Arc<Node>> {
        self.leaf.as_ref().filter(|_| self.at == 0)
    }
}

/// The changes from one tree to another, which are found in steps.
#[derive(Debug)]
pub(super) struct Difference {
    before: Position,
    now: Position,
    /// The older tree, which is to be freed in steps.
    old: KeyTree,
    /// The revision of deletions: that of the newer tree.
    revision: Revision,
    changes: Vec<KeyChange>,
    /// The size of the changes.
    size: usize,
}

/// The result of a [`Difference`].
#[derive(Debug)]
pub(super) struct Found {
    /// The changes in the order of their keys.
    pub(super) changes: Vec<KeyChange>,
    pub(super) size: usize,
    /// The older tree.
    pub(super) old: Remains,
}

impl Difference {
    pub(super) fn new(before: KeyTree, now: KeyTree, revision: Revision) -> Self {
        Difference {
            before: Position::first(&before),
            now: Position::first(&now),
            old: before,
            revision,
            changes: Vec::new(),
            size: 0,
        }
    }

    /// The older tree, before all changes are found.
    pub(super) fn into_remains(self) -> Remains {
        Remains::new(self.old)
    }

    /// Compares up to `steps` keys, where a leaf that both trees share counts as one. Returns the changes once all are
    /// found.
    pub(super) fn step(&mut self, steps: usize) -> Option<Found> {
        for _ in 0..steps {
            let (before, now) = (&mut self.before, &mut self.now);
            if let (Some(old), Some(new)) = (before.whole_leaf(), now.whole_leaf())
                && Arc::ptr_eq(old, new)
            {
                before.pass_leaf();
                now.pass_leaf();
                continue;
            }
            let order = match (before.next(), now.next()) {
                (None, None) => {
                    return Some(Found {
                        changes: mem::take(&mut self.changes),
                        size: self.size,
                        old: Remains::new(mem::take(&mut self.old)),
                    });
                }
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(old), Some(new)) => old.key().cmp(new.key()),
            };
            let old = before.next().filter(|_| order.is_le()).cloned();
            let new = now.next().filter(|_| order.is_ge()).cloned();
            if order.is_le() {
                before.pass();
            }
            if order.is_ge() {
                now.pass();
            }
            let change = match (old, new) {
                (Some(prev), None) => KeyChange::Deleted {
                    prev,
                    revision: self.revision,
                },
                (prev, Some(kv)) if prev.as_ref() != Some(&kv) => KeyChange::Put { kv, prev },
                _ => continue,
            };
            self.size += change.size();
            self.changes.push(change);
        }
        None
    }
}

#[cfg(test)]
mod tests;

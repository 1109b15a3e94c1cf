//! Whether a history of one register is linearizable: the algorithm of Wing and Gong, with Lowe's memo of visited
//! configurations.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

/// An operation on the register. Values are numbers; 0 means that the key is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Read(u32),
    Write(u32),
    /// Writes the second value over the first one.
    Swap(u32, u32),
}

/// An operation, and the times between which it was executed. One without a return may have been executed at any
/// time after its call, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub call: u64,
    pub ret: Option<u64>,
    pub action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    Not,
    /// The search was given up.
    Undecided,
}

impl Action {
    /// The value afterwards, if the action is possible.
    pub fn apply(self, value: u32) -> Option<u32> {
        match self {
            Action::Read(read) => (read == value).then_some(value),
            Action::Write(new) => Some(new),
            Action::Swap(old, new) => (old == value).then_some(new),
        }
    }
}

/// A call or a return, in a list from which linearized operations are taken out.
#[derive(Clone, Copy, Debug)]
struct Node {
    entry: usize,
    is_call: bool,
    prev: usize,
    next: usize,
}

/// The list, whose node 0 is before the first event and whose last node is after all of them.
#[derive(Debug)]
struct Events {
    nodes: Vec<Node>,
    /// The node of the return of each entry.
    returns: Vec<Option<usize>>,
}

impl Events {
    fn new(entries: &[Entry]) -> Self {
        let calls = entries
            .iter()
            .enumerate()
            .map(|(n, entry)| (entry.call, false, n));
        let returns = entries.iter().enumerate();
        let returns = returns.filter_map(|(n, entry)| Some((entry.ret?, true, n)));
        let mut order: Vec<_> = calls.chain(returns).collect();
        // Of the same time, calls come first: the operations may overlap.
        order.sort_unstable();
        let mut events = Events {
            nodes: vec![Node {
                entry: usize::MAX,
                is_call: false,
                prev: 0,
                next: 1,
            }],
            returns: vec![None; entries.len()],
        };
        for (_, is_return, entry) in order {
            let at = events.nodes.len();
            if is_return {
                events.returns[entry] = Some(at);
            }
            events.nodes.push(Node {
                entry,
                is_call: !is_return,
                prev: at - 1,
                next: at + 1,
            });
        }
        let end = events.nodes.len();
        events.nodes.push(Node {
            entry: usize::MAX,
            is_call: false,
            prev: end - 1,
            next: end,
        });
        events
    }

    fn unlink(&mut self, at: usize) {
        let Node { prev, next, .. } = self.nodes[at];
        self.nodes[prev].next = next;
        self.nodes[next].prev = prev;
    }

    fn relink(&mut self, at: usize) {
        let Node { prev, next, .. } = self.nodes[at];
        self.nodes[prev].next = at;
        self.nodes[next].prev = at;
    }

    /// Takes an operation out: its call at this node, and its return.
    fn lift(&mut self, at: usize) {
        self.unlink(at);
        if let Some(back) = self.returns[self.nodes[at].entry] {
            self.unlink(back);
        }
    }

    fn unlift(&mut self, at: usize) {
        if let Some(back) = self.returns[self.nodes[at].entry] {
            self.relink(back);
        }
        self.relink(at);
    }
}

/// Decides whether the entries are linearizable, from a key that is missing. It tries at most `budget` steps.
pub fn decide(entries: &[Entry], budget: u64) -> Verdict {
    let mut events = Events::new(entries);
    let end = events.nodes.len() - 1;
    let mut required = entries.iter().filter(|entry| entry.ret.is_some()).count();
    let mut done = vec![0_u64; entries.len().div_ceil(64)];
    let mut value = 0;
    let mut stack: Vec<(usize, u32)> = Vec::new();
    let mut visited: HashSet<(Box<[u64]>, u32)> = HashSet::new();
    let mut at = events.nodes[0].next;
    for _ in 0..budget {
        if required == 0 {
            return Verdict::Linearizable;
        }
        let node = events.nodes[at];
        if node.is_call {
            let entry = entries[node.entry];
            let after = entry.action.apply(value);
            let (word, bit) = (node.entry / 64, 1 << (node.entry % 64));
            done[word] |= bit;
            if let Some(after) = after
                && visited.insert((done.clone().into(), after))
            {
                stack.push((at, value));
                value = after;
                required -= usize::from(entry.ret.is_some());
                events.lift(at);
                at = events.nodes[0].next;
            } else {
                done[word] &= !bit;
                at = node.next;
            }
            continue;
        }
        // A return: its operation must come before, and no order of the others allows it. Or the end.
        debug_assert!(at == end || node.entry != usize::MAX);
        let Some((call, before)) = stack.pop() else {
            return Verdict::Not;
        };
        let entry = events.nodes[call].entry;
        done[entry / 64] &= !(1 << (entry % 64));
        required += usize::from(entries[entry].ret.is_some());
        value = before;
        events.unlift(call);
        at = events.nodes[call].next;
    }
    Verdict::Undecided
}

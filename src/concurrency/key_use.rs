//! Counts the users of one key in a session, and decides which of them deletes it. Pure.
//!
//! A key is named after the lease, so all users of one session that want the same lock share one key.
//! What a user holds is the key as it was created at one revision. When somebody else deletes the key
//! and the session puts it again, the users of the deleted key hold nothing: they neither keep the new
//! key nor delete it.

use std::collections::BTreeMap;

use crate::types::Revision;

/// The knowledge of one user about the key that it put, ordered from least to most certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyUse {
    /// Nothing.
    #[default]
    None,
    /// Perhaps something: the answer is not known.
    Asked,
    /// The key that was created at this revision.
    Created(Revision),
}

/// The users of one key.
#[derive(Debug, Default)]
pub(super) struct KeyUsers {
    /// Users that have not queued the key.
    asking: usize,
    /// Users that have, by the revision that created the key they have.
    holders: BTreeMap<Revision, usize>,
    /// The newest of these revisions that there was.
    newest: Revision,
    /// The knowledge of the users that have left.
    leftover: KeyUse,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Free,
    /// Somebody is deleting the key right now.
    Deleting,
    /// The key is still to be deleted.
    Pending,
}

/// What a user that enters is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnterAction {
    /// Nothing: it is counted.
    Entered,
    /// Wait, and enter again.
    Wait,
    /// Delete what is leftover of an earlier use, [settle](KeyUsers::settle), and enter again.
    Delete(KeyUse),
}

/// What a user that leaves is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaveAction {
    /// Nothing: there is no key, or it stays.
    Nothing,
    /// Nothing: others use the same key.
    Shared,
    /// Nothing: the user's key is gone, because a newer one was created.
    Gone,
    /// Delete the key, and then [settle](KeyUsers::settle).
    Delete(KeyUse),
}

impl KeyUsers {
    pub(super) fn enter(&mut self) -> EnterAction {
        match self.stage {
            Stage::Free => {
                self.asking += 1;
                EnterAction::Entered
            }
            Stage::Deleting => EnterAction::Wait,
            Stage::Pending => {
                self.stage = Stage::Deleting;
                EnterAction::Delete(self.leftover)
            }
        }
    }

    /// A user that entered has queued the key that was created at `revision`.
    pub(super) fn created(&mut self, revision: Revision) {
        self.asking = self.asking.saturating_sub(1);
        *self.holders.entry(revision).or_default() += 1;
        if revision >= self.newest {
            self.newest = revision;
            // Whatever those who leftover have put: it is this key, or it is gone.
            self.leftover = KeyUse::None;
        }
    }

    /// A user leaves with what it has put. The last one that uses a key is to delete it, unless it is
    /// to `keep` it.
    pub(super) fn leave(&mut self, key_use: KeyUse, keep: bool) -> LeaveAction {
        match key_use {
            KeyUse::Created(revision) => {
                if let Some(users) = self.holders.get_mut(&revision) {
                    *users = users.saturating_sub(1);
                }
                self.holders.retain(|_, users| *users > 0);
                if revision < self.newest {
                    return LeaveAction::Gone;
                }
                if self.holders.contains_key(&revision) {
                    return LeaveAction::Shared;
                }
                self.leftover = if keep { KeyUse::None } else { key_use };
                if self.asking > 0 {
                    return LeaveAction::Shared;
                }
            }
            KeyUse::None | KeyUse::Asked => {
                self.asking = self.asking.saturating_sub(1);
                self.leftover = self.leftover.max(key_use);
                if self.asking > 0 || self.holders.contains_key(&self.newest) {
                    return LeaveAction::Shared;
                }
            }
        }
        match self.leftover {
            KeyUse::None => LeaveAction::Nothing,
            leftover => {
                self.stage = Stage::Deleting;
                LeaveAction::Delete(leftover)
            }
        }
    }

    /// The key is deleted, or still pending.
    pub(super) fn settle(&mut self, pending: bool) {
        if pending {
            self.stage = Stage::Pending;
        } else {
            (self.stage, self.leftover) = (Stage::Free, KeyUse::None);
        }
    }

    /// Returns the pending deletion. The caller deletes the key and then [settles](KeyUsers::settle) it.
    pub(super) fn take_pending(&mut self) -> Option<KeyUse> {
        if self.stage != Stage::Pending {
            return None;
        }
        self.stage = Stage::Deleting;
        Some(self.leftover)
    }

    /// Whether nothing has to be remembered of the key.
    pub(super) fn is_over(&self) -> bool {
        self.asking == 0 && self.holders.is_empty() && self.stage == Stage::Free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::jitter::Jitter;

    fn at(revision: i64) -> Revision {
        Revision::new(revision)
    }

    fn queued(revision: i64) -> KeyUse {
        KeyUse::Created(at(revision))
    }

    fn holder(key: &mut KeyUsers, revision: i64) {
        assert_eq!(key.enter(), EnterAction::Entered);
        key.created(at(revision));
    }

    #[test]
    fn the_last_of_those_who_share_a_key_deletes_it() {
        let mut key = KeyUsers::default();
        holder(&mut key, 5);
        holder(&mut key, 5);
        assert_eq!(key.leave(queued(5), false), LeaveAction::Shared);
        assert_eq!(key.leave(queued(5), false), LeaveAction::Delete(queued(5)));
        assert_eq!(key.enter(), EnterAction::Wait);
        key.settle(false);
        assert!(key.is_over());
    }

    #[test]
    fn a_holder_of_a_key_that_is_gone_neither_keeps_nor_deletes_the_new_one() {
        let mut key = KeyUsers::default();
        holder(&mut key, 5);
        holder(&mut key, 9);
        assert_eq!(key.leave(queued(9), false), LeaveAction::Delete(queued(9)));
        key.settle(false);
        assert_eq!(key.leave(queued(5), false), LeaveAction::Gone);
        assert!(key.is_over());

        holder(&mut key, 11);
        holder(&mut key, 15);
        assert_eq!(key.leave(queued(11), true), LeaveAction::Gone);
        assert_eq!(
            key.leave(queued(15), false),
            LeaveAction::Delete(queued(15))
        );
    }

    #[test]
    fn what_nobody_knows_the_outcome_of_is_deleted_by_the_last() {
        let mut key = KeyUsers::default();
        assert_eq!(key.enter(), EnterAction::Entered);
        assert_eq!(key.enter(), EnterAction::Entered);
        assert_eq!(key.leave(KeyUse::Asked, false), LeaveAction::Shared);
        assert_eq!(
            key.leave(KeyUse::None, false),
            LeaveAction::Delete(KeyUse::Asked)
        );
        key.settle(true);
        assert_eq!(key.enter(), EnterAction::Delete(KeyUse::Asked));
        key.settle(false);
        assert!(key.is_over());
    }

    #[test]
    fn a_key_that_is_kept_is_deleted_by_nobody() {
        let mut key = KeyUsers::default();
        holder(&mut key, 5);
        assert_eq!(key.leave(queued(5), true), LeaveAction::Nothing);
        assert!(key.is_over());
    }

    /// A user of the model: it entered, and drew the key that was there then, or created one.
    #[derive(Clone, Copy)]
    struct User {
        key_use: KeyUse,
    }

    /// Users of one session, and an operator that deletes their key.
    struct World {
        key: KeyUsers,
        users: Vec<User>,
        stored: Option<Revision>,
        clock: i64,
        deleting: Option<KeyUse>,
    }

    impl World {
        fn draw(&mut self, index: usize) {
            let revision = *self.stored.get_or_insert_with(|| {
                self.clock += 1;
                Revision::new(self.clock)
            });
            self.key.created(revision);
            self.users[index].key_use = KeyUse::Created(revision);
        }

        fn leave(&mut self, index: usize) {
            let user = self.users.swap_remove(index);
            match self.key.leave(user.key_use, false) {
                LeaveAction::Delete(key_use) => self.delete(key_use),
                LeaveAction::Gone => {
                    assert_ne!(Some(user.key_use), self.stored.map(KeyUse::Created))
                }
                LeaveAction::Shared => assert!(!self.users.is_empty()),
                LeaveAction::Nothing => assert!(!matches!(user.key_use, KeyUse::Created(_))),
            }
        }

        /// Somebody was told to delete the key.
        fn delete(&mut self, key_use: KeyUse) {
            let used = |user: &User| Some(user.key_use) == self.stored.map(KeyUse::Created);
            assert!(!self.users.iter().any(used), "a key in use is deleted");
            assert!(self.deleting.replace(key_use).is_none(), "deleted by two");
        }

        fn settle(&mut self, failed: bool) {
            if let Some(key_use) = self.deleting.take() {
                if !failed
                    && (key_use == KeyUse::Asked
                        || self.stored.map(KeyUse::Created) == Some(key_use))
                {
                    self.stored = None;
                }
                self.key.settle(failed);
            }
        }
    }

    #[test]
    fn a_key_is_there_while_it_is_used_and_goes_with_its_last_user() {
        for seed in 0..2000 {
            let mut jitter = Jitter::seeded(seed);
            let mut world = World {
                key: KeyUsers::default(),
                users: Vec::new(),
                stored: None,
                clock: 0,
                deleting: None,
            };
            for _ in 0..40 {
                let any = |jitter: &mut Jitter, below: usize| {
                    ((jitter.fraction() * below as f64) as usize).min(below - 1)
                };
                match any(&mut jitter, 6) {
                    0 | 1 => match world.key.enter() {
                        EnterAction::Entered => world.users.push(User {
                            key_use: KeyUse::None,
                        }),
                        EnterAction::Wait => assert!(world.deleting.is_some()),
                        EnterAction::Delete(key_use) => world.delete(key_use),
                    },
                    2 if !world.users.is_empty() => {
                        let index = any(&mut jitter, world.users.len());
                        if !matches!(world.users[index].key_use, KeyUse::Created(_)) {
                            world.draw(index);
                        }
                    }
                    3 if !world.users.is_empty() => {
                        let index = any(&mut jitter, world.users.len());
                        world.leave(index);
                    }
                    4 => {
                        world.clock += 1;
                        world.stored = None;
                    }
                    _ => world.settle(jitter.fraction() < 0.3),
                }
            }
            world.settle(false);
            while !world.users.is_empty() {
                world.leave(0);
                world.settle(false);
            }
            if let Some(key_use) = world.key.take_pending() {
                world.delete(key_use);
                world.settle(false);
            }
            assert!(world.key.is_over(), "seed {seed}");
            assert_eq!(world.stored, None, "seed {seed}: a key is leftover over");
        }
    }
}

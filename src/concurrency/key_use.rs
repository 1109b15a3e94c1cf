//! Counts the users of one key in a session, and decides which of them deletes it. Pure.
//!
//! The name of a key contains the lease, so all users of one lock in one session share one key. A user
//! holds the key with the create_revision that its put returned. If another client deletes the key and
//! the session puts it again, users of the deleted key hold nothing: they neither keep the new key nor
//! delete it.

use std::collections::BTreeMap;

use crate::types::Revision;

/// The knowledge whether one user has put the key, from the least to the most certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyUse {
    /// It has not put the key.
    #[default]
    NotPut,
    /// It sent a put whose outcome is unknown.
    MaybePut,
    /// It uses the key that was created at this revision.
    Created(Revision),
}

/// The users of one key.
#[derive(Debug, Default)]
pub(super) struct KeyUsers {
    /// The number of users that entered and have no key yet.
    without_key: usize,
    /// The number of users of each key, by its create_revision.
    holders: BTreeMap<Revision, usize>,
    /// The highest create_revision so far.
    newest: Revision,
    /// The key that users which have left may have put.
    leftover: KeyUse,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Free,
    /// A user or the deletion task is deleting the key.
    Deleting,
    /// A deletion failed, and must be repeated.
    Pending,
}

/// The action of a user that enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnterAction {
    /// Nothing: the user is counted.
    Entered,
    /// Wait, and enter again.
    Wait,
    /// Delete the key of an earlier use, [settle](KeyUsers::settle), and enter again.
    Delete(KeyUse),
}

/// The action of a user that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaveAction {
    /// Nothing: there is no key, or it is kept.
    Nothing,
    /// Nothing: other users have the same key.
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
                self.without_key += 1;
                EnterAction::Entered
            }
            Stage::Deleting => EnterAction::Wait,
            Stage::Pending => {
                self.stage = Stage::Deleting;
                EnterAction::Delete(self.leftover)
            }
        }
    }

    /// Records that a user that entered has the key that was created at `revision`.
    pub(super) fn created(&mut self, revision: Revision) {
        self.without_key = self.without_key.saturating_sub(1);
        *self.holders.entry(revision).or_default() += 1;
        if revision >= self.newest {
            self.newest = revision;
            // A key put by a user that has left is either this key or was deleted before it.
            self.leftover = KeyUse::NotPut;
        }
    }

    /// Removes a user, and returns `Delete` for the last user of a key, unless `keep` is set.
    pub(super) fn leave(&mut self, key_use: KeyUse, keep: bool) -> LeaveAction {
        match key_use {
            KeyUse::Created(revision) => {
                if let Some(users) = self.holders.get_mut(&revision) {
                    *users = users.saturating_sub(1);
                }
                // Counts of zero are removed, so that `contains_key` means that there is a user.
                self.holders.retain(|_, users| *users > 0);
                // The key was put again since then, so this user's key is deleted.
                if revision < self.newest {
                    return LeaveAction::Gone;
                }
                if self.holders.contains_key(&revision) {
                    return LeaveAction::Shared;
                }
                // A user that enters later may need the key, so its put is recorded until all have
                // left.
                self.leftover = if keep { KeyUse::NotPut } else { key_use };
                if self.without_key > 0 {
                    return LeaveAction::Shared;
                }
            }
            KeyUse::NotPut | KeyUse::MaybePut => {
                self.without_key = self.without_key.saturating_sub(1);
                // The more certain one of two: a known revision identifies the key to delete.
                self.leftover = self.leftover.max(key_use);
                if self.without_key > 0 || self.holders.contains_key(&self.newest) {
                    return LeaveAction::Shared;
                }
            }
        }
        match self.leftover {
            KeyUse::NotPut => LeaveAction::Nothing,
            leftover => {
                self.stage = Stage::Deleting;
                LeaveAction::Delete(leftover)
            }
        }
    }

    /// Records the result of a deletion: `pending` if it must be repeated.
    pub(super) fn settle(&mut self, pending: bool) {
        if pending {
            self.stage = Stage::Pending;
        } else {
            (self.stage, self.leftover) = (Stage::Free, KeyUse::NotPut);
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

    /// Returns whether the key has no user and no pending deletion.
    pub(super) fn is_unused(&self) -> bool {
        self.without_key == 0 && self.holders.is_empty() && self.stage == Stage::Free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::jitter::Jitter;

    fn at(revision: i64) -> Revision {
        Revision::new(revision)
    }

    fn created(revision: i64) -> KeyUse {
        KeyUse::Created(at(revision))
    }

    fn add_holder(key: &mut KeyUsers, revision: i64) {
        assert_eq!(key.enter(), EnterAction::Entered);
        key.created(at(revision));
    }

    #[test]
    fn the_last_user_deletes_a_shared_key() {
        let mut key = KeyUsers::default();
        add_holder(&mut key, 5);
        add_holder(&mut key, 5);
        assert_eq!(key.leave(created(5), false), LeaveAction::Shared);
        assert_eq!(
            key.leave(created(5), false),
            LeaveAction::Delete(created(5))
        );
        assert_eq!(key.enter(), EnterAction::Wait);
        key.settle(false);
        assert!(key.is_unused());
    }

    #[test]
    fn a_user_of_a_deleted_key_neither_keeps_nor_deletes_the_new_key() {
        let mut key = KeyUsers::default();
        add_holder(&mut key, 5);
        add_holder(&mut key, 9);
        assert_eq!(
            key.leave(created(9), false),
            LeaveAction::Delete(created(9))
        );
        key.settle(false);
        assert_eq!(key.leave(created(5), false), LeaveAction::Gone);
        assert!(key.is_unused());

        add_holder(&mut key, 11);
        add_holder(&mut key, 15);
        assert_eq!(key.leave(created(11), true), LeaveAction::Gone);
        assert_eq!(
            key.leave(created(15), false),
            LeaveAction::Delete(created(15))
        );
    }

    #[test]
    fn the_last_user_deletes_a_key_whose_put_has_an_unknown_outcome() {
        let mut key = KeyUsers::default();
        assert_eq!(key.enter(), EnterAction::Entered);
        assert_eq!(key.enter(), EnterAction::Entered);
        assert_eq!(key.leave(KeyUse::MaybePut, false), LeaveAction::Shared);
        assert_eq!(
            key.leave(KeyUse::NotPut, false),
            LeaveAction::Delete(KeyUse::MaybePut)
        );
        key.settle(true);
        assert_eq!(key.enter(), EnterAction::Delete(KeyUse::MaybePut));
        key.settle(false);
        assert!(key.is_unused());
    }

    #[test]
    fn a_key_with_a_user_or_a_pending_deletion_is_in_use() {
        let mut key = KeyUsers::default();
        assert!(key.is_unused());
        assert_eq!(key.enter(), EnterAction::Entered);
        assert!(!key.is_unused(), "its user has no key yet");
        key.created(at(5));
        assert!(!key.is_unused(), "its user has the key");
        assert_eq!(
            key.leave(created(5), false),
            LeaveAction::Delete(created(5))
        );
        assert!(!key.is_unused(), "the key is being deleted");
        key.settle(true);
        assert!(!key.is_unused(), "it is deleted later");
        assert_eq!(key.take_pending(), Some(created(5)));
        key.settle(false);
        assert!(key.is_unused());
    }

    #[test]
    fn a_kept_key_is_not_deleted() {
        let mut key = KeyUsers::default();
        add_holder(&mut key, 5);
        assert_eq!(key.leave(created(5), true), LeaveAction::Nothing);
        assert!(key.is_unused());
    }

    /// A user of the model: it has entered, and later finds or creates the key.
    #[derive(Clone, Copy)]
    struct User {
        key_use: KeyUse,
    }

    /// Users of one session, and an operator that deletes their key.
    struct Model {
        key: KeyUsers,
        users: Vec<User>,
        stored: Option<Revision>,
        clock: i64,
        deleting: Option<KeyUse>,
    }

    impl Model {
        fn put(&mut self, index: usize) {
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

        /// Begins the deletion of the key.
        fn delete(&mut self, key_use: KeyUse) {
            let used = |user: &User| Some(user.key_use) == self.stored.map(KeyUse::Created);
            assert!(!self.users.iter().any(used), "a key with users is deleted");
            assert!(
                self.deleting.replace(key_use).is_none(),
                "two users delete the key"
            );
        }

        fn settle(&mut self, failed: bool) {
            if let Some(key_use) = self.deleting.take() {
                if !failed
                    && (key_use == KeyUse::MaybePut
                        || self.stored.map(KeyUse::Created) == Some(key_use))
                {
                    self.stored = None;
                }
                self.key.settle(failed);
            }
        }
    }

    #[test]
    fn a_key_exists_while_it_has_users_and_is_deleted_with_the_last_one() {
        for seed in 0..2000 {
            let mut jitter = Jitter::seeded(seed);
            let mut model = Model {
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
                    0 | 1 => match model.key.enter() {
                        EnterAction::Entered => model.users.push(User {
                            key_use: KeyUse::NotPut,
                        }),
                        EnterAction::Wait => assert!(model.deleting.is_some()),
                        EnterAction::Delete(key_use) => model.delete(key_use),
                    },
                    2 if !model.users.is_empty() => {
                        let index = any(&mut jitter, model.users.len());
                        if !matches!(model.users[index].key_use, KeyUse::Created(_)) {
                            model.put(index);
                        }
                    }
                    3 if !model.users.is_empty() => {
                        let index = any(&mut jitter, model.users.len());
                        model.leave(index);
                    }
                    4 => {
                        model.clock += 1;
                        model.stored = None;
                    }
                    _ => model.settle(jitter.fraction() < 0.3),
                }
            }
            model.settle(false);
            while !model.users.is_empty() {
                model.leave(0);
                model.settle(false);
            }
            if let Some(key_use) = model.key.take_pending() {
                model.delete(key_use);
                model.settle(false);
            }
            assert!(model.key.is_unused(), "seed {seed}");
            assert_eq!(model.stored, None, "seed {seed}: a key is left");
        }
    }
}

//! Applies the overrides of operators to the entries of a registrar.

use std::time::Instant;

use super::RegistrarTask;

impl RegistrarTask {
    /// Updates the entries whose overrides changed.
    pub(super) fn follow_overrides(&mut self, now: Instant) {
        let changed = self.overrides.work(now, &self.watches);
        if self.overrides.wait_ended(now) {
            self.to_send.extend(self.entries.keys());
        }
        if changed.is_empty() {
            return;
        }
        // Operators change few overrides, so a pass over all entries for each change is affordable.
        let entries = self.entries.iter().filter(|(_, entry)| {
            let key = self.overrides.key(&entry.shared.instance());
            changed.contains(&key)
        });
        for number in entries.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.update(number);
        }
    }
}

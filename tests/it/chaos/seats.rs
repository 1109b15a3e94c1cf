//! Exclusive roles ("seats": locks and leaderships), and checks that each has one holder at a time.

use std::collections::BTreeMap;
use std::sync::Mutex;

use etcd_blocking::concurrency::Session;
use etcd_blocking::{Client, Compare, ErrorKind, Put, Result, Revision, Txn};

use super::Run;
use super::histories::Histories;

/// The key that the holder of a seat writes.
pub(super) const OWNERS: &str = "app/owner/";
/// The key that a former holder tries to write.
const STALE: &str = "app/stale";

#[derive(Debug)]
pub(super) struct Seat {
    name: String,
    /// The last holder.
    inside: Mutex<Revision>,
    /// The holder with each token, and whether its write was executed, if that is known.
    reigns: Mutex<BTreeMap<Revision, (String, Option<bool>)>>,
}

/// A present or former holder of a seat.
pub(super) struct Holder<'a> {
    pub(super) name: &'a str,
    pub(super) token: Revision,
    /// The condition of the holder's writes.
    pub(super) owns: Compare,
    pub(super) session: &'a Session,
}

impl Seat {
    pub(super) fn new(name: &str) -> Self {
        Seat {
            name: name.to_owned(),
            inside: Mutex::default(),
            reigns: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Holds the seat: writes the begin, works, and writes the end.
    pub(super) fn hold(&self, run: &Run, holder: &Holder<'_>, work: impl FnOnce()) {
        let Holder { name, token, .. } = holder;
        run.tally.count(&format!("{}: held", self.name));
        *self.inside.lock().unwrap() = *token;
        let fresh = (holder.name.to_owned(), None);
        let before = self.reigns.lock().unwrap().insert(*token, fresh);
        assert_eq!(before, None, "{token} of {} is held twice", self.name);
        let owner = format!("{OWNERS}{}", self.name);
        let log = self.log(&format!("{:020}", token.get()));
        let entered = self.write(
            run,
            holder,
            [
                Put::new(log, (*name).to_owned()),
                Put::new(owner.clone(), format!("{token} {name} enters")),
            ],
        );
        if let Some((_, written)) = self.reigns.lock().unwrap().get_mut(token) {
            *written = entered;
        }
        work();
        self.write(
            run,
            holder,
            [Put::new(owner, format!("{token} {name} goes"))],
        );
        // In this order: if the session is valid after the read, it was valid before, without another holder.
        let inside = *self.inside.lock().unwrap();
        if inside != *token {
            run.is_lost(holder.session, "there is another holder");
        }
    }

    /// Whether the fenced write was executed, if that is known.
    fn write<const N: usize>(
        &self,
        run: &Run,
        holder: &Holder<'_>,
        puts: [Put; N],
    ) -> Option<bool> {
        let written = run.client.txn(Txn::when([holder.owns.clone()]).then(puts));
        match written {
            Ok(response) if response.succeeded() => Some(true),
            Ok(_) => {
                run.tally.count("fenced write: refused");
                run.is_lost(holder.session, "a fenced write was refused");
                Some(false)
            }
            Err(error) => {
                run.tally.failed("fenced write", &error);
                (!error.outcome_unknown()).then_some(false)
            }
        }
    }

    /// A former holder writes nothing.
    pub(super) fn leave(&self, run: &Run, owns: Compare, session: &Session, left: Result<()>) {
        match left {
            Ok(()) => run.tally.count("let go"),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                run.tally.count("release: it was gone");
                run.is_lost(session, "the key was gone");
            }
            Err(error) => {
                // It is released later.
                return run.tally.failed("let go", &error);
            }
        }
        let stale = Txn::when([owns]).then([Put::new(STALE, self.name.clone())]);
        match run.client.txn(stale) {
            Ok(response) => {
                assert!(
                    !response.succeeded(),
                    "the write of a former holder is refused"
                );
                run.tally.count("write of a former holder: refused");
            }
            Err(error) => run.tally.failed("write of a former holder", &error),
        }
    }

    fn log(&self, token: &str) -> String {
        format!("app/log/{}/{token}", self.name)
    }

    /// No holder wrote after a holder with a greater token, and each token had one holder.
    /// `histories` are complete.
    pub(super) fn check(&self, client: &Client, histories: &Histories) {
        assert_eq!(client.get(STALE).unwrap(), None);
        let reigns = self.reigns.lock().unwrap();
        let mut written = BTreeMap::new();
        let mut last = Revision::NONE;
        for kv in client.get_prefix(self.log("")).unwrap() {
            let key = kv.key_lossy().into_owned();
            let token: i64 = key[self.log("").len()..].parse().unwrap();
            assert_eq!(kv.version(), 1, "{key} is written once");
            assert!(
                kv.mod_revision() > last,
                "{key} comes after the ones before"
            );
            last = kv.mod_revision();
            written.insert(token, kv.value_str().unwrap().to_owned());
        }
        for (token, (holder, entered)) in &*reigns {
            let found = written.get(&token.get());
            assert!(
                found.is_none_or(|found| found == holder),
                "{token} {holder}"
            );
            assert!(entered.is_none_or(|entered| entered == found.is_some()));
        }
        let mut now = 0;
        let history = histories.of(&format!("{OWNERS}{}", self.name));
        for (_, _, value) in &history {
            let mut words = value.split(' ');
            let token: i64 = words.next().unwrap().parse().unwrap();
            assert!(token >= now, "{value} after one with {now}");
            now = token;
            let holder = reigns.iter().find(|(of, _)| of.get() == token);
            assert_eq!(words.next(), holder.map(|(_, (name, _))| name.as_str()));
        }
        println!(
            "{}: {} tokens, {} written down, {} writes seen",
            self.name,
            reigns.len(),
            written.len(),
            history.len()
        );
        assert!(written.keys().all(|t| reigns.keys().any(|r| r.get() == *t)));
    }
}

//! A whole history, by the kinds of its lines.

use super::records::{
    Cause, Compaction, Era, Fault, Final, Hold, Item, Leader, Line, Op, Run, Sample, Shot, Time,
    Truth, Watch, WatchEnd,
};

/// Everything that was recorded, by kind, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    pub run: Option<Run>,
    pub eras: Vec<Era>,
    pub faults: Vec<Fault>,
    pub compactions: Vec<Compaction>,
    pub causes: Vec<Cause>,
    pub last: Option<Final>,
    pub truth: Vec<Truth>,
    pub ops: Vec<Op>,
    pub watches: Vec<Watch>,
    pub items: Vec<Item>,
    pub watch_ends: Vec<WatchEnd>,
    pub shots: Vec<Shot>,
    pub samples: Vec<Sample>,
    pub holds: Vec<Hold>,
    pub leaders: Vec<Leader>,
}

impl History {
    pub fn add(&mut self, line: Line) {
        match line {
            Line::Run(line) => self.run = Some(line),
            Line::Era(line) => {
                // The end of an era repeats its line.
                self.eras.retain(|era| era.era != line.era);
                self.eras.push(line);
            }
            Line::Fault(line) => self.faults.push(line),
            Line::Compaction(line) => self.compactions.push(line),
            Line::Cause(line) => self.causes.push(line),
            Line::Final(line) => self.last = Some(line),
            Line::Truth(line) => self.truth.push(line),
            Line::Op(line) => self.ops.push(line),
            Line::Watch(line) => self.watches.push(line),
            Line::Item(line) => self.items.push(line),
            Line::WatchEnd(line) => self.watch_ends.push(line),
            Line::Shot(line) => self.shots.push(line),
            Line::Registration(line) => self.samples.push(line),
            Line::Hold(line) => self.holds.push(line),
            Line::Leader(line) => self.leaders.push(line),
        }
    }

    /// All lines.
    pub fn lines(&self) -> Vec<Line> {
        let run = self.run.iter().cloned().map(Line::Run);
        let last = self.last.iter().cloned().map(Line::Final);
        run.chain(last)
            .chain(self.eras.iter().cloned().map(Line::Era))
            .chain(self.faults.iter().cloned().map(Line::Fault))
            .chain(self.compactions.iter().cloned().map(Line::Compaction))
            .chain(self.causes.iter().cloned().map(Line::Cause))
            .chain(self.truth.iter().cloned().map(Line::Truth))
            .chain(self.ops.iter().cloned().map(Line::Op))
            .chain(self.watches.iter().cloned().map(Line::Watch))
            .chain(self.items.iter().cloned().map(Line::Item))
            .chain(self.watch_ends.iter().cloned().map(Line::WatchEnd))
            .chain(self.shots.iter().cloned().map(Line::Shot))
            .chain(self.samples.iter().cloned().map(Line::Registration))
            .chain(self.holds.iter().cloned().map(Line::Hold))
            .chain(self.leaders.iter().cloned().map(Line::Leader))
            .collect()
    }

    pub fn run(&self) -> &Run {
        self.run
            .as_ref()
            .expect("the history has the settings of its run")
    }

    pub fn last(&self) -> &Final {
        self.last.as_ref().expect("the history has its end")
    }

    /// The eras whose store may have served something between these times.
    pub fn eras_within(&self, from: Time, to: Time) -> impl Iterator<Item = u32> + '_ {
        let overlaps = move |era: &&Era| era.from <= to && era.to.is_none_or(|end| from <= end);
        self.eras.iter().filter(overlaps).map(|era| era.era)
    }
}

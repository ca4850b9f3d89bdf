//! What the ledger does at scale: long queues, long histories, many agents, many followers, many processes.
//!
//! Here live the names of these measurements and their order. Each makes its own rows, takes seconds to minutes and
//! answers with figures; what can be done by the database alone is measured in the same minute.

mod crowd;
mod follow;
mod growth;
mod held;
mod queue;
mod screen;
mod share;
mod thousand;

pub(crate) use share::work as share_work;

use quorate_measure::database::Database;
use quorate_measure::load::Timing;
use quorate_measure::table::Figure;
use quorate_model::Result;
use std::path::Path;

/// How often each is measured.
const ROUNDS: usize = 3;

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// A full queue is worked off by ten slots.
    Drain,
    /// Tasks are added a thousand at a time.
    Bulk,
    /// An idle agent hears of a task.
    Wake,
    /// Tasks are taken beside a long history and out of a long queue.
    Growth,
    /// Somebody holds a snapshot open.
    Held,
    /// The leases of ten thousand agents are kept.
    Leases,
    /// Their health is checked.
    Health,
    /// A hundred follow the log.
    Follow,
    /// Sixteen processes write to one file.
    Share,
    /// A run fans out to a thousand tasks for functions in this process.
    Thousand,
    /// A live screen looks at many agents and draws them.
    Screen,
}

impl Scenario {
    /// All, in order.
    pub(crate) const ALL: [Scenario; 11] = [
        Scenario::Drain,
        Scenario::Bulk,
        Scenario::Wake,
        Scenario::Growth,
        Scenario::Held,
        Scenario::Leases,
        Scenario::Health,
        Scenario::Follow,
        Scenario::Share,
        Scenario::Thousand,
        Scenario::Screen,
    ];

    /// Returns its name, by which it is asked for.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Drain => "drain",
            Scenario::Bulk => "bulk",
            Scenario::Wake => "wake",
            Scenario::Growth => "growth",
            Scenario::Held => "held",
            Scenario::Leases => "leases",
            Scenario::Health => "health",
            Scenario::Follow => "follow",
            Scenario::Share => "share",
            Scenario::Thousand => "thousand",
            Scenario::Screen => "screen",
        }
    }

    /// Measures it; what makes no sense on a database answers with nothing. Of several rounds each figure's median counts.
    pub(crate) async fn measure(
        self,
        database: &Database,
        here: Here<'_>,
        size: Size,
    ) -> Result<Vec<Figure>> {
        let mut rounds = Vec::new();
        for _ in 0..self.rounds(size) {
            rounds.push(self.round(database, here, size).await?);
        }
        Ok(Figure::medians(rounds))
    }

    /// Returns how often it is measured. Growth takes its medians itself: what takes time there is to fill the ledgers.
    fn rounds(self, size: Size) -> usize {
        if size.quick || self == Scenario::Growth { 1 } else { ROUNDS }
    }

    async fn round(self, database: &Database, here: Here<'_>, size: Size) -> Result<Vec<Figure>> {
        match self {
            Scenario::Drain => queue::drain(database, size).await,
            Scenario::Bulk => queue::bulk(database, size).await,
            Scenario::Wake => queue::wake(database, here, size).await,
            Scenario::Growth => growth::measure(database, size).await,
            Scenario::Held => held::measure(database, size).await,
            Scenario::Leases => crowd::leases(database, size).await,
            Scenario::Health => crowd::health(database).await,
            Scenario::Follow => follow::measure(database, size).await,
            Scenario::Share => share::measure(database, here, size).await,
            Scenario::Thousand => thousand::measure(database).await,
            Scenario::Screen => screen::measure(database).await,
        }
    }
}

/// Where something is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here<'a> {
    /// Where ledgers are made and the disk is probed.
    pub folder: &'a Path,
    /// The program, if there is one.
    pub binary: Option<&'a Path>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// A tenth of everything, to see that it works.
    pub quick: bool,
    /// Ten million tasks of history too.
    pub huge: bool,
    /// How long single operations are measured.
    pub timing: Timing,
}

impl Size {
    /// Returns `count`, or a tenth of it.
    fn of<T: std::ops::Div<Output = T> + From<u8>>(self, count: T) -> T {
        if self.quick { count / T::from(10) } else { count }
    }
}

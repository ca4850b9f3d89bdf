//! Who is measured beside the ledger: the programs in `peers/`, how each is set, and what it keeps.

/// How a peer's program is made and started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// One package with a binary each.
    Rust,
    /// One folder of modules.
    Node,
    /// A virtual environment each.
    Python,
}

/// Where a peer stores its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A file in a new folder.
    Sqlite,
    /// A new database on the server.
    Postgres,
}

impl Place {
    /// Returns the name of the database that our side of the contest uses.
    pub(super) fn name(self) -> &'static str {
        match self {
            Place::Sqlite => "sqlite",
            Place::Postgres => "postgres",
        }
    }
}

/// What is asked of everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contest {
    /// A full queue worked off by ten slots, tasks added a thousand a call, an idle worker woken.
    Queue,
    /// A thousand tasks, eight at once, by functions in the same process.
    Thousand,
}

/// One program with its settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// Its name in the table, by which it is asked for.
    pub name: &'static str,
    /// What its program is written in.
    pub language: Language,
    /// The program, without its ending.
    pub program: &'static str,
    /// Where it stores.
    pub place: Place,
    /// What it is asked to do.
    pub contest: Contest,
    /// Tasks of its queue: those of the contest where it is quick, fewer where that would take minutes.
    pub tasks: usize,
    /// Settings of its program beside the usual ones.
    pub settings: &'static [(&'static str, &'static str)],
    /// What becomes of a task that is done, and what else differs from the ledger's contract.
    pub keeps: &'static str,
}

const BATCHED: &[(&str, &str)] = &[("PEERS_BATCH", "500"), ("PEERS_DELAY_MS", "0")];
const UNBATCHED: &[(&str, &str)] = &[("PEERS_BATCH", "-1"), ("PEERS_DELAY_MS", "-1")];
const BY_HUNDRED: &[(&str, &str)] = &[("PEERS_BATCH", "100")];
const BY_FIFTY: &[(&str, &str)] = &[("PEERS_BATCH", "50")];
const ONE_BY_ONE: &[(&str, &str)] = &[("PEERS_BATCH", "1")];

/// All, in the order in which they are measured.
pub(super) const PEERS: [Peer; 18] = [
    queue("graphile_worker (Rust), batched", Language::Rust, "graphile_worker", 50_000, BATCHED, "deleted"),
    queue("apalis-postgres, batches of 100", Language::Rust, "apalis_postgres", 20_000, BY_HUNDRED, "kept"),
    queue("awa", Language::Rust, "awa", 20_000, &[], "kept a while; counted when handled, not when stored"),
    queue("graphile-worker (Node), batched", Language::Node, "graphile_worker", 50_000, BATCHED, "deleted"),
    queue(
        "graphile-worker (Node), one by one",
        Language::Node,
        "graphile_worker",
        10_000,
        UNBATCHED,
        "deleted",
    ),
    queue(
        "pg-boss, batches of 100",
        Language::Node,
        "pg_boss",
        50_000,
        BY_HUNDRED,
        "kept a while; bare loops, polls every 0.5 s",
    ),
    queue("pgmq, batches of 50", Language::Python, "queue_pgmq", 50_000, BY_FIFTY, "deleted; bare loops"),
    queue("pgmq, one by one", Language::Python, "queue_pgmq", 10_000, ONE_BY_ONE, "deleted; bare loops"),
    queue("procrastinate", Language::Python, "queue_procrastinate", 5_000, &[], "kept"),
    queue("absurd", Language::Python, "queue_absurd", 2_000, &[], "kept; polls every 50 ms"),
    on_sqlite(queue(
        "huey",
        Language::Python,
        "queue_huey",
        10_000,
        &[],
        "deleted when taken: at most once, no lease",
    )),
    on_sqlite(queue(
        "litequeue",
        Language::Python,
        "queue_litequeue",
        10_000,
        &[],
        "kept; one thread, no worker",
    )),
    on_sqlite(queue(
        "honker, batches of 50",
        Language::Python,
        "queue_honker",
        20_000,
        BY_FIFTY,
        "not durable; one thread, bare loop",
    )),
    on_sqlite(queue(
        "apalis-sqlite, batches of 100",
        Language::Rust,
        "apalis_sqlite",
        5_000,
        BY_HUNDRED,
        "kept",
    )),
    on_sqlite(thousand(
        "LangGraph",
        "thousand_langgraph",
        "kept as one state after each step, of which all are one",
    )),
    on_sqlite(thousand("DBOS", "thousand_dbos", "kept, each a workflow; looks every 0.1 s")),
    thousand("LangGraph", "thousand_langgraph", "kept as one state after each step, of which all are one"),
    thousand("DBOS", "thousand_dbos", "kept, each a workflow; looks every 0.1 s"),
];

type Settings = &'static [(&'static str, &'static str)];

const fn queue(
    name: &'static str,
    language: Language,
    program: &'static str,
    tasks: usize,
    settings: Settings,
    keeps: &'static str,
) -> Peer {
    let (place, contest) = (Place::Postgres, Contest::Queue);
    Peer { name, language, program, place, contest, tasks, settings, keeps }
}

const fn thousand(name: &'static str, program: &'static str, keeps: &'static str) -> Peer {
    let peer = queue(name, Language::Python, program, 1_000, &[("PEERS_SLOTS", "8")], keeps);
    Peer { contest: Contest::Thousand, ..peer }
}

const fn on_sqlite(peer: Peer) -> Peer {
    Peer { place: Place::Sqlite, ..peer }
}

/// Returns the peers whose names have `word`, in heats: those of one heat are measured right after our own side.
pub(super) fn heats(word: Option<&str>) -> Vec<Vec<Peer>> {
    let wanted =
        |peer: &Peer| word.is_none_or(|word| peer.name.to_lowercase().contains(&word.to_lowercase()));
    let mut heats: Vec<Vec<Peer>> = Vec::new();
    for peer in PEERS.into_iter().filter(wanted) {
        match heats.last_mut().filter(|heat| heat.last().is_some_and(|last| same_heat(last, &peer))) {
            Some(heat) => heat.push(peer),
            None => heats.push(vec![peer]),
        }
    }
    heats
}

/// SQLite's few are one heat; those of PostgreSQL would take so long that the disk may have changed.
fn same_heat(one: &Peer, other: &Peer) -> bool {
    let same_side = one.place == other.place && one.contest == other.contest;
    same_side && (one.place == Place::Sqlite || one.language == other.language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_a_heat_share_place_and_contest() {
        let heats = heats(None);
        assert_eq!(heats.iter().map(Vec::len).sum::<usize>(), PEERS.len());
        for heat in heats {
            assert!(heat.windows(2).all(|two| same_heat(&two[0], &two[1])), "{heat:?}");
        }
    }

    #[test]
    fn peers_are_picked_by_a_word_of_their_name() {
        let heats = heats(Some("langgraph"));
        let places: Vec<Place> = heats.iter().flatten().map(|peer| peer.place).collect();
        assert_eq!(places, [Place::Sqlite, Place::Postgres]);
    }

    #[test]
    fn every_peer_has_its_program_in_the_repository() {
        for peer in PEERS {
            assert!(super::super::program::source(&peer).is_file(), "{}", peer.program);
        }
    }
}

//! Trouble for one server of PostgreSQL.
//!
//! Here live the cases that need nothing but that server and sessions beside the product's own.

use crate::Outcome;
use crate::ledger::Ledger;
use crate::trouble::End;
use crate::trouble::mount::Disk;
use crate::trouble::scene::{Scene, Setting};
use quorate_testkit::proxy::Proxy;
use quorate_testkit::server::Server;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long trouble lasts that is neither short nor long.
pub(super) const A_WHILE: Duration = Duration::from_secs(5);
/// How long a case waits for its trouble to bite.
const BITE_MAX: Duration = Duration::from_secs(10);
/// How often a case tries within that time to keep somebody waiting.
const LOCKS_MAX: u32 = 4;

/// A session beside the product's own; what it holds ends with the value.
pub(super) fn session(scene: &Scene, sql: &str) -> Outcome<Ledger> {
    let mut session = Ledger::pg(scene.server()?.url())?;
    session.rows(sql)?;
    Ok(session)
}

/// The server is ended in mid-transaction, without ceremony and in order, and started again.
pub(super) fn restart(setting: &Setting) -> Outcome<End> {
    let mut scene = Scene::on_server(setting, Server::start()?)?;
    for mode in ["immediate", "fast"] {
        scene.trouble(&format!("-m {mode}"), |scene| {
            let _lock = stop_in_the_middle(scene)?;
            let server = scene.server()?;
            server.pg_ctl(&["-m", mode, "stop"])?;
            sleep(Duration::from_millis(500));
            server.pg_ctl(&["start"])
        })?;
    }
    scene.finish().map(End::Judged)
}

/// Makes a transaction wait that has changed something: one that has completed a task, and is about to end its attempt.
/// Returns what it waits for.
fn stop_in_the_middle(scene: &mut Scene) -> Outcome<Ledger> {
    let within = include_str!("../../sql/trouble/within.sql");
    for _ in 0..LOCKS_MAX {
        // Perhaps nobody is at work at this very moment.
        let lock = session(scene, "begin; select from attempts where ended_at is null for update")?;
        let bites = |scene: &mut Scene| scene.ledger.number(within).is_ok_and(|count| count > 0);
        if scene.wait(BITE_MAX / LOCKS_MAX, bites) {
            return Ok(lock);
        }
    }
    Err("no transaction was under way".into())
}

/// Every connection is ended, again and again.
pub(super) fn drop_all(setting: &Setting) -> Outcome<End> {
    let mut scene = Scene::on_server(setting, Server::start()?)?;
    let mut ended = 0;
    scene.trouble("dropped", |scene| {
        let mut session = session(scene, "set application_name = 'trouble'")?;
        let until = Instant::now() + A_WHILE;
        while Instant::now() < until {
            ended += session.number(include_str!("../../sql/trouble/terminate.sql"))?;
            sleep(Duration::from_millis(150));
        }
        Ok(())
    })?;
    scene.say(format!("{ended} connections ended"));
    scene.finish().map(End::Judged)
}

/// Every connection falls silent without being closed, as behind a firewall; then those that are made next, too.
pub(super) fn suspend(setting: &Setting) -> Outcome<End> {
    let server = Server::start()?;
    let proxy = Proxy::to(&server.socket())?;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let mut scene = Scene::at(setting, Some(url))?;
    scene.ledger = Ledger::pg(server.url())?;
    scene.arena.server = Some(server);
    scene.trouble("silent", |_| {
        proxy.silence();
        Ok(())
    })?;
    scene.trouble("silent, and new ones for 5 s", |_| {
        proxy.be_deaf(true);
        sleep(A_WHILE);
        proxy.be_deaf(false);
        Ok(())
    })?;
    scene.finish().map(End::Judged)
}

/// Others take every connection that there is: the product's are ended, and no new ones are let in.
pub(super) fn limit(setting: &Setting) -> Outcome<End> {
    let server = Server::start()?;
    server.psql("alter system set max_connections = 40")?;
    server.restart()?;
    let mut scene = Scene::on_server(setting, server)?;
    scene.trouble("no connection left", |scene| {
        let mut control = session(scene, "set application_name = 'trouble'")?;
        let mut crowd = Vec::new();
        let until = Instant::now() + BITE_MAX;
        while control.number(include_str!("../../sql/trouble/ours.sql"))? > 0 {
            control.number(include_str!("../../sql/trouble/terminate_ours.sql"))?;
            while let Ok(one) = session(scene, "set application_name = 'trouble'") {
                crowd.push(one);
            }
            if Instant::now() > until {
                return Err("the product did not lose its connections".into());
            }
        }
        sleep(A_WHILE);
        let left = control.number(include_str!("../../sql/trouble/ours.sql"))?;
        scene.say(format!("{} others, {left} of the product's left", crowd.len()));
        Ok(())
    })?;
    if scene.refused() == 0 {
        scene.wrong("nothing was refused: there were connections");
    }
    scene.finish().map(End::Judged)
}

/// The server takes no writes for a while.
pub(super) fn read_only(setting: &Setting) -> Outcome<End> {
    let mut scene = Scene::on_server(setting, Server::start()?)?;
    scene.trouble("read-only", |scene| {
        let server = scene.server()?;
        server.psql("alter system set default_transaction_read_only = on")?;
        server.psql("select pg_reload_conf()")?;
        sleep(A_WHILE);
        server.psql("alter system reset default_transaction_read_only")?;
        server.psql("select pg_reload_conf()").map(drop)
    })?;
    if scene.refused() == 0 {
        scene.wrong("nothing was refused: the server took writes");
    }
    scene.finish().map(End::Judged)
}

/// The size of a disk that is filled, in megabytes: what a fresh server needs, and some more.
const DISK_MB: usize = 160;

/// The disk with the server's files is full for a while. A server that ended over it is started again.
pub(super) fn full(setting: &Setting) -> Outcome<End> {
    let disk = match Disk::mount(DISK_MB) {
        Ok(disk) => disk,
        Err(why) => return Ok(End::NotRun(why)),
    };
    let mut scene = Scene::on_server(setting, Server::start_in(disk.path())?)?;
    scene.trouble("full", |scene| {
        disk.fill()?;
        sleep(A_WHILE * 2);
        disk.free()?;
        let server = scene.server()?;
        let has_ended = server.psql("select 1").is_err_and(|_| server.pg_ctl(&["start"]).is_ok());
        let refusals = server.log().matches("No space left on device").count();
        let ended = if has_ended { "ended and was started again" } else { "went on" };
        scene.say(format!("the server {ended}, having said {refusals} times that there is no space"));
        Ok(())
    })?;
    if scene.refused() == 0 {
        scene.wrong("nothing was refused: the disk was not full");
    }
    scene.finish().map(End::Judged)
}

/// Another session holds what the product needs, each for a while.
pub(super) fn locks(setting: &Setting) -> Outcome<End> {
    let mut scene = Scene::on_server(setting, Server::start()?)?;
    let troubles = [
        ("the table of tasks", "begin; lock table tasks in access exclusive mode"),
        ("every row of tasks", include_str!("../../sql/trouble/lock_rows.sql")),
        ("the lock of the claims", include_str!("../../sql/trouble/lock_claims.sql")),
    ];
    for (name, sql) in troubles {
        scene.trouble(name, |scene| {
            let _held = session(scene, sql)?;
            sleep(A_WHILE);
            Ok(())
        })?;
    }
    scene.finish().map(End::Judged)
}

/// How long a snapshot is held at least: so long that the doctor must see it.
const HELD: Duration = Duration::from_secs(65);
/// Tasks that run through meanwhile.
const MANY: usize = 2_000;

/// Another session holds an old snapshot while thousands of tasks run through.
pub(super) fn snapshot(setting: &Setting) -> Outcome<End> {
    let mut scene = Scene::on_server(&Setting { tasks: MANY, ..setting.clone() }, Server::start()?)?;
    let mut held =
        session(&scene, "begin isolation level repeatable read; set application_name = 'trouble'")?;
    held.rows(include_str!("../../sql/open.sql"))?;
    let begun = Instant::now();
    let open = include_str!("../../sql/trouble/open_of_plan.sql");
    let done = scene.wait(HELD * 6, |scene| begun.elapsed() > HELD && scene.ledger.number(open) == Ok(0));
    if !done {
        scene.wrong("the plan did not come to its end while the snapshot was held");
    }
    let told = scene.arena.run(&["doctor", "--json"])?;
    if !told.contains("holds a transaction open for") {
        scene.wrong(format!("the doctor did not see the snapshot: {told}"));
    }
    scene.say(format!(
        "the snapshot was held for {:.0} s; the doctor named it",
        begun.elapsed().as_secs_f64()
    ));
    drop(held);
    scene.finish().map(End::Judged)
}

/// Tasks that keep a node busy all along.
const BUSY: usize = 150;
/// Deadlocks that are provoked.
const DEADLOCKS: usize = 10;

/// Deadlocks with another session, and serialization failures by the database's own default.
pub(super) fn conflicts(setting: &Setting) -> Outcome<End> {
    let server = Server::start()?;
    server.psql("alter system set deadlock_timeout = '400ms'")?;
    server.psql("select pg_reload_conf()")?;
    let mut scene = Scene::on_server(&Setting { tasks: BUSY, ..setting.clone() }, server)?;
    scene.trouble("40P01", |scene| {
        for _ in 0..DEADLOCKS {
            deadlock(scene)?;
        }
        Ok(())
    })?;
    let count = scene.ledger.number(include_str!("../../sql/trouble/deadlocks.sql"))?;
    scene.say(format!("{count} deadlocks"));
    if count == 0 {
        scene.wrong("no deadlock was provoked");
    }
    scene.trouble("40001", |scene| {
        scene.server()?.psql("alter database postgres set default_transaction_isolation = 'serializable'")?;
        session(scene, "set application_name = 'trouble'")?
            .number(include_str!("../../sql/trouble/terminate.sql"))?;
        sleep(A_WHILE * 2);
        Ok(())
    })?;
    let count = scene.server()?.log().matches("could not serialize access").count();
    scene.say(format!("{count} serialization failures"));
    scene.finish().map(End::Judged)
}

/// Holds the table of claims until someone who has locked a task waits for it, and asks for that task: he is to give way.
fn deadlock(scene: &mut Scene) -> Outcome {
    let mut other =
        session(scene, "set deadlock_timeout = '1h'; begin; lock table claims in access exclusive mode")?;
    let within = include_str!("../../sql/trouble/within.sql");
    if !scene.wait(BITE_MAX, |scene| scene.ledger.number(within).is_ok_and(|count| count > 0)) {
        return Err("nobody waited for the claims".into());
    }
    other.rows(include_str!("../../sql/trouble/all_rows.sql")).map(drop)
}

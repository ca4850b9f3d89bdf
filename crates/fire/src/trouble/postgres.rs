//! Trouble for one server of PostgreSQL.
//!
//! Here live the cases that need nothing but that server and sessions beside the product's own.

use crate::Outcome;
use crate::ledger::Ledger;
use crate::trouble::End;
use crate::trouble::proxy::Proxy;
use crate::trouble::scene::{Scene, Setting};
use quorate_testkit::server::Server;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long trouble lasts that is neither short nor long.
const A_WHILE: Duration = Duration::from_secs(5);
/// How long a case waits for its trouble to bite.
const BITE_MAX: Duration = Duration::from_secs(10);

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
            // Whoever has changed a task and is about to say so in the log waits here, in the middle of it.
            let _lock = session(scene, "begin; lock table events in access exclusive mode")?;
            let within = include_str!("../../sql/trouble/within.sql");
            if !scene.wait(BITE_MAX, |scene| scene.ledger.number(within).is_ok_and(|count| count > 0)) {
                return Err("no transaction was under way".into());
            }
            let server = scene.server()?;
            server.pg_ctl(&["-m", mode, "stop"])?;
            sleep(Duration::from_millis(500));
            server.pg_ctl(&["start"])
        })?;
    }
    scene.finish().map(End::Judged)
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
    let mut silent = 0;
    scene.trouble("silent", |_| {
        silent = proxy.silence();
        Ok(())
    })?;
    scene.trouble("silent, and new ones for 5 s", |_| {
        proxy.be_deaf(true);
        sleep(A_WHILE);
        proxy.be_deaf(false);
        Ok(())
    })?;
    scene.say(format!("{silent} connections silenced at first"));
    scene.finish().map(End::Judged)
}

//! A primary that dies, and a standby that takes its place.
//!
//! Here live the two cases: a standby that confirms commits loses nothing; one that does not may, and the doctor says so
//! before. The product has the address of both from the beginning.

use crate::Outcome;
use crate::ledger::Ledger;
use crate::trouble::End;
use crate::trouble::scene::{Loss, Scene, Setting};
use quorate_testkit::proxy::Proxy;
use quorate_testkit::server::Server;
use std::thread::sleep;
use std::time::Duration;

/// Tasks enough for all the while.
const MANY: usize = 120;
/// How long a standby may take to follow.
const FOLLOW_MAX: Duration = Duration::from_secs(20);

/// How long the primary goes on while its standby hears nothing of it.
const UNHEARD: Duration = Duration::from_secs(4);

/// A role that may not see how standbys follow, as the product's should be.
const PLAIN_ROLE: &str = "create role plain login; grant all on all tables in schema public to plain; \
                          grant all on all sequences in schema public to plain";

/// A primary and its standby, each behind a relay.
struct Pair {
    primary: Server,
    standby: Server,
    relays: [Proxy; 2],
    /// By which the standby follows.
    stream: Proxy,
}

impl Pair {
    fn make() -> Outcome<Pair> {
        let primary = Server::start()?;
        let stream = Proxy::to(&primary.socket())?;
        let standby =
            Server::standby_of(&format!("postgres://postgres@127.0.0.1:{}/postgres", stream.port()))?;
        let relays = [Proxy::to(&primary.socket())?, Proxy::to(&standby.socket())?];
        Ok(Pair { primary, standby, relays, stream })
    }

    /// Returns an address that names both, and wants the one that takes writes.
    fn url(&self) -> String {
        let [one, two] = self.relays.each_ref().map(Proxy::port);
        format!(
            "postgres://postgres@127.0.0.1:{one},127.0.0.1:{two}/postgres?target_session_attrs=read-write"
        )
    }

    /// Waits until the primary says this of its standby.
    fn wait_for(&self, state: &str) -> Outcome {
        let until = std::time::Instant::now() + FOLLOW_MAX;
        while std::time::Instant::now() < until {
            if self.primary.psql(include_str!("../../sql/trouble/sync_state.sql"))? == state {
                return Ok(());
            }
            sleep(Duration::from_millis(50));
        }
        Err(format!("the standby is not `{state}`"))
    }

    /// Kills the primary, for good, and lets the standby take its place.
    fn fail_over(&self) -> Outcome {
        self.primary.pg_ctl(&["-m", "immediate", "stop"])?;
        self.standby.pg_ctl(&["promote"])
    }
}

/// Returns what the doctor says of the standby to whoever is named in the address: its verdict and its words.
fn doctor(scene: &Scene, url: &str) -> Outcome<(String, String)> {
    let mut doctor = scene.arena.command(&["doctor", "--json"]);
    let said = doctor.env("QUORATE_STORE", url).output().map_err(|e| scene.arena.unrunnable(&e))?;
    let said: serde_json::Value =
        serde_json::from_slice(&said.stdout).map_err(|e| format!("the doctor: {e}"))?;
    let checks = said["checks"].as_array().cloned().unwrap_or_default();
    let check = checks.iter().find(|check| check["check"] == "standby").cloned().unwrap_or_default();
    let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("message")))
}

/// The standby confirms every commit: what was acknowledged is there after the failover.
pub(super) fn synchronous(setting: &Setting) -> Outcome<End> {
    let pair = Pair::make()?;
    let name = pair.standby.name()?;
    pair.primary.psql(&format!("alter system set synchronous_standby_names = '\"{name}\"'"))?;
    pair.primary.psql("select pg_reload_conf()")?;
    pair.wait_for("sync")?;
    let mut scene = Scene::at(setting, Some(pair.url()))?;
    let (state, words) = doctor(&scene, &pair.url())?;
    if state != "ok" {
        scene.wrong(format!("the doctor of a synchronous standby says {state}: {words}"));
    }
    scene.trouble("failover", |scene| {
        pair.fail_over()?;
        scene.ledger = Ledger::pg(pair.standby.url())?;
        Ok(())
    })?;
    scene.finish().map(End::Judged)
}

/// The standby confirms nothing, and hears nothing of the last seconds: those are lost. The doctor said so, and no term
/// that was given in those seconds is given again.
pub(super) fn asynchronous(setting: &Setting) -> Outcome<End> {
    let pair = Pair::make()?;
    pair.wait_for("async")?;
    let mut scene = Scene::at(&Setting { tasks: MANY, ..setting.clone() }, Some(pair.url()))?;
    pair.primary.psql(PLAIN_ROLE)?;
    for role in ["postgres", "plain"] {
        let (state, words) = doctor(&scene, &pair.url().replace("//postgres@", &format!("//{role}@")))?;
        match state.as_str() {
            "warn" => scene.say(format!("the doctor warned {role}: {words}")),
            _ => {
                scene.wrong(format!("the doctor of an asynchronous standby says {state} to {role}: {words}"))
            }
        }
    }
    scene.trouble("failover", |scene| {
        pair.stream.be_deaf(true);
        let begun = scene.ledger.number(include_str!("../../sql/trouble/attempts.sql"))?;
        sleep(UNHEARD);
        let lost = scene.ledger.number(include_str!("../../sql/trouble/attempts.sql"))? - begun;
        pair.fail_over()?;
        scene.ledger = Ledger::pg(pair.standby.url())?;
        scene.say(format!("about {lost} attempts were begun that the standby never heard of"));
        Ok(())
    })?;
    scene.finish_with(Loss::OfTheLast).map(End::Judged)
}

//! Lines to PostgreSQL: how they are made, and how it is noticed that one is dead.
//!
//! Here live the order in which several hosts are asked, the limits on waiting for any of them, and [`Lent`], a
//! connection of a pool that is closed instead of given back when it owes an answer. A firewall or a managed service
//! may drop a connection without a word: whoever waits for its answer would wait for ever.

use crate::tls::Server;
use deadpool_postgres::{Connect, Object};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long the making of a connection may take from the last host that is asked, where the address does not say.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long a host may be silent where others follow.
const HOST_WAIT: Duration = Duration::from_secs(3);
/// How long what was sent over a network may stay without a sign that it arrived. Left alone, the kernel tries for a quarter
/// of an hour, ever more rarely, and notices that a silent network has healed as long after as it was away.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The kernel asks a line that was idle for so long whether it is alive …
const IDLE: Duration = Duration::from_secs(5);
/// … again after so long …
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// … and so often.
const ASKED_MAX: u32 = 3;
/// What the driver takes where an address says nothing of it: longer than any firewall remembers.
const DRIVERS_IDLE: Duration = Duration::from_secs(2 * 60 * 60);
/// Who has waited for longer than this when he gives up was waiting for one that is dead; others may be as well.
const SUSPICIOUS: Duration = Duration::from_secs(1);

impl Server {
    /// Sets the limits on waiting that the address leaves open.
    pub(crate) fn bound(mut self) -> Server {
        let config = &mut self.config;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WAIT);
        }
        if config.get_keepalives_idle() == DRIVERS_IDLE {
            config.keepalives_idle(IDLE).keepalives_interval(ASK_AGAIN).keepalives_retries(ASKED_MAX);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE_MAX);
        }
        self
    }

    /// Returns how long the making of a connection may take: what the address says (`connect_timeout`) from the last host
    /// that is asked.
    pub(crate) fn connect_wait(&self) -> Duration {
        let last = self.config.get_connect_timeout().copied().unwrap_or(CONNECT_WAIT);
        last + HOST_WAIT * (hosts(&self.config) as u32).saturating_sub(1)
    }

    /// Makes a connection to the first host that lets us in. One that takes it and then says nothing does not keep us
    /// from the next.
    pub(crate) async fn connect(&self) -> Result<(Client, Connection<Socket, TlsStream>), Error> {
        let each = each(&self.config);
        let (last, others) =
            each.split_last().map_or((&self.config, &[][..]), |(last, others)| (last, others));
        for host in others {
            if let Ok(Ok(made)) = tokio::time::timeout(HOST_WAIT, host.connect(self.tls.clone())).await {
                return Ok(made);
            }
        }
        last.connect(self.tls.clone()).await
    }
}

type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

fn hosts(config: &Config) -> usize {
    config.get_hosts().len().max(config.get_hostaddrs().len())
}

/// Returns the configuration of each host; none where the driver is to draw one by lot.
fn each(config: &Config) -> Vec<Config> {
    let count = hosts(config);
    if count < 2 || config.get_load_balance_hosts() != LoadBalanceHosts::Disable {
        return Vec::new();
    }
    (0..count).map(|at| one(config, at)).collect()
}

/// Copies a configuration for one of its hosts: the driver has no way to take a host out.
fn one(from: &Config, at: usize) -> Config {
    let mut config = Config::new();
    let to = &mut config;
    give(to, from.get_hosts().get(at), |to, host| match host {
        Host::Tcp(host) => to.host(host),
        Host::Unix(folder) => to.host_path(folder),
    });
    give(to, from.get_hostaddrs().get(at), |to, address| to.hostaddr(*address));
    give(to, from.get_ports().get(at).or(from.get_ports().first()), |to, port| to.port(*port));
    give(to, from.get_user(), |to, user| to.user(user));
    give(to, from.get_password(), |to, password| to.password(password));
    give(to, from.get_dbname(), |to, name| to.dbname(name));
    give(to, from.get_options(), |to, options| to.options(options));
    give(to, from.get_application_name(), |to, name| to.application_name(name));
    give(to, from.get_connect_timeout(), |to, limit| to.connect_timeout(*limit));
    give(to, from.get_tcp_user_timeout(), |to, limit| to.tcp_user_timeout(*limit));
    give(to, from.get_keepalives_interval(), |to, pause| to.keepalives_interval(pause));
    give(to, from.get_keepalives_retries(), |to, count| to.keepalives_retries(count));
    to.keepalives(from.get_keepalives())
        .keepalives_idle(from.get_keepalives_idle())
        .ssl_mode(from.get_ssl_mode())
        .ssl_negotiation(from.get_ssl_negotiation())
        .target_session_attrs(from.get_target_session_attrs())
        .channel_binding(from.get_channel_binding());
    config
}

fn give<T>(to: &mut Config, value: Option<T>, set: impl FnOnce(&mut Config, T) -> &mut Config) {
    if let Some(value) = value {
        set(to, value);
    }
}

/// Makes the connections of a pool.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) server: Server,
    /// What each is asked first, if anything. A new database has no function of ours to answer it.
    pub(crate) asked: Option<String>,
    /// What each is told first, if anything. Nobody waits for the answer, and one that cannot do it works as well.
    pub(crate) told: Option<&'static str>,
}

impl Dialer {
    /// Connects to a server and asks nothing.
    pub(crate) fn to(server: &Server) -> Dialer {
        Dialer { server: server.clone(), asked: None, told: None }
    }
}

impl Connect for Dialer {
    fn connect(&self, _: &Config) -> Made<'_> {
        Box::pin(async move {
            let (client, connection) = self.server.connect().await?;
            // What goes wrong on it shows in the answers that do not come.
            let task = tokio::spawn(async move { drop(connection.await) });
            if let Some(told) = self.told {
                // One poll sends it, before anything that comes later.
                let _ = pin!(client.batch_execute(told)).poll(&mut Context::from_waker(Waker::noop()));
            }
            if let Some(asked) = &self.asked {
                match client.batch_execute(asked).await {
                    Err(e) if e.code() == Some(&SqlState::UNDEFINED_FUNCTION) => {}
                    answer => answer?,
                }
            }
            Ok((client, task))
        })
    }
}

type Made<'a> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

/// A connection that a pool has lent.
pub(crate) struct Lent {
    object: Option<Object>,
    asked: Option<Instant>,
    is_unfit: bool,
}

impl Lent {
    pub(crate) fn new(object: Object) -> Lent {
        Lent { object: Some(object), asked: None, is_unfit: false }
    }

    /// Returns the connection, and the place where it is noted that an answer is owed.
    pub(crate) fn parts(&mut self) -> (&Object, &mut Option<Instant>) {
        (self.object.as_ref().expect("it goes back only when the value is dropped"), &mut self.asked)
    }

    pub(crate) fn client(&self) -> &Object {
        self.object.as_ref().expect("it goes back only when the value is dropped")
    }

    /// Returns whether an answer is owed: then nothing more can be asked.
    pub(crate) fn owes(&self) -> bool {
        self.asked.is_some()
    }

    /// Says that this server, and whoever else is connected to it, is not the one that is looked for.
    pub(crate) fn is_unfit(&mut self) {
        self.is_unfit = true;
    }
}

impl Drop for Lent {
    /// Closes a connection that owes an answer: who got it next would wait for that answer too. If it was waited for
    /// long, all that lie idle may be dead for the same reason, and are closed with it.
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        let is_dead = self.asked.is_some_and(|asked| asked.elapsed() > SUSPICIOUS);
        if self.asked.is_none() && !self.is_unfit {
            return;
        }
        let pool = Object::pool(&object);
        drop(Object::take(object));
        if let Some(pool) = pool.filter(|_| is_dead || self.is_unfit) {
            pool.retain(|_, _| false);
        }
    }
}

/// Nothing was heard for so long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silent(pub(crate) Duration);

/// Waits for an answer at most for so long, and notes meanwhile that it is owed.
pub(crate) async fn heard<T>(
    asked: &mut Option<Instant>,
    patience: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<Result<T, Error>, Silent> {
    *asked = Some(Instant::now());
    let heard = tokio::time::timeout(patience, answer).await.map_err(|_| Silent(patience))?;
    *asked = None;
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    type Tested = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn each_host_of_an_address_keeps_all_that_the_address_says() -> Tested {
        let text = "postgres://ada:se%20cret@a:1,b:2/work?target_session_attrs=read-write&application_name=x\
                    &options=-cgeqo%3Doff&connect_timeout=7&keepalives_idle=9&keepalives_interval=8\
                    &keepalives_retries=5&tcp_user_timeout=6&channel_binding=disable&sslmode=require";
        let each = each(&Config::from_str(text)?);
        for (at, host) in ["a:1", "b:2"].into_iter().enumerate() {
            assert_eq!(each[at], Config::from_str(&text.replace("a:1,b:2", host))?, "{host}");
        }
        assert_eq!(each.len(), 2);
        Ok(())
    }

    #[test]
    fn one_host_is_asked_as_the_driver_does() -> Tested {
        assert_eq!(each(&Config::from_str("postgres://a/x")?), []);
        assert_eq!(each(&Config::from_str("postgres://a,b/x?load_balance_hosts=random")?), []);
        Ok(())
    }
}

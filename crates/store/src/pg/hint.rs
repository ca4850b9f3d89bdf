//! Hints between processes: that the ledger has changed.
//!
//! Here live the telling, the listening, and the looking where nobody can be told. A hint that is lost costs time, never
//! correctness: everyone also looks by himself.

use super::door::Door;
use crate::changes::Bell;
use crate::line::heard;
use crate::tls::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client};

/// Wake-ups under load are this far apart.
const NOTIFY_EVERY: Duration = Duration::from_millis(10);
/// Nobody waits for the disk to be told.
const NOTIFY: &str = "select set_config('synchronous_commit', 'off', true), pg_notify($1, '')";
/// How long the telling of others may take.
const NOTIFY_WAIT: Duration = Duration::from_secs(5);
/// One who listens asks this often whether the server is still there.
const LISTEN_ASK: Duration = Duration::from_secs(60);
/// Behind a pooler in transaction mode the log is looked at this often.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How long one who listens rests when the connection has ended.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// Remembers that others are to be told of a commit.
#[derive(Debug)]
pub(super) struct Teller {
    door: Door,
    channel: Arc<str>,
    dirty: AtomicBool,
    wake: Notify,
    /// Held while one is told, so that a process that ends waits for what it has begun to say.
    telling: tokio::sync::Mutex<()>,
}

impl Teller {
    /// Begins to tell: at once when idle, merged under load, never inside a transaction.
    pub(super) fn begin(door: Door, channel: Arc<str>) -> Arc<Teller> {
        let (dirty, wake, telling) = (AtomicBool::default(), Notify::new(), tokio::sync::Mutex::default());
        let teller = Arc::new(Teller { door, channel, dirty, wake, telling });
        let telling = Arc::clone(&teller);
        tokio::spawn(async move {
            loop {
                telling.wake.notified().await;
                telling.tell_now().await;
                tokio::time::sleep(NOTIFY_EVERY).await;
            }
        });
        teller
    }

    /// Says that there is something to tell.
    pub(super) fn note(&self) {
        self.dirty.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Tells what is to be told.
    pub(super) async fn tell_now(&self) {
        let _telling = self.telling.lock().await;
        if !self.dirty.swap(false, Ordering::SeqCst) {
            return;
        }
        let Ok(mut lent) = self.door.lent().await else { return };
        let named = self.door.way.named;
        let (client, asked) = lent.parts();
        let told = async {
            if named {
                let notify = client.prepare_typed_cached(NOTIFY, &[Type::TEXT]).await?;
                return client.execute(&notify, &[&&*self.channel]).await;
            }
            client.execute_typed(NOTIFY, &[(&&*self.channel, Type::TEXT)]).await
        };
        let _ = heard(asked, NOTIFY_WAIT, told).await;
    }
}

/// Rings the bell when the log has grown: behind a pooler in transaction mode nobody is notified.
pub(super) async fn poll(door: Door, bell: Bell) {
    let mut last = None;
    loop {
        tokio::time::sleep(POLL_EVERY).await;
        if let Ok(now) = door.ask("select max(seq) from events").await
            && last.replace(now.clone()) != Some(now)
        {
            bell.ring();
        }
    }
}

/// Rings the bell on every notification; connects again for ever.
pub(super) async fn listen(mut server: Server, channel: Arc<str>, bell: Bell, patience: Duration) {
    if server.pooler.is_none() && !server.options.is_empty() {
        server.config.options(&server.options);
    }
    loop {
        if let Ok(Ok((client, mut connection))) =
            tokio::time::timeout(server.connect_wait(), server.connect()).await
        {
            let pump = async {
                while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                    if matches!(message, AsyncMessage::Notification(_)) {
                        bell.ring();
                    }
                }
            };
            // Whichever ends first: only another round follows.
            tokio::select! {
                () = pump => {}
                () = keep_listening(&client, &channel, patience) => {}
            }
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
        bell.ring();
    }
}

/// Asks to be told, and asks now and then whether anyone is still there to tell; ends when nobody is.
async fn keep_listening(client: &Client, channel: &str, patience: Duration) {
    let mut question = format!("listen \"{channel}\"");
    while let Ok(Ok(())) = tokio::time::timeout(patience, client.batch_execute(&question)).await {
        question.clear();
        tokio::time::sleep(LISTEN_ASK).await;
    }
}

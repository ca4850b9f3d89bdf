//! Whose a token is, on both databases: for as long as its session lives, or until it is revoked.

use quorate_model::{Kind, Result};
use quorate_service::agent::{Begin, End, Tell, Word};
use quorate_service::token::{Give, LASTING_MAX, Revoke, Token, Whose};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, begin};

fn given(agent: &str, token: &Token) -> Give {
    Give { agent: agent.into(), digest: token.digest() }
}

async fn whose(ledger: &TestLedger, token: &Token) -> Option<String> {
    ledger.store.read(Whose { digest: token.digest() }).await.expect("the ledger answers")
}

async fn a_session_is_known_by_its_token_until_it_ends(ledger: TestLedger) -> Result<()> {
    let (first, second) = (Token::fresh()?, Token::fresh()?);
    let session = |node: &str, token: &Token| Begin { token: Some(token.digest()), ..begin("ada", node) };
    ledger.store.write(session("1", &first)).await?;
    assert_eq!(whose(&ledger, &first).await.as_deref(), Some("ada"));
    assert_eq!(whose(&ledger, &second).await, None);
    ledger.store.write(session("1", &second)).await?;
    assert_eq!(whose(&ledger, &first).await, None, "a new session, a new token");
    assert_eq!(whose(&ledger, &second).await.as_deref(), Some("ada"));
    ledger.store.write(End { name: "ada".into(), node: "1".into() }).await?;
    assert_eq!(whose(&ledger, &second).await, None);
    Ok(())
}

async fn a_token_is_void_once_its_sessions_lease_has_lapsed(ledger: TestLedger) -> Result<()> {
    let token = Token::fresh()?;
    ledger.store.write(Begin { token: Some(token.digest()), ..begin("ada", "1") }).await?;
    ledger.advance(LEASE_MS).await;
    assert_eq!(whose(&ledger, &token).await.as_deref(), Some("ada"), "at its very end it still holds");
    ledger.advance(1).await;
    assert_eq!(whose(&ledger, &token).await, None);
    let next = Token::fresh()?;
    ledger.store.write(Begin { token: Some(next.digest()), ..begin("ada", "2") }).await?;
    assert_eq!(whose(&ledger, &token).await, None, "another node's session does not revive it");
    assert_eq!(whose(&ledger, &next).await.as_deref(), Some("ada"));
    Ok(())
}

async fn a_lasting_token_lasts_until_it_is_revoked(ledger: TestLedger) -> Result<()> {
    ledger.join("eve").await?;
    let tokens: Vec<Token> = (0..LASTING_MAX).map(|_| Token::fresh()).collect::<Result<_>>()?;
    for token in &tokens {
        ledger.store.write(given("eve", token)).await?;
    }
    let error = ledger.store.write(given("eve", &Token::fresh()?)).await.expect_err("one too many");
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.hint.is_some_and(|hint| hint.contains("--revoke")));
    ledger.store.write(begin("eve", "1")).await?;
    ledger.store.write(End { name: "eve".into(), node: "1".into() }).await?;
    for token in &tokens {
        assert_eq!(whose(&ledger, token).await.as_deref(), Some("eve"), "a session's end does not end it");
    }
    assert_eq!(ledger.store.write(Revoke { agent: "eve".into() }).await?, LASTING_MAX as u64);
    assert_eq!(whose(&ledger, &tokens[0]).await, None);
    assert_eq!((ledger.count("token.given").await, ledger.count("token.revoked").await), (16, 1));
    assert_eq!(ledger.store.write(Revoke { agent: "eve".into() }).await?, 0);
    assert_eq!(ledger.count("token.revoked").await, 1, "nothing happened, nothing is told");
    Ok(())
}

async fn who_leaves_the_team_is_known_by_nothing(ledger: TestLedger) -> Result<()> {
    ledger.join("eve").await?;
    let token = Token::fresh()?;
    ledger.store.write(given("eve", &token)).await?;
    ledger.store.write(Tell { name: "eve".into(), word: Word::Remove }).await?;
    assert_eq!(whose(&ledger, &token).await, None);
    ledger.join("eve").await?;
    assert_eq!(whose(&ledger, &token).await, None, "who comes back needs a new one");
    assert_eq!(
        ledger.store.write(given("nobody", &token)).await.expect_err("a stranger").kind,
        Kind::NotFound
    );
    Ok(())
}

async fn the_ledger_never_holds_a_token_itself(ledger: TestLedger) -> Result<()> {
    ledger.join("eve").await?;
    let token = Token::fresh()?;
    ledger.store.write(given("eve", &token)).await?;
    for event in ledger.events().await {
        let shown = format!("{event:?}");
        assert!(!shown.contains(token.reveal()) && !shown.contains(&token.digest()), "{shown}");
    }
    Ok(())
}

on_every_backend!(
    a_session_is_known_by_its_token_until_it_ends,
    a_token_is_void_once_its_sessions_lease_has_lapsed,
    a_lasting_token_lasts_until_it_is_revoked,
    who_leaves_the_team_is_known_by_nothing,
    the_ledger_never_holds_a_token_itself,
);

//! The team.

use super::name_of;
use crate::ask::Ask;
use crate::caller::Caller;
use crate::desk::Desk;
use crate::grammar::one_of;
use axum::http::Method;
use quorate_model::Result;
use quorate_model::config::Driver;
use quorate_service::agent::{self as service, Word};
use quorate_service::message::Unread;
use quorate_service::token;
use quorate_service::view;
use quorate_service::wire::{self, shapes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lists agents
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentList {}

impl Ask for AgentList {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/agents";
    const NAME: &'static str = "listAgents";
    const ABOUT: &'static str = "Lists the team";
    type Answer = Vec<wire::Agent>;

    async fn answer(self, desk: &Desk, _: &Caller) -> Result<Vec<wire::Agent>> {
        Ok(shapes(&desk.store().read(view::Agents::default()).await?))
    }
}

/// A new member
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentAdd {
    /// Its name
    name: String,
    /// How it is run; if not said, a new one is external, and one that is there stays as it is
    #[schemars(extend("pattern" = one_of(Driver::ALL.map(Driver::as_str))))]
    driver: Option<String>,
    /// What it can do; if not said, nothing is known of a new one, and one that is there stays as it is
    capabilities: Option<Vec<String>>,
}

impl Ask for AgentAdd {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/agents";
    const NAME: &'static str = "addAgent";
    const ABOUT: &'static str = "Adds an agent to the team, or changes what it can do";
    type Answer = wire::Agent;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<wire::Agent> {
        by.must_be_person("add agents")?;
        let name = name_of("name", self.name)?;
        let driver = self.driver.map(|word| super::field("driver", word.parse::<Driver>())).transpose()?;
        let driver = driver.map(|driver| driver.as_str().to_owned());
        for capability in self.capabilities.iter().flatten().filter(|name| *name != "*") {
            name_of("capabilities", capability.clone())?;
        }
        desk.store()
            .write(service::Add { name: name.clone(), driver, capabilities: self.capabilities })
            .await?;
        Ok((&desk.agent(&name).await?).into())
    }
}

/// Shows one agent
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentShow {
    /// Its name
    name: String,
}

impl Ask for AgentShow {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/agents/{name}";
    const NAME: &'static str = "showAgent";
    const ABOUT: &'static str = "Shows one agent, and what it holds";
    type Answer = wire::AgentStory;

    async fn answer(self, desk: &Desk, _: &Caller) -> Result<wire::AgentStory> {
        let view = desk.agent(&self.name).await?;
        let claims = desk.store().read(view::Claims { agent: Some(self.name.clone()) }).await?;
        let unread = desk.store().read(Unread { agent: self.name }).await?;
        Ok(wire::AgentStory { agent: (&view).into(), claims: shapes(&claims), unread })
    }
}

/// A word to an agent: each is an operation of its own.
macro_rules! words {
    ($($ask:ident $word:ident $method:ident $path:literal $name:literal $about:literal $what:literal;)*) => {$(
        #[doc = $about]
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $ask {
            /// Its name
            name: String,
        }

        impl Ask for $ask {
            const METHOD: Method = Method::$method;
            const PATH: &'static str = $path;
            const NAME: &'static str = $name;
            const ABOUT: &'static str = $about;
            type Answer = Option<wire::Agent>;

            async fn answer(self, desk: &Desk, by: &Caller) -> Result<Option<wire::Agent>> {
                by.must_be_person($what)?;
                tell(desk, self.name, Word::$word).await
            }
        }
    )*};
}

words! {
    AgentPause Pause POST "/agents/{name}/pause" "pauseAgent" "Pauses an agent: it takes nothing more" "pause agents";
    AgentResume Resume POST "/agents/{name}/resume" "resumeAgent" "Lets an agent take work again" "resume agents";
    AgentKill Kill POST "/agents/{name}/kill" "killAgent" "Stops an agent; what it had is tried again, unless its attempts are used up" "stop agents";
    AgentRemove Remove DELETE "/agents/{name}" "removeAgent" "Removes an agent from the team, unless a node runs it; answers with null" "remove agents";
}

async fn tell(desk: &Desk, name: String, word: Word) -> Result<Option<wire::Agent>> {
    desk.tell(&name, word).await?;
    if word == Word::Remove {
        return Ok(None);
    }
    Ok(Some((&desk.agent(&name).await?).into()))
}

/// Gives an agent a token
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentToken {
    /// Its name
    name: String,
}

/// A token, shown once
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Given {
    /// Whose it is
    agent: String,
    /// What the agent sends as `Authorization: Bearer`; nobody can show it again
    token: String,
}

impl Ask for AgentToken {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/agents/{name}/tokens";
    const NAME: &'static str = "giveToken";
    const ABOUT: &'static str = "Gives an agent a token of its own, which lasts until it is revoked";
    type Answer = Given;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Given> {
        by.must_be_person("give tokens")?;
        let token = desk.give_token(&self.name).await?;
        Ok(Given { agent: self.name, token: token.reveal().to_owned() })
    }
}

/// Makes an agent's tokens void
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentTokensRevoke {
    /// Its name
    name: String,
}

/// How many tokens were made void
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Revoked {
    /// How many there were
    revoked: u64,
}

impl Ask for AgentTokensRevoke {
    const METHOD: Method = Method::DELETE;
    const PATH: &'static str = "/agents/{name}/tokens";
    const NAME: &'static str = "revokeTokens";
    const ABOUT: &'static str = "Makes all tokens void that persons gave an agent";
    type Answer = Revoked;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Revoked> {
        by.must_be_person("revoke tokens")?;
        Ok(Revoked { revoked: desk.store().write(token::Revoke { agent: self.name }).await? })
    }
}

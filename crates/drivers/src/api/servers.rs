//! MCP servers whose tools a model may call.
//!
//! Here live their start, the list of their tools and the calls. Each server is a program on standard input and output, in
//! the folder of the task; its name stands before those of its tools. One that does not start costs its tools only.

use super::talk::Offer;
use crate::say::cut;
use rmcp::model::{CallToolRequestParams, Tool};
use rmcp::service::RunningService;
use rmcp::{RoleClient, ServiceExt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::{Child, Command};

/// How long a server may take to say which tools it has.
const START: Duration = Duration::from_secs(60);
/// Tools of all servers; more are left out.
const TOOLS_MAX: usize = 128;
/// The longest name of a tool that every provider takes.
const NAME_MAX: usize = 64;
/// The largest answer of a tool that a model is shown, in bytes.
const ANSWER_MAX: usize = 64 << 10;

/// The servers of one attempt. They end with the value.
#[derive(Default)]
pub(super) struct Servers {
    running: Vec<RunningService<RoleClient, ()>>,
    children: Vec<Child>,
    /// By the name that the model knows: which server, and the name there.
    tools: BTreeMap<String, (usize, Tool)>,
}

impl Servers {
    /// Starts a server and learns its tools.
    ///
    /// # Errors
    /// In words, why it cannot be used.
    pub(super) async fn start(&mut self, name: &str, words: &[String], dir: &Path) -> Result<(), String> {
        let (program, arguments) = words.split_first().ok_or("it names no program")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(dir).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|e| format!("cannot start {program}: {e}"))?;
        let streams = child.stdout.take().zip(child.stdin.take()).ok_or("it has no standard streams")?;
        self.children.push(child);
        self.join(name, streams).await
    }

    /// Begins to speak to a server over these streams.
    pub(super) async fn join<R, W>(&mut self, name: &str, streams: (R, W)) -> Result<(), String>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let begun = async {
            let service = ().serve(streams).await.map_err(|e| e.to_string())?;
            let tools = service.list_all_tools().await.map_err(|e| e.to_string())?;
            Ok::<_, String>((service, tools))
        };
        let in_time = tokio::time::timeout(START, begun).await;
        let (service, tools) =
            in_time.map_err(|_| format!("it did not answer within {} s", START.as_secs()))??;
        let place = self.running.len();
        self.running.push(service);
        for tool in tools {
            let known = format!("{name}_{}", tool.name);
            let is_good = known.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
            if is_good && known.len() <= NAME_MAX && self.tools.len() < TOOLS_MAX {
                self.tools.insert(known, (place, tool));
            }
        }
        Ok(())
    }

    /// What a model is told of the tools.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let offer = |(name, (_, tool)): (&String, &(usize, Tool))| Offer {
            name: name.clone(),
            about: tool.description.as_deref().unwrap_or_default().to_owned(),
            schema: Value::Object((*tool.input_schema).clone()),
        };
        self.tools.iter().map(offer).collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tools.contains_key(name)
    }

    /// Calls a tool; answers with what the model is told, and whether that is an error.
    pub(super) async fn call(&self, name: &str, input: &Value, limit: Duration) -> (String, bool) {
        let Some((place, tool)) = self.tools.get(name) else {
            return (format!("there is no tool {name}"), true);
        };
        let mut params = CallToolRequestParams::new(tool.name.clone());
        params.arguments = input.as_object().cloned();
        let called = tokio::time::timeout(limit, self.running[*place].call_tool(params)).await;
        match called {
            Err(_) => (format!("no answer within {} s", limit.as_secs()), true),
            Ok(Err(e)) => (e.to_string(), true),
            Ok(Ok(result)) => {
                let texts =
                    result.content.iter().filter_map(|block| block.as_text().map(|text| text.text.as_str()));
                let text = texts.collect::<Vec<_>>().join("\n");
                (cut(&text, ANSWER_MAX), result.is_error == Some(true))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::{
        CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig,
    };
    use rmcp::service::{RequestContext, RoleServer};
    use rmcp::{ErrorData, ServerHandler};
    use serde_json::json;
    use std::sync::Arc;

    /// A server with as many tools, which say what they were given.
    struct Echo(usize);

    impl ServerHandler for Echo {
        fn get_info(&self) -> ServerConfig {
            ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
        }

        async fn list_tools(
            &self,
            _: Option<PaginatedRequestParams>,
            _: RequestContext<RoleServer>,
        ) -> Result<ListToolsResult, ErrorData> {
            let schema = Arc::new(json!({ "type": "object" }).as_object().unwrap().clone());
            let tools =
                (0..self.0).map(|n| Tool::new(format!("echo{n}"), "says it again", schema.clone())).collect();
            Ok(ListToolsResult::with_all_items(tools))
        }

        async fn call_tool(
            &self,
            request: CallToolRequestParams,
            _: RequestContext<RoleServer>,
        ) -> Result<CallToolResponse, ErrorData> {
            let arguments = request.arguments.unwrap_or_default();
            let text = arguments.get("text").and_then(Value::as_str).unwrap_or_default();
            let content = vec![ContentBlock::text(format!("{}: {text}", request.name))];
            Ok(if text == "bad" { CallToolResult::error(content) } else { CallToolResult::success(content) }
                .into())
        }
    }

    async fn servers(tools: usize) -> Servers {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(async move {
            if let Ok(running) = Echo(tools).serve(tokio::io::split(theirs)).await {
                let _ = running.waiting().await;
            }
        });
        let mut servers = Servers::default();
        servers.join("own", tokio::io::split(ours)).await.unwrap();
        servers
    }

    #[tokio::test]
    async fn a_tool_is_offered_and_called_under_its_server_s_name() {
        let servers = servers(2).await;
        let offers = servers.offers();
        assert_eq!(
            (offers.len(), offers[0].name.as_str(), offers[0].about.as_str()),
            (2, "own_echo0", "says it again")
        );
        let call = async |name: &str, text: &str| servers.call(name, &json!({ "text": text }), START).await;
        assert_eq!(call("own_echo1", "hi").await, ("echo1: hi".into(), false));
        assert_eq!(call("own_echo1", "bad").await, ("echo1: bad".into(), true));
        assert!(call("echo1", "hi").await.0.contains("there is no tool"));
        let long = call("own_echo0", &"x".repeat(ANSWER_MAX)).await.0;
        assert!(long.ends_with("[7 more bytes left out]"), "{}", long.len());
    }

    #[tokio::test]
    async fn tools_beyond_the_limit_are_left_out() {
        assert_eq!(servers(TOOLS_MAX).await.offers().len(), TOOLS_MAX);
        assert_eq!(servers(TOOLS_MAX + 1).await.offers().len(), TOOLS_MAX);
    }

    #[tokio::test]
    async fn a_server_that_is_none_says_why() {
        let mut servers = Servers::default();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let missing = servers.start("a", &words(&["/nowhere/x"]), Path::new("/")).await;
        assert!(missing.unwrap_err().contains("cannot start"));
        assert!(servers.start("a", &words(&["true"]), Path::new("/")).await.is_err());
        assert!(servers.offers().is_empty());
    }
}

//! All names that leave the house.
//!
//! Those that begin with `gen_ai` are the GenAI semantic conventions of OpenTelemetry (in development); what they have no
//! name for begins with `quorate`.

/// Which conventions: the schema that the names follow.
pub(crate) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";
/// Who tells.
pub(crate) const SCOPE: &str = "quorate";

pub(crate) const SERVICE_NAME: &str = "service.name";
pub(crate) const SERVICE_VERSION: &str = "service.version";
pub(crate) const ERROR_TYPE: &str = "error.type";

pub(crate) const OPERATION: &str = "gen_ai.operation.name";
pub(crate) const PROVIDER: &str = "gen_ai.provider.name";
pub(crate) const AGENT: &str = "gen_ai.agent.name";
pub(crate) const CONVERSATION: &str = "gen_ai.conversation.id";
pub(crate) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(crate) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(crate) const TOKEN_TYPE: &str = "gen_ai.token.type";
pub(crate) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(crate) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(crate) const CACHE_READ_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
pub(crate) const CACHE_WRITE_TOKENS: &str = "gen_ai.usage.cache_creation.input_tokens";

pub(crate) const TOKEN_USAGE: &str = "gen_ai.client.token.usage";
pub(crate) const OPERATION_DURATION: &str = "gen_ai.client.operation.duration";

/// An attempt of an agent at a task.
pub(crate) const INVOKE_AGENT: &str = "invoke_agent";
/// A run.
pub(crate) const INVOKE_WORKFLOW: &str = "invoke_workflow";

pub(crate) const TASK_ID: &str = "quorate.task.id";
pub(crate) const RUN_ID: &str = "quorate.run.id";
pub(crate) const ATTEMPT: &str = "quorate.attempt";
pub(crate) const OUTCOME: &str = "quorate.outcome";
pub(crate) const COST_USD: &str = "quorate.cost.usd";
pub(crate) const COST: &str = "quorate.cost";
pub(crate) const ATTEMPTS: &str = "quorate.attempts";

/// Says whose model it is, as far as its name tells.
pub(crate) fn provider(model: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 7] = [
        ("claude", "anthropic"),
        ("gpt", "openai"),
        ("o1", "openai"),
        ("o3", "openai"),
        ("o4", "openai"),
        ("codex", "openai"),
        ("gemini", "gcp.gemini"),
    ];
    KNOWN.iter().find(|(begin, _)| model.starts_with(begin)).map(|(_, provider)| *provider)
}

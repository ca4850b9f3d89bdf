//! Configurations: any bytes as `quorate.toml`.

use crate::finding;
use quorate_model::config::{
    AGENTS_MAX, AgentConfig, CLEAR_NEVER, COUNT_MAX, CPU_MAX, Config, DURATION_LEAST_MS, Driver,
    LEASE_LEAST_MS, MEMORY_LEAST, TOOLS_MAX, check_store_url,
};
use quorate_model::name::check_name;
use std::collections::HashSet;

/// Reads the bytes; a refusal has its place, and what is accepted is within its limits.
pub fn check(bytes: &[u8]) {
    match Config::parse("quorate.toml", bytes) {
        Ok(config) => check_config(&config),
        Err(found) => finding::check(&found, "quorate.toml", bytes),
    }
}

fn check_config(config: &Config) {
    check_store_url(&config.store.url).expect("a store is of a kind that is known");
    let health = &config.health;
    let retention = &config.retention;
    for ms in [
        health.interval_ms,
        health.stuck_after_ms,
        health.retry_after_ms,
        health.grace_ms,
        health.timeout_ms,
        health.stop_stuck_after_ms.unwrap_or(DURATION_LEAST_MS),
        retention.events_ms,
        retention.attempts_ms,
        retention.logs_ms,
        retention.tasks_ms,
    ] {
        assert!(ms >= DURATION_LEAST_MS, "{ms} ms");
    }
    assert!(health.lease_ms >= LEASE_LEAST_MS);
    assert!((1..=100).contains(&health.max_attempts) && (0..=1000).contains(&health.max_respawns));
    assert!(config.budget.usd_micros.is_none_or(|usd_micros| usd_micros >= 0));
    assert!(config.budget.tokens.is_none_or(|tokens| tokens >= 0));
    assert!((1..=CLEAR_NEVER).contains(&config.orchestrator.clear_at));
    check_members(config);
    config.agent_tables.values().for_each(check_agent);
}

/// Checks that each member of the team has a name of its own.
fn check_members(config: &Config) {
    let members = config.agents();
    assert!(members.len() <= AGENTS_MAX);
    let names: HashSet<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), members.len(), "names are unique");
    for name in names {
        check_name("agent", name).expect("a name is one");
    }
}

fn check_agent(agent: &AgentConfig) {
    assert!((1..=COUNT_MAX).contains(&agent.count));
    assert!(agent.command.is_empty() || agent.driver.has_process());
    assert!(agent.command.first().is_none_or(|program| !program.trim().is_empty()));
    assert!(agent.driver != Driver::Model || (agent.model.is_some() && agent.api.provider.is_some()));
    assert!(agent.api.tools.len() <= TOOLS_MAX);
    for (name, tool) in &agent.api.tools {
        check_name("tool", name).expect("a name is one");
        assert!(tool.command.first().is_some_and(|program| !program.trim().is_empty()));
    }
    for capability in &agent.capabilities {
        check_name("capability", capability).expect("a name is one");
    }
    for variable in agent.env.keys().chain(&agent.env_pass) {
        assert!(
            !variable.is_empty() && !variable.starts_with("QUORATE_") && !variable.contains('='),
            "{variable}"
        );
    }
    for text in agent.command.iter().chain(agent.env.values()).chain(&agent.model).chain(&agent.prompt) {
        assert!(!text.contains('\0'), "a NUL, which no process takes: {text:?}");
    }
    assert!(agent.resources.memory_bytes.is_none_or(|bytes| (MEMORY_LEAST..=1 << 63).contains(&bytes)));
    assert!(agent.resources.cpu_percent.is_none_or(|percent| (1..=CPU_MAX).contains(&percent)));
}

-- Rights for three roles at a ledger on PostgreSQL. Run it as the owner of the tables, in their schema, and again after
-- each new version of Quorate. The roles must be there: an administrator makes them.
--
--   quorate_node    runs everything: adds work, starts agents, removes old history. It cannot change a line of the log.
--   quorate_agent   takes tasks, claims and reports. It adds no work, changes nothing that was asked for, and can neither
--                   change nor remove a line of the log.
--   quorate_reader  reads.
--
-- Nobody but the owner can alter, drop or truncate a table.
begin;
set local client_min_messages = warning;

-- Before PostgreSQL 15 anyone could make tables here.
do $$
begin
    execute format('revoke create on schema %I from public, quorate_node, quorate_agent, quorate_reader', current_schema());
    execute format('grant usage on schema %I to quorate_node, quorate_agent, quorate_reader', current_schema());
    execute format('revoke all on all tables in schema %I from public, quorate_node, quorate_agent, quorate_reader', current_schema());
    execute format('revoke all on all sequences in schema %I from public, quorate_node, quorate_agent, quorate_reader', current_schema());
    execute format('grant select on all tables in schema %I to quorate_node, quorate_agent, quorate_reader', current_schema());
    execute format('grant usage on all sequences in schema %I to quorate_node', current_schema());
end
$$;

grant insert, update, delete on
    runs, tasks, task_needs, attempts, agents, nodes, leaders, claims, claim_waits, messages, tokens, sessions, meta,
    memories, memory_cursor, memory_vectors, checkpoints, usage, budgets
    to quorate_node;
grant insert, delete on events to quorate_node;

-- What happens to a task, not what it asks for: its title, commands, check, claims, place and limits stay as they are.
grant update (state, attempt, failures, term, owner, node, lease_ms, lease_until, due_at, unmet, avoid_agent, avoid_until,
              progress, message, reason, blocked_by, parked_for, claims_since, claims_seen, result, ready_at, started_at,
              active_at, stuck, holds, finished_at)
    on tasks to quorate_agent;
grant update (state, reason, report, finished_at) on runs to quorate_agent;
grant insert on attempts to quorate_agent;
grant update (ended_at, outcome, reason, evidence, tail, log, host, pid, pid_started) on attempts to quorate_agent;
grant insert, update on agents, nodes, leaders to quorate_agent;
grant insert, update, delete on claims, claim_waits to quorate_agent;
-- The token of its own session. Who may write here may speak for any agent by SQL as well, so this adds no power.
grant insert, delete on tokens to quorate_agent;
grant insert, update on sessions to quorate_agent;
grant insert, update (read_at) on messages to quorate_agent;
grant insert on events to quorate_agent;
-- It adds to the memory, and forgets nothing; of what it saved itself, the oldest goes.
grant insert, update on memories, memory_cursor, memory_vectors to quorate_agent;
grant insert, update, delete on checkpoints to quorate_agent;
-- What it has used, but neither how much it may use nor from where that is counted.
grant insert, update on usage to quorate_agent;
grant insert (subject, usd_micros, tokens), update (usd_micros, tokens) on budgets to quorate_agent;
grant usage on sequence log_order to quorate_agent;
commit;

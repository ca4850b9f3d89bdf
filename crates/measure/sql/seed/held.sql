insert into tasks (run_id, key, title, state, priority, run, max_attempts, attempt, term, owner, node, lease_ms,
                   lease_until, created_at, ready_at, started_at, active_at)
with recursive n (i) as (select cast(0 as bigint) union all select i + 1 from n where i < cast($1 as bigint) - 1)
select 1, 'task-' || i, 'Measure one thing', 'running', 1, 'true', 3, 1, 1, 'agent-' || i, cast(i / 64 + 1 as text), 60000,
       now_ms() + 3600000, now_ms(), now_ms(), now_ms(), now_ms() from n;
insert into attempts (task_id, number, term, agent, node, started_at)
select id, attempt, term, owner, node, now_ms() from tasks where state = 'running';

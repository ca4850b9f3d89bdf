insert into tasks (run_id, key, title, state, priority, run, max_attempts, attempt, term, owner, node, result, progress,
                   created_at, ready_at, started_at, active_at, finished_at)
with recursive n (i) as (select cast(1 as bigint) union all select i + 1 from n where i < cast($1 as bigint))
select 1, 'done-' || i, 'Measure one thing', 'completed', i % 3, 'true', 3, 1, 1, 'agent-' || i % 1024, '1', '"ok"', 100,
       now_ms(), now_ms(), now_ms(), now_ms(), now_ms() from n;
insert into attempts (task_id, number, term, agent, node, started_at, ended_at, outcome, evidence)
select id, attempt, term, owner, node, now_ms(), now_ms(), 'completed', 'said' from tasks where state = 'completed'

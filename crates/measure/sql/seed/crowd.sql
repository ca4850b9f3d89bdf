insert into tasks (run_id, key, title, state, priority, run, max_attempts, attempt, term, owner, node, lease_ms,
                   lease_until, due_at, created_at, ready_at, started_at, active_at)
with recursive n (i) as (select cast(0 as bigint) union all select i + 1 from n where i < 9999)
select 1, 'task-' || i, 'Measure one thing',
       case when i < 1000 then 'running' when i < 4000 then 'waiting' when i < 9000 then 'ready' else 'completed' end,
       1, 'true', 3, 1, 1,
       case when i < 1000 then 'agent-' || i end, case when i < 1000 then cast(i / 64 + 1 as text) end, 60000,
       case when i < 1000 then now_ms() + 3600000 end, case when i between 1000 and 3999 then now_ms() + 3600000 end,
       now_ms(), now_ms(), now_ms(), now_ms() from n;
insert into attempts (task_id, number, term, agent, node, started_at)
select id, attempt, term, owner, node, now_ms() from tasks where state = 'running';

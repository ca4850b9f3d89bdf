insert into tasks (run_id, key, title, state, priority, run, max_attempts, created_at, ready_at)
with recursive n (i) as (select cast(1 as bigint) union all select i + 1 from n where i < cast($1 as bigint))
select 1, 'task-' || i, 'Measure one thing', 'ready', i % 3, 'true', 3, now_ms(), now_ms() from n;

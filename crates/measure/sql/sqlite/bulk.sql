begin immediate;
with recursive n (n) as (select 1 union all select n + 1 from n where n < 1000)
insert into tasks (title, state, priority, run, max_attempts, created_at, ready_at)
select 'Measure one thing', 'ready', 1, 'true', 3, now_ms(), now_ms() from n;
insert into events (at, kind, task_id, message)
select now_ms(), 'task.added', id, 'task ' || id || ' added: Measure one thing'
  from (select id from tasks order by id desc limit 1000) order by id;
commit;

with t as (
    insert into tasks (title, state, priority, run, max_attempts, created_at, ready_at)
    values ('Measure one thing', 'ready', 1, 'true', 3, now_ms(), now_ms()) returning id
)
insert into events (seq, at, kind, task_id, message)
select pg_current_xact_id()::text::bigint << 20, now_ms(), 'task.added', id, 'task ' || id || ' added: Measure one thing'
  from t;

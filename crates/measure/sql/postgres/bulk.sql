with t as (
    insert into tasks (title, state, priority, run, max_attempts, created_at, ready_at)
    select 'Measure one thing', 'ready', 1, 'true', 3, now_ms(), now_ms() from generate_series(1, 1000) returning id
)
insert into events (seq, at, kind, task_id, message)
select (pg_current_xact_id()::text::bigint << 20) + row_number() over (), now_ms(), 'task.added', id,
       'task ' || id || ' added: Measure one thing'
  from t;

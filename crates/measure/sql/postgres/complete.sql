with u as (
    update tasks set state = 'completed', result = '"ok"', progress = 100, lease_until = null, reason = null, holds = 0,
           finished_at = now_ms()
     where id = :id and term = :term and state = 'running' and verify is null
    returning id, attempt, term, owner, run_id, key
), a as (
    update attempts set ended_at = now_ms(), outcome = 'completed', evidence = 'said'
      from u where attempts.task_id = :id and attempts.number = u.attempt and attempts.ended_at is null
)
insert into events (seq, at, kind, agent, task_id, run_id, message, data)
select pg_current_xact_id()::text::bigint << 20, now_ms(), 'task.completed', owner, id, run_id,
       'task ' || id || ' (' || key || ') completed',
       '{"attempt":' || attempt || ',"evidence":"said","term":' || term || '}' from u;

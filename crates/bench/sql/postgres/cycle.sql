with t as (
    select id, term, attempt from tasks where state = 'ready' order by priority, id limit 1 for update skip locked
), u as (
    update tasks set state = 'running', term = t.term + 1, attempt = t.attempt + 1, owner = 'agent-' || :client_id,
           node = '1', lease_ms = 60000, lease_until = now_ms() + 60000, started_at = now_ms(), active_at = now_ms(),
           stuck = 0, progress = 0, message = null, reason = null, holds = 0, claims_since = null
      from t where tasks.id = t.id
    returning tasks.id, tasks.term, tasks.attempt, tasks.owner, tasks.run_id, tasks.key
), a as (
    insert into attempts (task_id, number, term, agent, node, started_at)
    select id, attempt, term, owner, '1', now_ms() from u
), e as (
    insert into events (seq, at, kind, agent, task_id, run_id, message, data)
    select pg_current_xact_id()::text::bigint << 20, now_ms(), 'task.taken', owner, id, run_id,
           'task ' || id || ' (' || key || ') taken by ' || owner || ', attempt ' || attempt,
           '{"attempt":' || attempt || ',"lease_ms":60000,"term":' || term || '}' from u
)
select id, term from u \gset
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

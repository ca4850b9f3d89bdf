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
select id, term from u

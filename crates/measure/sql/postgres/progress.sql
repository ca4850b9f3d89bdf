\set i (:i + 1) % 64
\set id :client_id * 64 + :i + 1
with u as (
    update tasks set progress = 50, message = 'half of it', active_at = now_ms(), stuck = 0,
           lease_until = now_ms() + lease_ms
     where id = :id and term = 1 and state = 'running'
    returning id, owner, run_id, key
)
insert into events (seq, at, kind, agent, task_id, run_id, message, data)
select pg_current_xact_id()::text::bigint << 20, now_ms(), 'task.progress', owner, id, run_id,
       'task ' || id || ' (' || key || ') at 50 % half of it', '{"message":"half of it","percent":50}' from u;

\set i (:i + 1) % 64
\set id :client_id * 64 + :i + 1
with u as (
    update tasks set lease_until = now_ms() + 60000, active_at = now_ms(), stuck = 0
     where id = :id and term = 1 and state = 'running'
    returning owner, node
), a as (
    update agents set heartbeat_at = now_ms(), lease_until = now_ms() + 60000
      from u where agents.name = u.owner and agents.node = u.node
)
update nodes set lease_until = now_ms() + 60000 where id = :client_id + 1 and stopped_at is null;

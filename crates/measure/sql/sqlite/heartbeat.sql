update tasks set lease_until = now_ms() + 60000, active_at = now_ms(), stuck = 0
 where id = $id and term = $term and state = 'running'
returning id, term, attempt;
update agents set heartbeat_at = now_ms(), lease_until = now_ms() + 60000
 where name = $agent and node = cast($node as text);
update nodes set lease_until = now_ms() + 60000 where id = $node and stopped_at is null;

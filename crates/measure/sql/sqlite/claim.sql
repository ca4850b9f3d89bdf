update tasks set state = 'running', term = term + 1, attempt = attempt + 1, owner = $agent, node = '1', lease_ms = 60000,
       lease_until = now_ms() + 60000, started_at = now_ms(), active_at = now_ms(), stuck = 0, progress = 0,
       message = null, reason = null, holds = 0, claims_since = null
 where id = (select id from tasks where state = 'ready' order by priority, id limit 1)
returning id, term, attempt;
insert into attempts (task_id, number, term, agent, node, started_at)
values ($id, $attempt, $term, $agent, '1', now_ms());
insert into events (at, kind, agent, task_id, run_id, message, data)
values (now_ms(), 'task.taken', $agent, $id, 1, 'task ' || $id || ' (task) taken by ' || $agent || ', attempt ' || $attempt,
        '{"attempt":' || $attempt || ',"lease_ms":60000,"term":' || $term || '}');

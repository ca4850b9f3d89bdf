update tasks set progress = 50, message = 'half of it', active_at = now_ms(), stuck = 0, lease_until = now_ms() + lease_ms
 where id = $id and term = $term and state = 'running'
returning id, term, attempt;
insert into events (at, kind, agent, task_id, run_id, message, data)
values (now_ms(), 'task.progress', $agent, $id, 1, 'task ' || $id || ' (task) at 50 % half of it',
        '{"message":"half of it","percent":50}');

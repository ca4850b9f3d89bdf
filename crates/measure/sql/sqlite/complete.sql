update tasks set state = 'completed', result = '"ok"', progress = 100, lease_until = null, reason = null, holds = 0,
       finished_at = now_ms()
 where id = $id and term = $term and state = 'running' and verify is null
returning id, term, attempt;
update attempts set ended_at = now_ms(), outcome = 'completed', evidence = 'said'
 where task_id = $id and number = $attempt and ended_at is null;
insert into events (at, kind, agent, task_id, run_id, message, data)
values (now_ms(), 'task.completed', $agent, $id, 1, 'task ' || $id || ' (task) completed',
        '{"attempt":' || $attempt || ',"evidence":"said","term":' || $term || '}');

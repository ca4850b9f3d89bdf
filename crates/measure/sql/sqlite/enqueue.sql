insert into tasks (title, state, priority, run, max_attempts, created_at, ready_at)
values ('Measure one thing', 'ready', 1, 'true', 3, now_ms(), now_ms()) returning id, term, attempt;
insert into events (at, kind, task_id, message)
values (now_ms(), 'task.added', $id, 'task ' || $id || ' added: Measure one thing');

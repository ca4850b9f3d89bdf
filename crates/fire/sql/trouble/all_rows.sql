-- Waits for whoever has changed a task.
select id from tasks for update

-- What has ended: since when, until when.
select 'task', id, started_at, finished_at from tasks where started_at is not null and finished_at is not null
union all select 'an attempt at task', task_id, started_at, ended_at from attempts where ended_at is not null
union all select 'run', id, created_at, finished_at from runs where finished_at is not null

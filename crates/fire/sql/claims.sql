-- Claims that are still there.
select resource, agent, task_id from claims order by id

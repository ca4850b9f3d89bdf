-- The log.
select seq, at, kind, agent, task_id, resource, data from events order by seq

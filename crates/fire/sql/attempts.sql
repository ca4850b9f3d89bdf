-- Every attempt.
select task_id, number, term, node, started_at, ended_at, outcome, reason from attempts order by task_id, number

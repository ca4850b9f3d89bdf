-- Attempts at what only the healed node may do.
select count(*) from attempts a join tasks t on t.id = a.task_id where t.key like 'again%'

-- What a task is to its run.
select id, run_id, key, title, coalesce(owner, ''), case when verify like '@plan%' then 1 else 0 end from tasks order by id

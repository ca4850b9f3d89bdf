-- Runs as they ended.
select id, goal, state, coalesce(reason, ''), coalesce(report, ''),
       (select count(*) from events where run_id = r.id and kind = 'run.replanned')
  from runs r order by id

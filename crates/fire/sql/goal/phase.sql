-- How far a run is: whether it is over, how many plans were made, and how many plans, tasks and reports are open.
select case when r.state = 'running' then 0 else 1 end,
       (select count(*) from tasks where run_id = r.id and verify like '@plan%' and state = 'completed'),
       (select count(*) from tasks where run_id = r.id and verify like '@plan%'
           and state not in ('completed', 'failed', 'cancelled')),
       (select count(*) from tasks where run_id = r.id and verify is null and key not like 'report%'
           and state not in ('completed', 'failed', 'cancelled')),
       (select count(*) from tasks where run_id = r.id and key like 'report%'
           and state not in ('completed', 'failed', 'cancelled'))
  from runs r where r.goal = '$goal'

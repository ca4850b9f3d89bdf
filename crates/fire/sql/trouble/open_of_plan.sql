-- Tasks of the plan that have not ended.
select count(*) from tasks where key like 't%' and state not in ('completed', 'failed', 'cancelled')

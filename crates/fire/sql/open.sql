select count(*) from tasks where state not in ('completed', 'failed', 'cancelled')

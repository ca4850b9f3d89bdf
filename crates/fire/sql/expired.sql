select count(*) from events where kind = 'task.lease_expired'

-- Transactions that have changed something and now wait for a lock.
select count(*) from pg_stat_activity
 where wait_event_type = 'Lock' and backend_xid is not null and application_name = 'quorate'

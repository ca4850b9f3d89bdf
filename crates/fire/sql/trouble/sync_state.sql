-- How the standby follows.
select string_agg(sync_state, ',') from pg_stat_replication where state = 'streaming'

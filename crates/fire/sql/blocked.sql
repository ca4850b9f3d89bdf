-- Connections that wait for one.
select count(*) from pg_stat_activity where $holder = any(pg_blocking_pids(pid))

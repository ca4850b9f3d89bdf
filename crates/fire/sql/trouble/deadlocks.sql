-- Deadlocks that the server has ended.
select sum(deadlocks) from pg_stat_database

-- The server's books of each table: live and dead rows, bytes with indexes.
select relname, n_live_tup, n_dead_tup, pg_total_relation_size(relid) from pg_stat_user_tables order by relname

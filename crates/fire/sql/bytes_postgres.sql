-- Bytes of the database, and of what is written ahead.
select pg_database_size(current_database()), (select coalesce(sum(size), 0) from pg_ls_waldir())

-- Ends the product's connections.
select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'quorate'

-- The product's connections.
select count(*) from pg_stat_activity where application_name = 'quorate'

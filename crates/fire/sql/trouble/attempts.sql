-- How many attempts there were.
select count(*) from attempts

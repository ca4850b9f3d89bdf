-- Keeps the task locked that every taker wants first, until the connection ends.
begin;
select id from tasks where state = 'ready' order by priority, id limit 1 for update

-- Keeps every task locked until the connection ends.
begin;
select id from tasks for update

-- Keeps the task locked that every taker wants first, and has written to the log what nobody sees yet, until it commits.
begin;
insert into events (seq, at, kind, agent, message)
values (log_place((select era from log_era)), log_time(), 'log.line', 'storm', 'the first task was locked: this was written before, and is seen after');
select id from tasks where state = 'ready' order by priority, id limit 1 for update

-- For a list of more than two words SQLite makes a table in memory, each time a row is written whose index asks for it; words
-- that are compared one by one cost next to nothing. Queries say it in the same words, else they do not find the index.
drop index tasks_owned;
create index tasks_owned on tasks (owner) where (state = 'running' or state = 'verifying' or state = 'parked');
drop index tasks_open;
create index tasks_open on tasks (run_id) where state <> 'completed' and state <> 'failed' and state <> 'cancelled';

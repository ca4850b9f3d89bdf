-- After a ledger on PostgreSQL was restored to an earlier moment: run it once, as the owner of the tables, before the
-- first node is started. Whoever still works for what came after that moment can then no longer write.
--
-- Terms and numbers that were given out after the moment are not in the restored ledger, so they would be given out
-- again, and a result for task 7 under term 4 could be taken for that of another task 7 under another term 4. Here all
-- of them jump ahead of what anyone can have. What was running lapses by itself and is done again.
begin;
update tasks set term = term + 1000000 where state <> 'completed';
update agents set term = term + 1000000, node = null, lease_until = null, state = case state when 'failed' then state else 'idle' end;
update leaders set term = term + 1000000, lease_until = 0;
update nodes set stopped_at = now_ms(), lease_until = 0 where stopped_at is null;
select setval(pg_get_serial_sequence(name, 'id'), nextval(pg_get_serial_sequence(name, 'id')) + 1000000)
  from unnest(array['runs', 'tasks', 'nodes', 'claims', 'claim_waits', 'messages', 'memories', 'checkpoints', 'sessions']) as t (name);
-- Places in the log: ahead of those that a follower may have seen.
update log_era set era = era + 4294967296;
select log_event('ledger.restored', null, null, null, null, 'the ledger was restored to an earlier moment', null);
commit;

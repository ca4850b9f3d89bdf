alter table agents add column lease_ms bigint;          -- of its session

-- What was done before this mark was taken away with the end.
update tasks set stuck = 0 where stuck = 1 and state <> 'running';

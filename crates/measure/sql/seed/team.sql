insert into runs (goal, created_at) values ('measure', now_ms());
insert into agents (name, driver, state, node, term, lease_until, heartbeat_at, created_at)
with recursive n (i) as (select cast(0 as bigint) union all select i + 1 from n where i < 1023)
select 'agent-' || i, 'command', 'ready', cast(i / 64 + 1 as text), 1, now_ms() + 3600000, now_ms(), now_ms() from n;
insert into nodes (kind, host, pid, pid_started, folder, started_at, lease_until)
with recursive n (i) as (select cast(1 as bigint) union all select i + 1 from n where i < 64)
select 'up', 'bench', i, '0', '/', now_ms(), now_ms() + 3600000 from n;

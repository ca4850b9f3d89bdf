-- Tasks that a process still holds.
select count(*) from tasks t join nodes n on cast(n.id as text) = t.node where t.state = 'running' and n.pid = $pid

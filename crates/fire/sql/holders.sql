-- The processes that hold a task now.
select distinct n.pid from tasks t join nodes n on cast(n.id as text) = t.node
 where t.state = 'running' and n.stopped_at is null

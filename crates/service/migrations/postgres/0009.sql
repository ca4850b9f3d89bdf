alter table agents add column lease_ms bigint;          -- of its session

-- What was done before this mark was taken away with the end.
update tasks set stuck = 0 where stuck = 1 and state <> 'running';

-- During the first lease after the server's start nobody is judged: no session could be renewed before.
create or replace function detect_stale_agents() returns table (name text, node text, silent_seconds bigint) language plpgsql as $$
#variable_conflict use_column
declare
    freed claims;
begin
    for name, node, silent_seconds in
        update agents a set state = 'stale' where a.state in ('ready', 'blocked') and a.lease_until < now_ms()
           and now_ms() - coalesce(a.lease_ms, 0) > server_started_ms()
        returning a.name, a.node, (now_ms() - a.heartbeat_at) / 1000
    loop
        perform log_event('agent.stale', detect_stale_agents.name, null, null, null,
                          'no sign of life from ' || detect_stale_agents.name || ' until its lease ended',
                          json_build_object('node', detect_stale_agents.node));
        for freed in delete from claims c where c.agent = detect_stale_agents.name and c.task_id is null returning c.*
        loop
            perform log_event('claim.released', freed.agent, null, null, freed.resource,
                              freed.resource || ' released: ' || freed.agent || ' is gone',
                              json_build_object('term', freed.id, 'mode', freed.mode, 'expires_at_ms', freed.expires_at));
        end loop;
        return next;
    end loop;
end
$$;

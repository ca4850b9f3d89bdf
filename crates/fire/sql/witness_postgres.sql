-- Notes each beginning and end of a claim as it is done.
create table fire_claims (n bigserial primary key, op text, id bigint, resource text, agent text);
create function fire_note() returns trigger language plpgsql as $$ begin
    if tg_op = 'INSERT' then
        insert into fire_claims (op, id, resource, agent) values ('taken', new.id, new.resource, new.agent);
    else
        insert into fire_claims (op, id, resource, agent) values ('ended', old.id, old.resource, old.agent);
    end if;
    return null;
end $$;
create trigger fire_note after insert or delete on claims for each row execute function fire_note();

-- Notes each beginning and end of a claim as it is done.
create table fire_claims (n integer primary key autoincrement, op text, id bigint, resource text, agent text);
create trigger fire_taken after insert on claims begin
    insert into fire_claims (op, id, resource, agent) values ('taken', new.id, new.resource, new.agent);
end;
create trigger fire_ended after delete on claims begin
    insert into fire_claims (op, id, resource, agent) values ('ended', old.id, old.resource, old.agent);
end;

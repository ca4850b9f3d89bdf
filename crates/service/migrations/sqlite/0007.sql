create table memory_vectors (
    memory_id integer primary key,
    model     text not null,                             -- whose vector it is: those of others cannot be compared with it
    vector    blob,                                      -- numbers of four bytes, the lowest first; null: the model refused the text
    is_seen   bigint not null default 0                  -- whether others that say the same were looked for
);
create index memory_vectors_unseen on memory_vectors (memory_id) where is_seen = 0;
create trigger memories_gone_vectors after delete on memories begin
    delete from memory_vectors where memory_id = old.id;
end;

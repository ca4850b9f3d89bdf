create table memory_vectors (
    memory_id bigint primary key references memories on delete cascade,
    model     text not null,                             -- whose vector it is: those of others cannot be compared with it
    vector    real[],                                    -- null: the model refused the text
    is_seen   bigint not null default 0                  -- whether others that say the same were looked for
);
-- Such numbers cannot be packed: trying costs time at every write.
alter table memory_vectors alter column vector set storage external;
create index memory_vectors_unseen on memory_vectors (memory_id) where is_seen = 0;

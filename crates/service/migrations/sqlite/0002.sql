create table memories (
    id         integer primary key autoincrement,
    kind       text not null check (kind in
               ('finding', 'episode', 'decision', 'pattern', 'checkpoint', 'message', 'line')),
    text       text not null,
    tags       text not null default '[]',             -- JSON array
    agent      text,                                   -- who found it out
    task_id    bigint,
    run_id     bigint,
    source     text unique,                            -- task:7, attempt:7.2, message:3, event:99, checkpoint:4; null: it was told
    sources    text not null default '[]',             -- JSON array: the last that said the same
    count      bigint not null default 1,              -- how often it was said
    mark       bigint not null,                        -- the same for what says the same
    created_at bigint not null,
    seen_at    bigint not null,                        -- when it was said last
    expires_at bigint                                  -- null: as [memory] says
);

create index memories_mark on memories (mark, kind);
create index memories_seen on memories (kind, seen_at);
create index memories_run on memories (run_id, seen_at) where run_id is not null;
create index memories_expiry on memories (expires_at) where expires_at is not null;

-- The words of each memory, as this program cuts them.
create virtual table memory_words using fts5 (words, content = '', contentless_delete = 1, tokenize = 'ascii');
create trigger memories_gone after delete on memories begin
    delete from memory_words where rowid = old.id;
end;

-- How far the log was read for what it teaches. What is older than the last 100,000 events is history.
create table memory_cursor (seq bigint not null);
insert into memory_cursor (seq) values (coalesce((select seq from events order by seq desc limit 1 offset 100000), -1));

create table checkpoints (
    id         integer primary key autoincrement,
    run_id     bigint,
    agent      text,                                   -- who saved it; null: it was saved by itself
    state      text not null,                          -- JSON
    created_at bigint not null
);
create index checkpoints_agent on checkpoints (agent, id);
create index checkpoints_run on checkpoints (run_id, id) where run_id is not null;

create index messages_answered on messages (reply_to) where reply_to is not null;
create index messages_help on messages (id) where kind = 'help';

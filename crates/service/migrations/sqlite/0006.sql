create table sessions (
    id            integer primary key autoincrement,
    agent         text not null,                         -- whose life it is
    is_named      bigint not null default 0,             -- whether the agent is called after the session
    name          text not null,                         -- what its program calls it
    host          text not null,
    pid           bigint not null,
    pid_started   text not null,                         -- with host and pid, names one process for ever
    model         text,
    used_percent  bigint,                                -- of its context
    used_tokens   bigint,
    window_tokens bigint,                                -- so many fit
    usd_micros    bigint,                                -- what it has cost, in millionths of a dollar
    is_full       bigint not null default 0,             -- the context reached clear_at and has not fallen below it since
    is_cleared    bigint not null default 0,             -- /clear was sent for that
    is_working    bigint not null default 0,             -- a turn goes on
    started_at    bigint not null,
    seen_at       bigint not null,                       -- the last word of its program
    ended_at      bigint
);
create index sessions_name on sessions (name);
create index sessions_process on sessions (pid, host);
create index sessions_agent on sessions (agent, seen_at);

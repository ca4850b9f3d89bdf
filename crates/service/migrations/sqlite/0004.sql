create table usage (
    task_id            bigint not null,
    attempt            bigint not null,
    model              text not null,
    agent              text not null,
    run_id             bigint,
    input_tokens       bigint not null,                -- read anew
    output_tokens      bigint not null,
    cache_read_tokens  bigint not null,
    cache_write_tokens bigint not null,
    usd_micros         bigint,                         -- millionths of a dollar; null: no price is known
    context_tokens     bigint,                         -- in the agent's context when it last spoke of it ...
    context_window     bigint,                         -- ... of so many that fit
    at                 bigint not null,                -- when it was last noted
    primary key (task_id, attempt, model)
);
create index usage_run on usage (run_id) where run_id is not null;
create index usage_agent on usage (agent);
create index usage_unpriced on usage (model) where usd_micros is null;

create table budgets (
    subject         text primary key,                  -- 'run 3', 'agent ada', 'task 7'
    usd_micros      bigint not null default 0,         -- used until now, as far as prices are known
    tokens          bigint not null default 0,         -- used until now: read anew, written, and written to a cache
    from_usd_micros bigint not null default 0,         -- used when a person last let it go on: a budget counts from there
    from_tokens     bigint not null default 0,
    max_usd_micros  bigint,                            -- its own budget, of a task
    max_tokens      bigint
);

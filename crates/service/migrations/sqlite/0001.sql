create table meta (key text primary key, value text not null);

create table runs (
    id          integer primary key autoincrement,
    goal        text not null,
    source      text,                                  -- the plan's file name
    state       text not null default 'running' check (state in ('running', 'completed', 'failed', 'cancelled')),
    reason      text,
    detached    bigint not null default 0,
    report      text,                                  -- the folder of the written report
    created_at  bigint not null,
    finished_at bigint
);
create index runs_open on runs (id) where state = 'running';

create table tasks (
    id           integer primary key autoincrement,
    run_id       bigint,
    key          text,                                 -- unique in its run
    title        text not null,
    state        text not null check (state = 'running' or state = 'completed' or state = 'ready'
                 or state = 'waiting' or state = 'verifying' or state = 'failed' or state = 'cancelled' or state = 'parked'),
    priority     bigint not null default 1,            -- 0 high, 1 medium, 2 low
    capability   text,                                 -- which agents may take it
    agent        text,                                 -- or the one agent that may
    run          text,                                 -- a command ...
    prompt       text,                                 -- ... or words
    verify       text,
    claims       text,                                 -- JSON array, taken together with the task
    outputs      text,                                 -- JSON array
    timeout_ms   bigint,
    max_attempts bigint not null,
    attempt      bigint not null default 0,            -- number of the latest attempt
    failures     bigint not null default 0,            -- attempts that count against max_attempts
    term         bigint not null default 0,
    owner        text,                                 -- who has or last had it
    node         text,                                 -- which node supervises it
    lease_ms     bigint,
    lease_until  bigint,                               -- null unless someone holds it
    not_before   bigint,                               -- as the task was added
    due_at       bigint,                               -- waiting or parked until then: not_before, a retry's pause, a limit's end
    needs        bigint not null default 0,            -- how many tasks it needs
    unmet        bigint not null default 0,            -- those of them that are not completed
    dependents   bigint not null default 0,            -- tasks that need it
    avoid_agent  text,                                 -- failed it last: another is preferred ...
    avoid_until  bigint,                               -- ... until then
    progress     bigint not null default 0,
    message      text,
    reason       text,                                 -- why it is in its state
    blocked_by   bigint,                               -- the need whose end cancelled it
    parked_for   text,                                 -- why it was put aside, until it goes on
    claims_since bigint,                               -- passed over for its claims since then ...
    claims_seen  bigint,                               -- ... and the last time then
    result       text,                                 -- JSON
    created_at   bigint not null,
    ready_at     bigint,
    started_at   bigint,
    active_at    bigint,                               -- last sign of life
    stuck        bigint not null default 0,
    holds        bigint not null default 0,            -- whether claims are bound to it
    finished_at  bigint
);
create unique index tasks_key on tasks (run_id, key) where run_id is not null and key is not null;
create index tasks_ready on tasks (priority, id) where state = 'ready';
create index tasks_due on tasks (due_at) where state = 'waiting' and unmet = 0;
create index tasks_blockers on tasks (blocked_by) where blocked_by is not null;
create index tasks_leased on tasks (lease_until) where state in ('running', 'verifying');
create index tasks_owned on tasks (owner) where state in ('running', 'verifying', 'parked');
create index tasks_parked on tasks (due_at) where state = 'parked';
create index tasks_blocked on tasks (claims_since) where state = 'ready' and claims_since is not null;
create index tasks_unchecked on tasks (id) where state = 'verifying';
create index tasks_open on tasks (run_id) where state not in ('completed', 'failed', 'cancelled');
create index tasks_run on tasks (run_id, id) where run_id is not null;

create table task_needs (
    task_id  bigint not null,
    needs_id bigint not null,
    primary key (task_id, needs_id)
);
create index task_needs_back on task_needs (needs_id);

create table attempts (
    task_id     bigint not null,
    number      bigint not null,
    term        bigint not null,
    agent       text not null,
    node        text,
    started_at  bigint not null,
    ended_at    bigint,
    outcome     text check (outcome = 'completed' or outcome = 'failed' or outcome = 'timed_out'
                or outcome = 'verify_failed' or outcome = 'lost' or outcome = 'released' or outcome = 'cancelled'
                or outcome = 'parked'),
    reason      text,
    evidence    text,                                  -- said, checked (by the supervisor)
    tail        text,                                  -- the end of its output
    log         text,                                  -- file with its kept output, on the host that ran it
    host        text,
    pid         bigint,
    pid_started text,                                  -- with pid, names one process for ever
    primary key (task_id, number)
);
create index attempts_alive on attempts (host) where pid is not null;

create table agents (
    name         text primary key,
    driver       text not null,
    capabilities text not null default '[]',           -- JSON array; ["*"] is every capability
    state        text not null default 'idle' check (state in ('idle', 'ready', 'blocked', 'stale', 'failed')),
    takes        text not null default 'any',          -- which work it takes: any, run, prompt
    reason       text,
    paused       bigint not null default 0,
    removed      bigint not null default 0,
    node         text,                                 -- where its session lives
    pid          bigint,
    host         text,
    term         bigint not null default 0,            -- of its session
    lease_until  bigint,                               -- of its session; null without one
    heartbeat_at bigint,
    respawns     bigint not null default 0,
    last_crash   bigint,                               -- task at which its process last died
    created_at   bigint not null
);

create table nodes (
    id          integer primary key autoincrement,
    kind        text not null,                         -- up, run, agent
    host        text not null,
    pid         bigint not null,
    pid_started text not null,
    folder      text not null,
    started_at  bigint not null,
    lease_until bigint not null,
    stopped_at  bigint
);

create table leaders (
    duty        text primary key,                      -- what only one node does
    node        bigint not null,
    term        bigint not null,
    lease_until bigint not null
);

create table claims (
    id         integer primary key autoincrement,           -- is its term: grows with every holding
    resource   text not null,
    agent      text not null,
    task_id    bigint,
    mode       text not null check (mode in ('exclusive', 'shared')),
    taken_at   bigint not null,
    ttl_ms     bigint,                                 -- null: as long as its task is held
    left_term  bigint,                                 -- the holding it was taken from while its child may still run
    expires_at bigint not null
);
create index claims_task on claims (task_id) where task_id is not null;
create index claims_agent on claims (agent);
create index claims_expiry on claims (expires_at);

create table claim_waits (
    id        integer primary key autoincrement,            -- first come, first served
    resources text not null,                           -- JSON array
    agent     text not null,
    mode      text not null,
    since     bigint not null,
    seen_at   bigint not null,
    deadline  bigint not null
);

create table messages (
    id         integer primary key autoincrement,
    sender     text not null,
    recipient  text not null,
    kind       text not null check (kind in ('note', 'help', 'handoff', 'reply')),
    text       text not null,
    task_id    bigint,
    reply_to   bigint,
    created_at bigint not null,
    read_at    bigint
);
create index messages_unread on messages (recipient, id) where read_at is null;
create index messages_to on messages (recipient, id);

create table events (
    seq      integer primary key autoincrement,
    at       bigint not null,
    kind     text not null,
    agent    text,
    task_id  bigint,
    run_id   bigint,
    resource text,
    message  text not null,
    data     text                                      -- JSON object
);
create index events_resource on events (resource, seq) where resource is not null;
create index events_agent on events (agent, at desc) where agent is not null;
create index events_task on events (task_id, seq) where task_id is not null;

create view agent_log as
select e.seq, strftime('%Y-%m-%dT%H:%M:%fZ', e.at / 1000.0, 'unixepoch') as at, e.agent, e.kind, e.resource, e.task_id, e.message, e.data
  from events e where e.agent is not null;

create view running_tasks as
select t.id, t.run_id, t.key, t.title, t.owner as agent, t.node, t.attempt, t.term, t.progress, t.message,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.started_at / 1000.0, 'unixepoch') as started_at, strftime('%Y-%m-%dT%H:%M:%fZ', t.lease_until / 1000.0, 'unixepoch') as lease_until
  from tasks t where t.state in ('running', 'verifying');

create view stuck_tasks as
select t.id, t.run_id, t.key, t.title, t.owner as agent, t.attempt,
       strftime('%Y-%m-%dT%H:%M:%fZ', t.active_at / 1000.0, 'unixepoch') as last_sign_of_life, (cast(unixepoch('subsec') * 1000 as integer) - t.active_at) / 1000 as silent_seconds
  from tasks t where t.state = 'running' and t.stuck = 1;

create view stale_agents as
select a.name, a.driver, a.node, a.host, a.pid, strftime('%Y-%m-%dT%H:%M:%fZ', a.heartbeat_at / 1000.0, 'unixepoch') as heartbeat_at, strftime('%Y-%m-%dT%H:%M:%fZ', a.lease_until / 1000.0, 'unixepoch') as lease_until
  from agents a where a.removed = 0 and (a.state = 'stale' or a.lease_until < cast(unixepoch('subsec') * 1000 as integer));

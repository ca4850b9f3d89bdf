-- By which the network knows an agent. Only what a token comes to when it is hashed is kept.
create table tokens (
    digest     text primary key,                       -- SHA-256 of the token, hexadecimal
    agent      text not null,
    node       text,                                   -- where the session lives that it was given to; null: until it is revoked
    created_at bigint not null
);
create index tokens_agent on tokens (agent);

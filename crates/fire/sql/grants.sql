-- Claims as they began and ended, as the witness saw it.
select n, op, id, resource, agent from fire_claims order by n

-- What the first node had when it was cut off.
select key, id, attempt, lease_until, state from tasks where key like 'beat%' or key like 'late%' order by id

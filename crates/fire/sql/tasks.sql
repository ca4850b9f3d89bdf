-- Every task as it ended.
select id, key, state, case when verify is null then 0 else 1 end, result, coalesce(reason, ''), coalesce(owner, ''),
       coalesce(node, ''), run
  from tasks order by id

-- The run of a goal, or 0.
select coalesce(max(id), 0) from runs where goal = '$goal'

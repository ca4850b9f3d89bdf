-- The node that a process is.
select id from nodes where pid = $pid

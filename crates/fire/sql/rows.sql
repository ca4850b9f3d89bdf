-- Rows of the tables that grow with the work.
select (select count(*) from tasks), (select count(*) from attempts), (select count(*) from events),
       (select count(*) from messages), (select count(*) from runs), (select count(*) from task_needs),
       (select count(*) from memories)

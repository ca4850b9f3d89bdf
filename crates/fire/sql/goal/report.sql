-- Runs of a goal whose report was written.
select count(*) from runs where goal = '$goal' and report is not null

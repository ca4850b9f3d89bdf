-- First attempts whose child was started and noted.
select count(*) from attempts where number = 1 and log is not null

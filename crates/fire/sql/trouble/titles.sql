-- Tasks that were added by themselves.
select id, title from tasks where coalesce(key, '') = ''

-- Tasks that somebody has for the second time.
select count(*) from tasks where attempt = 2 and state = 'running'

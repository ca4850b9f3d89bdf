select count(*) as n from tasks where state = $1

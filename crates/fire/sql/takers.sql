select count(distinct agent) from attempts

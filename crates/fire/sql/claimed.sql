select count(*) from claims

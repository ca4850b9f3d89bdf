-- Results that came too late.
select count(*) from events where kind = 'write.refused' and data like '%"done"%'

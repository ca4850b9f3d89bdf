\set i :i + 1
\set id :client_id * :span + :i

-- Keeps the lock of the claims until the connection ends.
begin;
select pg_advisory_xact_lock(hashtext('quorate.claims'), hashtext(current_schema()))

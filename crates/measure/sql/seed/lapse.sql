update tasks set lease_until = now_ms() - 1 where state = 'running';
update agents set lease_until = now_ms() - 1;

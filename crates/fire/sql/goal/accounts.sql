-- What counts against budgets.
select subject, usd_micros, tokens from budgets order by subject

-- What each attempt has used of each model.
select task_id, attempt, model, coalesce(run_id, 0), agent, input_tokens, output_tokens, cache_read_tokens,
       cache_write_tokens, coalesce(usd_micros, -1)
  from usage order by task_id, attempt, model

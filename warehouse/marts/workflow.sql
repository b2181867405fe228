-- marts.workflow: sessions and traces as chains of calls.
--
-- A row is a chain on one UTC day. Nothing but sizes, times and outcomes is looked at, save for tools' failures, which only the
-- messages tell. An agent that is stuck sends the same step again and again: the same tool call, the same result, so that every
-- answer has the same size and the input grows by the same amount each time.
--
-- Two passes over the calls: one sums what needs no order; the other puts the calls of each chain in order, and carries no more than that
-- takes, with a hash for the chain and numbers for words, as sorting is what costs.
with call as not materialized (
    select
        inference_id, started_at, finished_at, cast(started_at as date) as usage_day, source, session_id is not null as is_session,
        coalesce(session_id, trace_id) as chain_id,
        hash(cast(started_at as date), source, session_id is not null, coalesce(session_id, trace_id)) as chain_no,
        request_model, response_model, status = 'ok' as is_ok, finish_reason, retry_count, tool_call_count, tenant, team, workload, environment, traffic_kind,
        coalesce(input_uncached_tokens, 0) + coalesce(cache_read_tokens, 0) + coalesce(cache_write_5m_tokens, 0)
            + coalesce(cache_write_1h_tokens, 0) + coalesce(input_audio_tokens, 0) + coalesce(input_image_tokens, 0) as input_tokens,
        coalesce(output_text_tokens, 0) + coalesce(reasoning_tokens, 0) + coalesce(output_audio_tokens, 0)
            + coalesce(output_image_tokens, 0) as output_tokens
    from core.inference
    where started_at >= $from_day and started_at < $to_day and coalesce(session_id, trace_id) is not null
),
-- 1. What needs no order.
day_chain as materialized (
    select
        usage_day, source, case when is_session then 'session' else 'trace' end as chain_kind, chain_id, chain_no,
        max(tenant) as tenant, max(team) as team, max(workload) as workload, max(environment) as environment, max(traffic_kind) as traffic_kind,
        min(started_at) as first_call_at, max(started_at) as last_call_at,
        count(*) as call_count, count(*) filter (where not is_ok) as error_count,
        sum(tool_call_count) as tool_call_count, sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens,
        date_diff('microsecond', min(started_at), max(greatest(started_at, coalesce(finished_at, started_at)))) / 1000.0 as elapsed_ms,
        sum(case when finished_at >= started_at then date_diff('microsecond', started_at, finished_at) end) / 1000.0 as model_ms
    from call
    group by usage_day, source, is_session, chain_id, chain_no
),
-- 2. What lies in the order of the calls.
model as materialized (
    select *, dense_rank() over (order by model_name) as model_no
    from (
        select request_model, response_model, coalesce(model_name(response_model), model_name(request_model), '?') as model_name
        from (select distinct request_model, response_model from call) as pair
    ) as named
),
costed as (
    select
        call.chain_no, call.started_at, hash(call.inference_id) as call_hash, call.is_ok, cast(model.model_no as integer) as model_no,
        cast(call.input_tokens as integer) as input_tokens, cast(call.output_tokens as integer) as output_tokens,
        cast(call.retry_count as integer) as retry_count, cost.list_cost_usd,
        case when not call.is_ok then 1
             when is_truncated(call.finish_reason) or is_withheld(call.finish_reason) then 2
             when lower(call.finish_reason) in ('tool_calls', 'tool_use', 'tool-calls', 'tool_call', 'function_call') then 3 else 0 end as ending
    from call
    join model on model.request_model is not distinct from call.request_model and model.response_model is not distinct from call.response_model
    left join (select inference_id, list_cost_usd from marts.call_cost where started_at >= $from_day and started_at < $to_day) as cost
        on cost.inference_id = call.inference_id
),
step as (
    select *,
        lag(is_ok) over chain as was_ok,
        lag(model_no) over chain as model_no_before,
        lag(input_tokens) over chain as input_1, lag(input_tokens, 2) over chain as input_2, lag(input_tokens, 3) over chain as input_3,
        lag(output_tokens) over chain as output_1, lag(output_tokens, 2) over chain as output_2, lag(output_tokens, 3) over chain as output_3,
        lead(is_ok) over chain as will_be_ok
    from costed
    window chain as (partition by chain_no order by started_at, call_hash)
),
judged as (
    select *,
        not was_ok as is_after_error,
        was_ok is null or model_no <> model_no_before as is_takeover,
        coalesce(was_ok and input_tokens > 0 and input_tokens = input_1, false) as is_reask,
        -- Growth of the input in the last three steps, and sizes of the last four answers.
        case when output_3 is not null and input_tokens > input_1 and input_1 > input_2 and input_2 > input_3
             then greatest(input_tokens - input_1, input_1 - input_2, input_2 - input_3) - least(input_tokens - input_1, input_1 - input_2, input_2 - input_3)
                     <= greatest(4, (input_tokens - input_1) // 20)
                 and greatest(output_tokens, output_1, output_2, output_3) - least(output_tokens, output_1, output_2, output_3) <= greatest(4, output_tokens // 20)
             else false end as is_stuck_step
    from step
),
ordered as (
    select
        chain_no,
        count(*) filter (where is_after_error and not is_takeover)
            + coalesce(sum(retry_count) filter (where is_after_error is distinct from true), 0) as retry_count,
        count(*) filter (where is_after_error and is_takeover) as fallback_count,
        count(*) filter (where not is_ok and will_be_ok) as recovered_count,
        count(*) filter (where is_reask) as reask_count,
        list(model_no order by started_at, call_hash) filter (where is_takeover) as model_nos,
        count(*) filter (where is_takeover) - 1 as model_change_count,
        count(*) filter (where is_stuck_step) as stuck_call_count,
        max(case when will_be_ok is null then ending end) as ending,
        sum(list_cost_usd) as list_cost_usd,
        sum(list_cost_usd) filter (where is_stuck_step or is_reask) as repeated_cost_usd,
        count(*) - count(list_cost_usd) as unpriced_count
    from judged
    group by chain_no
),
-- 3. What only the messages tell: Anthropic marks a failed tool's result; others begin its text with the word.
tool_error as (
    select call.chain_no, max(failed.tool_error_count) as tool_error_count
    from (
        select inference_id,
            len(regexp_extract_all(input_messages, '"is_error": ?true')) + len(regexp_extract_all(input_messages, '"content": ?"(?:Error|Traceback|[{]\\"error\\")')) as tool_error_count
        from core.inference_content
        where started_at >= $from_day and started_at < $to_day and input_messages is not null
    ) as failed
    join call on call.inference_id = failed.inference_id
    group by call.chain_no
),
neighbour as (
    select usage_day, source, chain_kind, chain_id from day_chain
    union all
    select distinct cast(started_at as date), source, case when session_id is not null then 'session' else 'trace' end, coalesce(session_id, trace_id)
    from core.inference
    where coalesce(session_id, trace_id) is not null
      and ((started_at >= cast($from_day as date) - 1 and started_at < $from_day) or (started_at >= $to_day and started_at < cast($to_day as date) + 1))
),
rating as (
    select target_kind, target_id, avg(value_number) as rating
    from core.feedback
    where target_kind in ('session', 'trace') and (kind = 'boolean' or (kind = 'number' and value_number between 0 and 1))
      and given_at >= $from_day and given_at < cast($to_day as date) + 1
    group by target_kind, target_id
)
select
    day_chain.*, ordered.* exclude (chain_no, ending, model_nos),
    -- The names by their numbers.
    array_to_string(list_transform(model_nos, lambda n: model_names[n]), ' > ') as model_path,
    tool_error.tool_error_count,
    stuck_call_count > 0 as is_stuck,
    before.chain_id is not null as is_continued,
    case when after.chain_id is not null then 'continues' when ending = 1 then 'failed' when ending = 2 then 'cut_off' when ending = 3 then 'waiting_for_tool'
         else 'answered' end as ended_as,
    after.chain_id is null and ending > 0 as is_abandoned,
    rating.rating,
    case when after.chain_id is not null then null when rating.rating is not null then rating.rating >= 0.5 else ending = 0 and stuck_call_count = 0 end as is_success,
    case when after.chain_id is not null then null when rating.rating is not null then 'rating' else 'ending' end as success_basis
from day_chain
cross join (select list(distinct model_name order by model_name) as model_names from model) as dictionary
join ordered on ordered.chain_no = day_chain.chain_no
left join tool_error on tool_error.chain_no = day_chain.chain_no
left join neighbour as before
    on before.source = day_chain.source and before.chain_kind = day_chain.chain_kind and before.chain_id = day_chain.chain_id
    and before.usage_day = day_chain.usage_day - 1
left join neighbour as after
    on after.source = day_chain.source and after.chain_kind = day_chain.chain_kind and after.chain_id = day_chain.chain_id
    and after.usage_day = day_chain.usage_day + 1
left join rating on rating.target_kind = day_chain.chain_kind and rating.target_id = day_chain.chain_id

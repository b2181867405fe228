-- datasets.routing_log: one row a call that was a choice among two or more models.
--
-- Candidates and propensity are those logged where they were, and make sense; else they are estimated from what was chosen in
-- the seven days up to the call's own, and say so. The estimate is an empirical frequency among calls that had the same candidates, as far as
-- these were logged, shrunk in two steps.
with numbered as (
    select
        inference_id, started_at, cast(started_at as date) as usage_day, source, tenant, user_id, session_id, trace_id, workload, traffic_kind, environment,
        provider_name, is_streaming, request_model as action, routing_policy, routing_candidates, routing_propensity, finished_at, first_token_at,
        coalesce(session_id, inference_id) as session, row_number() over (partition by source, coalesce(session_id, inference_id) order by started_at, inference_id) as nth,
        list_sort(list_distinct(from_json(case when json_valid(routing_candidates) then routing_candidates end, '["VARCHAR"]'))) as listed,
        -- Candidates without what was chosen are none.
        case when array_contains(listed, request_model) then listed end as logged_candidates,
        concat_ws(chr(31), source, coalesce(workload, chr(30)), coalesce(to_json(logged_candidates)::varchar, chr(30))) as place,
        concat_ws(chr(31), place, coalesce(traffic_kind, chr(30))) as corner
    from core.inference
    where started_at >= $from_day - interval 6 day and started_at < $to_day and request_model is not null
      and is_generation(operation_name)
),
-- Of a session that goes on for longer, the calls of the six days up to each count, whatever days are built together.
call as (
    select *, nth - min(nth) over (partition by source, session order by started_at range between interval 6 day preceding and current row) as turn_count
    from numbered
),
day as (
    select distinct usage_day from call where usage_day >= $from_day
),
daily as (
    select usage_day, place, corner, action, count(*) as chosen from call group by usage_day, place, corner, action
),
-- Choices of the seven days up to each day, in the corner and in the whole place.
cornered as (
    select day.usage_day, daily.place, daily.corner, daily.action, sum(daily.chosen) as chosen
    from day
    join daily on daily.usage_day between day.usage_day - interval 6 day and day.usage_day
    group by day.usage_day, daily.place, daily.corner, daily.action
),
corner_total as (
    select usage_day, corner, sum(chosen) as chosen from cornered group by usage_day, corner
),
placed as (
    select usage_day, place, action, sum(chosen) as chosen from cornered group by usage_day, place, action
),
place_total as (
    select usage_day, place, sum(chosen) as chosen, count(*) as candidate_count, array_to_string(list(distinct action order by action), chr(31)) as candidates
    from placed
    group by usage_day, place
),
decided as (
    select
        call.*,
        string_split(place_total.candidates, chr(31)) as seen_candidates,
        coalesce(cornered.chosen, 0) as corner_chosen, corner_total.chosen as corner_calls, placed.chosen as place_chosen, place_total.chosen as place_calls
    from call
    join place_total on place_total.usage_day = call.usage_day and place_total.place = call.place
    join placed on placed.usage_day = call.usage_day and placed.place = call.place and placed.action = call.action
    join corner_total on corner_total.usage_day = call.usage_day and corner_total.corner = call.corner
    join cornered on cornered.usage_day = call.usage_day and cornered.corner = call.corner and cornered.action = call.action
    where call.usage_day >= $from_day
),
chosen as (
    select *,
        logged_candidates is not null as is_logged,
        coalesce(logged_candidates, seen_candidates) as candidates
    from decided
)
select
    chosen.inference_id, chosen.started_at, chosen.source, chosen.tenant, chosen.user_id, chosen.session_id, chosen.trace_id,
    chosen.workload, chosen.traffic_kind, chosen.environment,
    extract(hour from chosen.started_at) as hour_count,
    case when chosen.session_id is not null then chosen.turn_count end as turn_count,
    chosen.is_streaming, cost.input_tokens, told.message_count, told.tool_definition_count,
    told.prompt_character_count, told.prompt_word_count, told.has_code, told.prompt, told.prompt_key,
    cast(to_json(chosen.candidates) as varchar) as routing_candidates,
    len(chosen.candidates) as candidate_count,
    case when chosen.is_logged then 'logged' else 'estimated' end as candidates_kind,
    chosen.action, chosen.provider_name, cost.model_name,
    case when chosen.is_logged and chosen.routing_propensity > 0 and chosen.routing_propensity <= 1 then chosen.routing_propensity
        else (chosen.corner_chosen + 10 * (chosen.place_chosen + 10 * 1.0 / len(chosen.candidates)) / (chosen.place_calls + 10)) / (chosen.corner_calls + 10)
        end as propensity_share,
    case when chosen.is_logged and chosen.routing_propensity > 0 and chosen.routing_propensity <= 1 then 'logged' else 'estimated' end as propensity_kind,
    chosen.routing_policy,
    outcome.outcome_share as reward, outcome.confidence_share, outcome.outcome_status, coalesce(outcome.is_matured, false) as is_matured,
    cost.output_tokens, cost.list_cost_usd,
    date_diff('millisecond', chosen.started_at, chosen.finished_at) as latency_ms,
    date_diff('millisecond', chosen.started_at, chosen.first_token_at) as first_token_ms
from chosen
left join marts.prompt as told on told.inference_id = chosen.inference_id and told.started_at >= $from_day and told.started_at < $to_day
left join marts.call_cost as cost on cost.inference_id = chosen.inference_id and cost.started_at >= $from_day and cost.started_at < $to_day
left join marts.call_outcome as outcome on outcome.inference_id = chosen.inference_id and outcome.started_at >= $from_day and outcome.started_at < $to_day
where len(chosen.candidates) >= 2

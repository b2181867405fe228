-- What people, evaluators and behaviour say about the calls of a chunk. Thumbs are rare, late, and come more often from the
-- disappointed; evaluator-b is worse than evaluator-a; undo and copy are what users do, not what they say.
with signal as (
    select *, 'thumbs' as name, 'boolean' as kind, 'user' as rater_kind, user_id as rater_id,
        cast(success <> (draw(call_key, 'thumbs flip') < 0.08) as double) as value_number,
        finished_at + to_seconds(cast(least(259200, 30 - 21600 * ln(1 - draw(call_key, 'thumbs delay'))) as bigint)) as given_at
    from simulate_call
    where traffic_kind = 'human' and status = 'ok' and draw(call_key, 'thumbs') < case when success then 0.04 else 0.10 end
    union all by name
    select *, 'helpfulness' as name, 'number' as kind, 'evaluator' as rater_kind, 'evaluator-a' as rater_id,
        round(greatest(0, least(1, case when success then 0.80 else 0.35 end + 0.15 * draw_normal(call_key, 'evaluator-a'))), 2) as value_number,
        finished_at + to_seconds(cast(60 + 600 * draw(call_key, 'evaluator-a delay') as bigint)) as given_at
    from simulate_call
    where status = 'ok' and draw(call_key, 'evaluator-a picks') < 0.20
    union all by name
    select *, 'helpfulness' as name, 'number' as kind, 'evaluator' as rater_kind, 'evaluator-b' as rater_id,
        round(greatest(0, least(1, case when success then 0.66 else 0.52 end + 0.25 * draw_normal(call_key, 'evaluator-b'))), 2) as value_number,
        finished_at + to_seconds(cast(60 + 7200 * draw(call_key, 'evaluator-b delay') as bigint)) as given_at
    from simulate_call
    where status = 'ok' and format <> 'otel' and draw(call_key, 'evaluator-b picks') < 0.10
    union all by name
    select *, 'undo' as name, 'boolean' as kind, 'implicit' as rater_kind, user_id as rater_id, 1.0 as value_number,
        finished_at + to_seconds(cast(5 + 90 * draw(call_key, 'undo delay') as bigint)) as given_at
    from simulate_call
    where status = 'ok' and draw(call_key, 'undo') < case when success then 0.01 else 0.15 end
    union all by name
    select *, 'copy' as name, 'boolean' as kind, 'implicit' as rater_kind, user_id as rater_id, 1.0 as value_number,
        finished_at + to_seconds(cast(3 + 60 * draw(call_key, 'copy delay') as bigint)) as given_at
    from simulate_call
    where status = 'ok' and traffic_kind = 'human' and draw(call_key, 'copy') < case when success then 0.25 else 0.03 end
    union all by name
    select * exclude (call_key), session_key as call_key, 'task_success' as name, 'boolean' as kind, 'rule' as rater_kind, 'crm' as rater_id,
        cast(success as double) as value_number,
        finished_at + to_seconds(cast(3600 + 172800 * draw(session_key, 'task delay') as bigint)) as given_at
    from (select *, row_number() over (partition by session_key order by call_no desc) as from_last from simulate_call)
    where from_last = 1 and status = 'ok' and workload in ('support_reply', 'invoice_extraction') and draw(session_key, 'task') < 0.15
)
select
    'fb-' || hex16(call_key, name || ' ' || rater_kind || ' ' || case when rater_kind = 'evaluator' then rater_id else '' end) as feedback_id,
    case
        when name in ('thumbs', 'helpfulness') and format in ('langfuse', 'tensorzero') then format
        when name = 'task_success' and format = 'tensorzero' then 'tensorzero'
        when name = 'thumbs' and format = 'helicone' then 'helicone'
        when rater_id = 'evaluator-a' and format = 'otel' then 'otel'
        else 'feedback'
    end as channel,
    case when name = 'task_success' then 'session' else 'call' end as target_kind,
    case when name = 'task_success' then session_id else inference_id end as target_id,
    name, kind, value_number, rater_kind, rater_id, given_at,
    call_no, call_key, session_key, native_id, trace_id, started_at
from signal
order by call_no, name, rater_id

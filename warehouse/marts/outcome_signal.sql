-- marts.outcome_signal: signals of all kinds, brought to their calls and onto a scale of 0 (bad) to 1 (good).
--
-- How a signal is read is data: the first row of signal_rule (schemas/reference/signal.csv, a user's own rows first) whose
-- pattern its name matches. A signal about a session or trace is brought to its calls made before it, and says whether the
-- call was the last one then: what an outcome of the whole says of a part is learnt apart for the last part and the others.
-- Two sources may call different sessions alike: where the signal's own source has calls of that name, it speaks of these only.
with call as (
    select inference_id, started_at, source, session_id, trace_id, coalesce(finished_at, started_at) as ended_at
    from core.inference
    where started_at >= $from_day - interval 14 day and started_at < $to_day + interval 14 day
),
given as (
    select
        feedback_id, source as given_source, target_kind, target_id, lower(trim(name)) as signal_name, kind, value_number, lower(trim(value_text)) as value_text,
        coalesce(rater_kind, 'unknown') as rater_kind, rater_id, given_at
    from core.feedback
    where given_at >= $from_day - interval 1 day and given_at < $to_day + interval 14 day
),
named as (
    select distinct signal_name, kind, rater_kind from given
    union
    select distinct signal_name, 'boolean', 'implicit' from marts.implicit_signal
),
ruled as (
    select named.signal_name, named.kind, named.rater_kind, rule.*,
        row_number() over (partition by named.signal_name, named.kind, named.rater_kind order by rule.rule_no) as rule_rank
    from named
    join signal_rule as rule
        on regexp_matches(named.signal_name, concat('^(', rule.name_pattern, ')$'))
        and (rule.for_rater_kind is null or rule.for_rater_kind = named.rater_kind)
        and (rule.shape = 'correction') = (named.kind = 'correction')
    -- Free text is for people to read.
    where named.kind <> 'text'
),
valued as (
    select given.*, ruled.rule, ruled.shape, ruled.polarity,
        case
            when given.kind = 'boolean' then given.value_number
            when given.kind = 'number' and given.value_number between ruled.scale_low and ruled.scale_high
                then (given.value_number - ruled.scale_low) / (ruled.scale_high - ruled.scale_low)
            when given.kind = 'category' and contains(concat('|', ruled.good_words, '|'), concat('|', given.value_text, '|')) then 1.0
            when given.kind = 'category' and contains(concat('|', ruled.bad_words, '|'), concat('|', given.value_text, '|')) then 0.0
        end as score
    from given
    join ruled on ruled.signal_name = given.signal_name and ruled.kind = given.kind and ruled.rater_kind = given.rater_kind and ruled.rule_rank = 1
    -- An event that is said not to have happened is none.
    where ruled.shape = 'judgement' or given.kind not in ('boolean', 'number') or given.value_number <> 0
),
scored as (
    select feedback_id, given_source, target_kind, target_id, signal_name, rater_kind, rater_id, given_at, rule,
        case when shape = 'correction' then 'event' else shape end as shape,
        -- Good words are good whichever way the numbers run.
        case when shape = 'judgement' and (polarity > 0 or kind = 'category') then score
             when shape = 'judgement' then 1 - score
             when polarity > 0 then 1.0 else 0.0 end as score_share
    from valued
),
-- Which calls does it speak of?
part as (
    select scored.*, call.inference_id, call.started_at, call.source, call.ended_at
    from scored
    join call on scored.target_kind = 'session' and call.session_id = scored.target_id
    where call.started_at <= scored.given_at
    union all
    select scored.*, call.inference_id, call.started_at, call.source, call.ended_at
    from scored
    join call on scored.target_kind = 'trace' and call.trace_id = scored.target_id
    where call.started_at <= scored.given_at
),
reached as (
    select scored.*, call.inference_id, call.started_at, call.source, call.ended_at, 'call' as level, true as is_last_call
    from scored
    join call on scored.target_kind = 'call' and call.inference_id = scored.target_id
    union all
    select * exclude (is_of_source), target_kind, row_number() over (partition by feedback_id order by started_at desc, inference_id desc) = 1
    from (
        -- As far back as a signal can reach, so that a day says the same whatever days are built with it.
        select *, bool_or(source = given_source) over (partition by feedback_id) as is_of_source
        from part where given_at < started_at + interval 14 day
    ) as placed
    where source = given_source or not is_of_source
),
witness as (
    select
        inference_id, started_at, source, signal_name, rater_kind, rater_id, level, is_last_call, rule, shape, score_share, given_at, ended_at,
        feedback_id, cast(null as varchar) as evidence_id
    from reached
    where given_at >= started_at - interval 1 day and given_at < started_at + interval 14 day
    union all
    select
        signal.inference_id, signal.started_at, call.source, signal.signal_name, 'implicit', null, 'call', true, ruled.rule, ruled.shape,
        case when ruled.polarity > 0 then 1.0 else 0.0 end, signal.given_at, call.ended_at, null, signal.evidence_id
    from marts.implicit_signal as signal
    join call on call.inference_id = signal.inference_id
    join ruled on ruled.signal_name = signal.signal_name and ruled.kind = 'boolean' and ruled.rater_kind = 'implicit' and ruled.rule_rank = 1
),
counted as (
    select *,
        row_number() over same_witness as latest_rank,
        count(*) over (partition by inference_id, signal_name, rater_kind, rater_id, level) - 1 as repeat_count
    from witness
    where started_at >= $from_day and started_at < $to_day
    window same_witness as (
        partition by inference_id, signal_name, rater_kind, rater_id, level
        order by score_share is null, given_at desc, feedback_id desc)
)
select
    inference_id, started_at, source, signal_name, rater_kind, rater_id, level, is_last_call, rule, shape, score_share,
    least(5, 1 + cast(floor(5 * score_share) as bigint)) as score_fifth,
    given_at,
    greatest(0, date_diff('millisecond', ended_at, given_at)) as delay_ms,
    given_at < started_at as is_before_call,
    repeat_count, feedback_id, evidence_id
from counted
where latest_rank = 1

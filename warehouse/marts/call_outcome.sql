-- marts.call_outcome: the odds of success of a call, from the base rate and the weights of its signals (naive Bayes).
--
-- Weights come from marts.evaluator, of the call's own week. A kind of signal speaks once a call by its presence, and by its
-- absence where it is known to the call's source; each rater adds what its score is worth. Nothing is said of a call before 95 % of
-- the slowest kind of signal would have come: early on only the quick bad news is there.
with call as (
    select inference_id, started_at, source, coalesce(finished_at, started_at) as ended_at, cast(date_trunc('week', started_at) as date) as week_day,
        concat(source, ':', coalesce(traffic_kind, '')) as cell
    from core.inference
    where started_at >= $from_day and started_at < $to_day
),
newest as (
    select max(seen_at) as newest_at
    from (select max(started_at) as seen_at from core.inference union all select max(given_at) from marts.outcome_signal) as seen
),
channel as (
    select * from marts.evaluator where rater_id is null
),
-- What silence of all says to calls of a source driven by people or by agents; and how long to wait.
quiet as (
    select
        known.cell, channel.week_day, max(channel.base_success_share) as base_success_share,
        sum(channel.absent_weight) as absent_weight, max(channel.matured_after_ms) as matured_after_ms
    from channel
    join (select distinct cell from call) as known on contains(concat(',', channel.cells, ','), concat(',', known.cell, ','))
    group by known.cell, channel.week_day
),
weighed as (
    select
        signal.inference_id, signal.signal_name, signal.rater_kind, signal.level, signal.score_share, channel.absent_weight,
        case when row_number() over (
            partition by signal.inference_id, signal.signal_name, signal.rater_kind, signal.level
            order by signal.rater_id nulls last) = 1 then 1 else 0 end as is_first,
        channel.present_weight,
        case signal.score_fifth
            when 1 then coalesce(rater.weight_1, channel.weight_1) when 2 then coalesce(rater.weight_2, channel.weight_2)
            when 3 then coalesce(rater.weight_3, channel.weight_3) when 4 then coalesce(rater.weight_4, channel.weight_4)
            else coalesce(rater.weight_5, channel.weight_5) end as score_weight
    from marts.outcome_signal as signal
    join channel
        on channel.week_day = cast(date_trunc('week', signal.started_at) as date) and channel.signal_name = signal.signal_name
        and channel.rater_kind = signal.rater_kind and channel.level = signal.level and channel.is_last_call = signal.is_last_call
    left join marts.evaluator as rater
        on rater.week_day = channel.week_day and rater.signal_name = channel.signal_name and rater.rater_kind = channel.rater_kind
        and rater.level = channel.level and rater.is_last_call = channel.is_last_call and rater.rater_id = signal.rater_id
    where signal.started_at >= $from_day and signal.started_at < $to_day and signal.score_share is not null
),
contribution as (
    select
        inference_id, signal_name, rater_kind, level, score_share,
        is_first * present_weight + score_weight as weight,
        is_first * absent_weight as no_longer_absent
    from weighed
),
heard as (
    select
        inference_id, count(*) as signal_count, sum(weight - no_longer_absent) as weight,
        max(weight) >= 0.5 and min(weight) <= -0.5 as is_conflicting,
        max_by(level, abs(weight)) as level,
        to_json(list(struct_pack(name := signal_name, rater_kind := rater_kind, level := level, score_share := score_share, weight := round(weight, 3))
            order by abs(weight) desc, signal_name, rater_kind, level)) as signals
    from contribution
    group by inference_id
),
summed as (
    select
        call.*, quiet.base_success_share, coalesce(heard.signal_count, 0) as signal_count, coalesce(heard.is_conflicting, false) as is_conflicting,
        heard.level, heard.signals,
        quiet.absent_weight + coalesce(heard.weight, 0) as evidence_weight,
        call.ended_at + to_milliseconds(quiet.matured_after_ms) as matured_at
    from call
    left join quiet on quiet.cell = call.cell and quiet.week_day = call.week_day
    left join heard on heard.inference_id = call.inference_id
),
told as (
    select summed.*, coalesce(matured_at <= newest_at, false) as is_matured,
        -- Six nats: whatever the evidence, one call in 400 is otherwise than it seems.
        greatest(-6, least(6, ln(base_success_share / (1 - base_success_share)) + evidence_weight)) as log_odds
    from summed
    cross join newest
)
select
    inference_id, started_at, source,
    case when is_matured then 1 / (1 + exp(-log_odds)) end as outcome_share,
    case when is_matured then abs(2 / (1 + exp(-evidence_weight)) - 1) end as confidence_share,
    case when matured_at is null then 'unknown' when not is_matured then 'immature' when signal_count = 0 then 'silent' else 'resolved' end as outcome_status,
    is_matured, matured_at, is_conflicting, signal_count, level, evidence_weight, signals
from told

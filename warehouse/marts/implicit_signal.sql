-- marts.implicit_signal: what can be told of a call's outcome from the calls alone.
--
-- A thread is a session, or a trace, or a user where neither is known. Asking again is looked for between a call and the next
-- of its thread only, within 30 minutes: one repeat gives a call one signal, the most telling of escalation, regenerate and re_ask,
-- because the same act counted twice would look like two witnesses. The next is the first that starts after the answer was there, as
-- far as is known: nobody asks again before, and calls that run side by side are samples of one question, or several. Only who asks can
-- ask again: an agent that goes on with what a tool answered sends the same question along, and repeats nothing. Nor does a word or two
-- said again once it was answered: "yes", "go on". Nor does a program that asks nearly the same: it fills in a template. The very
-- same of a program is a retry.
with call as (
    select
        inference_id, started_at, source, status, error_type, finish_reason, tool_call_count, coalesce(traffic_kind, 'human') = 'human' as is_human,
        coalesce(finished_at, first_token_at, started_at) as ended_at,
        request_model,
        coalesce('s ' || session_id, 't ' || trace_id, 'u ' || user_id) as thread
    from core.inference
    where started_at >= $from_day - interval 1 day and started_at < $to_day + interval 1 day
      and is_generation(operation_name)
),
-- How late it was seen to be on each day, so that a day says the same whatever days are built with it.
newest as (
    select cast(started_at as date) as usage_day, max(started_at) as newest_at from call group by usage_day
),
neighbour as (
    select *,
        min({'started_at': started_at, 'inference_id': inference_id, 'request_model': request_model, 'is_human': is_human}) over (
            partition by source, thread order by started_at
            range between greatest(ended_at - started_at, interval 1 microsecond) following and interval 30 minute following) as next_call,
        count(*) over (partition by source, thread order by started_at range between current row and interval 30 minute following) = 1 as is_last
    from call
    where thread is not null
),
near as (
    select * exclude (next_call), next_call.inference_id as next_id, next_call.started_at as next_at, next_call.request_model as next_model, next_call.is_human as is_next_human
    from neighbour
),
-- Text is read for calls that have a neighbour in time, no others.
neighbouring as (
    select inference_id from near where next_id is not null union select next_id from near where next_id is not null
),
asked as (
    select content.inference_id, trim(regexp_replace(lower(last_user_text(content.input_messages)), '\s+', ' ', 'g')) as question, content.input_messages,
        coalesce(lower(json_extract_string(said_messages(content.input_messages)[-1], '$.role')), 'user') in ('user', 'human') as is_of_user,
        coalesce(len(said_messages(content.input_messages)), 1) as message_count
    from core.inference_content as content
    join neighbouring on neighbouring.inference_id = content.inference_id
    where content.started_at >= $from_day - interval 1 day and content.started_at < $to_day + interval 1 day
),
-- What a token of output cost at a model on a day, to tell the dearer from the cheaper.
model_price as (
    select cast(started_at as date) as usage_day, request_model,
        cast(sum(output_text_cost_usd) as double) / sum(output_tokens) as usd_per_output_token
    from marts.call_cost
    where output_tokens > 0 and output_text_cost_usd is not null and started_at >= $from_day - interval 1 day and started_at < $to_day + interval 1 day
    group by cast(started_at as date), request_model
),
repeated as (
    select inference_id, started_at, next_id, next_at, next_model, is_next_human, request_model,
        case when question = next_question then 1.0 else word_overlap(words(question), words(next_question)) end as word_overlap_share,
        question = next_question as is_same
    from (
        select near.inference_id, near.started_at, near.next_id, near.next_at, near.next_model, near.is_next_human, near.request_model,
            this.question, following.question as next_question
        from near
        join asked as this on this.inference_id = near.inference_id
        join asked as following on following.inference_id = near.next_id
        -- A call that failed is tried again; that says nothing more than that it failed.
        where near.status = 'ok' and this.question <> '' and following.question <> ''
          and (following.input_messages = this.input_messages
              or following.is_of_user and (following.message_count <= this.message_count or len(words(this.question)) > 2))
    ) as pair
),
again as (
    select repeated.*, coalesce(dearer.usd_per_output_token > 1.2 * cheaper.usd_per_output_token, false) as is_dearer
    from repeated
    left join model_price as cheaper on cheaper.request_model = repeated.request_model and cheaper.usage_day = cast(repeated.started_at as date)
    left join model_price as dearer on dearer.request_model = repeated.next_model and dearer.usage_day = cast(repeated.next_at as date)
    where repeated.is_same or (repeated.is_next_human and repeated.word_overlap_share >= 0.7)
),
signal as (
    select inference_id, started_at, ended_at as given_at, cast(null as varchar) as evidence_id, cast(null as double) as word_overlap_share,
        case
            when status = 'error' and regexp_matches(lower(coalesce(error_type, '')), 'schema|validat|json|pars|malformed') then 'schema_failure'
            when status = 'error' then 'call_failed'
            when regexp_matches(lower(finish_reason), 'malformed|unexpected_tool_call|invalid') then 'schema_failure'
            when is_withheld(finish_reason) then 'refused'
            when is_truncated(finish_reason) then 'truncated'
        end as signal_name
    from call
    union all
    select inference_id, started_at, next_at, next_id, word_overlap_share,
        case when is_dearer then 'escalation' when is_same then 'regenerate' else 're_ask' end
    from again
    union all
    -- The tool's answer comes back with the next call; only what belongs to the last turn counts.
    select near.inference_id, near.started_at, near.next_at, near.next_id, null, 'tool_failure'
    from near
    join asked as following on following.inference_id = near.next_id
    where near.tool_call_count > 0
      and regexp_matches(lower(cast(said_messages(following.input_messages)[-1] as varchar)), '"(is_?error)":\s*true|"status":\s*"error"|"role":\s*"tool".*"content":\s*"\s*(error|exception|traceback)')
    union all
    -- Known once the thread has been silent for half an hour, as seen on the call's day and the next.
    select last.inference_id, last.started_at, last.started_at + interval 30 minute, earlier.inference_id, earlier.word_overlap_share, 'abandonment'
    from (select *, row_number() over (partition by next_id order by started_at desc, inference_id desc) as nth from again) as earlier
    join near as last on last.inference_id = earlier.next_id
    where earlier.nth = 1 and last.is_last and last.is_human and last.status = 'ok'
      and exists (
          select 1 from newest
          where newest.usage_day between cast(last.started_at as date) and cast(last.started_at as date) + 1 and newest.newest_at >= last.started_at + interval 30 minute
      )
)
select inference_id, started_at, signal_name, greatest(given_at, started_at) as given_at, evidence_id, word_overlap_share
from signal
where signal_name is not null and started_at >= $from_day and started_at < $to_day

-- Langfuse: observations, traces and scores as its blob export writes them (snake_case), as its API answers them
-- (camelCase), a trace with its observations in one object, or an ingestion batch. Generations and embeddings are calls.
-- reads: window
-- records: batch[], data[], observations[], scores[], corrections[], trace.scores[], trace.corrections[]
-- User, session, tags and name come from the call's trace, where the window holds it. Usage keys add up to the total;
-- where the total shows that `input` (or `output`) already holds its parts, as several emitters send it, usage_note says so.
-- A generation whose direct child is a counted generation is a second instrumentation of the same call: context.
-- A batch tells of an observation in several events, its create and its updates. Each gives the whole that all events of the window make, so
-- that one is the call and the others its duplicates.
with lines as (
    select json, landing_file, row_number() over () as landing_row,
        json_transform(json, '{"batch": [{"type": "VARCHAR", "body": "JSON"}], "data": ["JSON"], "trace": "JSON", "observations": ["JSON"],
            "exportSource": "VARCHAR"}') as whole
    from read_json_objects($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216)
),
parts as (
    select landing_file, landing_row, unnest(case
            when len(whole.batch) > 0 then list_transform(whole.batch, lambda b: {'said': lower(b.type), 'record': b.body})
            when whole."exportSource" is not null then [{'said': 'manifest', 'record': json}]
            else list_transform(coalesce(nullif(list_filter(
                    coalesce(whole.data, [])
                    || case when json_type(whole.trace) = 'OBJECT' then [whole.trace] when whole.data is null then [json] else [] end
                    || coalesce(whole.observations, []), lambda r: json_type(r) = 'OBJECT'), []), [null]),
                lambda r: {'said': case when r is null then 'nothing' end, 'record': r})
        end) as part
    from lines
),
-- Observations with several events, in whatever files of the window: of each key the last value that is given. Of one time, updates are later.
events as (
    select event.body as body, json_extract_string(event.body, '$.id') as id,
        {'at': coalesce(as_utc(event."timestamp"), timestamp '1970-01-01'), 'said': lower(event.type), 'place': place} as moment
    from (
        select unnest(batch) as event, generate_subscripts(batch, 1) as place
        from (
            select json_transform(json, '{"batch": [{"type": "VARCHAR", "timestamp": "VARCHAR", "body": "JSON"}]}').batch as batch
            from read_json_objects($files, format = 'newline_delimited', maximum_object_size = 16777216)
            where contains(json, '"batch"')))
    where regexp_matches(lower(event.type), '^(generation|embedding|observation)-(create|update)$') and json_type(event.body) = 'OBJECT'
    qualify id is not null and count(*) over (partition by id) > 1
),
merged as (
    select id, json_group_object(key, value) as record, nullif(max(moment.at), timestamp '1970-01-01') as changed_at
    from (
        select events.id as id, entry.key as key, arg_max(entry.value, (moment, entry.value::varchar)) as value, max(moment) as moment
        from events, lateral (select key, value, type from json_each(body)) as entry
        where entry.type <> 'NULL'
        group by all)
    group by id
),
told as (
    select landing_file, landing_row, part.said as said, coalesce(merged.record, part.record) as record, merged.changed_at as changed_at
    from parts
    left join merged on merged.id = case when regexp_matches(part.said, '^(generation|embedding|observation)-(create|update)$')
        then json_extract_string(part.record, '$.id') end
),
read_out as (
    select landing_file, landing_row, said, changed_at,
        json_transform(record, '{"id": "VARCHAR", "type": "VARCHAR", "name": "VARCHAR", "trace_id": "VARCHAR", "traceId": "VARCHAR",
            "parent_observation_id": "VARCHAR", "parentObservationId": "VARCHAR", "environment": "VARCHAR", "level": "VARCHAR",
            "status_message": "VARCHAR", "statusMessage": "VARCHAR", "timestamp": "VARCHAR", "start_time": "VARCHAR", "startTime": "VARCHAR",
            "end_time": "VARCHAR", "endTime": "VARCHAR", "completion_start_time": "VARCHAR", "completionStartTime": "VARCHAR",
            "time_to_first_token": "VARCHAR", "timeToFirstToken": "VARCHAR", "created_at": "VARCHAR", "createdAt": "VARCHAR",
            "updated_at": "VARCHAR", "updatedAt": "VARCHAR", "provided_model_name": "VARCHAR", "providedModelName": "VARCHAR", "model": "VARCHAR",
            "model_parameters": "VARCHAR", "modelParameters": "VARCHAR", "usage_details": "VARCHAR", "usageDetails": "VARCHAR", "usage": "VARCHAR",
            "cost_details": "VARCHAR", "costDetails": "VARCHAR", "total_cost": "VARCHAR", "totalCost": "VARCHAR", "calculatedTotalCost": "VARCHAR",
            "promptTokens": "VARCHAR", "completionTokens": "VARCHAR", "totalTokens": "VARCHAR",
            "prompt_name": "VARCHAR", "promptName": "VARCHAR", "prompt_version": "VARCHAR", "promptVersion": "VARCHAR",
            "tool_calls": "VARCHAR", "toolCalls": "VARCHAR", "tool_definitions": "VARCHAR", "toolDefinitions": "VARCHAR",
            "metadata": "VARCHAR", "input": "VARCHAR", "output": "VARCHAR", "user_id": "VARCHAR", "userId": "VARCHAR",
            "session_id": "VARCHAR", "sessionId": "VARCHAR", "tags": "VARCHAR", "value": "VARCHAR", "data_type": "VARCHAR", "dataType": "VARCHAR",
            "string_value": "VARCHAR", "stringValue": "VARCHAR"}') as o
    from told
),
records as materialized (
    select landing_file, landing_row, said, o.id as id, o.name as name, o.environment as environment, o.level as level,
        case when said is not null and not starts_with(said, 'observation') then upper(split_part(said, '-', 1))
             when given(o.type) is not null and coalesce(o.start_time, o."startTime", o.trace_id, o."traceId") is not null then upper(o.type)
             when coalesce(o.start_time, o."startTime") is not null and coalesce(o.provided_model_name, o."providedModelName", o.model) is not null then 'GENERATION'
             when coalesce(o.value, o.string_value, o."stringValue", o.data_type, o."dataType") is not null and o.name is not null then 'SCORE'
             when o.id is not null and o."timestamp" is not null then 'TRACE' end as kind,
        coalesce(given(o.trace_id), given(o."traceId")) as trace_id,
        coalesce(given(o.parent_observation_id), given(o."parentObservationId")) as parent_id,
        coalesce(o.status_message, o."statusMessage") as status_message,
        coalesce(given(o.start_time), given(o."startTime")) as start_text,
        coalesce(given(o.end_time), given(o."endTime")) as end_text,
        as_utc(coalesce(given(o.completion_start_time), given(o."completionStartTime"))) as completion_started_at,
        try_cast(coalesce(o.time_to_first_token, o."timeToFirstToken") as double) as first_token_said,
        case when first_token_said between 0 and 604800000 then first_token_said end as first_token_after,
        coalesce(as_utc(coalesce(given(o.updated_at), given(o."updatedAt"))), as_utc(coalesce(given(o.created_at), given(o."createdAt"))), read_out.changed_at) as changed_at,
        coalesce(given(o.provided_model_name), given(o."providedModelName"), given(o.model)) as model,
        coalesce(given(o.model_parameters), given(o."modelParameters")) as request_params,
        case when json_valid(request_params) then request_params end as params_json,
        coalesce(given(o.usage_details), given(o."usageDetails"), given(o.usage),
            -- Before usage details the API gave three numbers, zero for unknown.
            case when as_count(o."totalTokens") > 0 then json_object('input', o."promptTokens", 'output', o."completionTokens", 'total', o."totalTokens")::varchar
            end) as usage_text,
        case when json_valid(usage_text) and json_type(usage_text) = 'OBJECT' then usage_text end as usage,
        json_extract_string(case when json_valid(o.usage) then o.usage end, '$.totalCost') as usage_cost,
        coalesce(given(o.cost_details), given(o."costDetails")) as cost_details,
        coalesce(o.total_cost, o."totalCost", o."calculatedTotalCost") as total_cost,
        coalesce(given(o.prompt_name), given(o."promptName")) as prompt_name,
        coalesce(given(o.prompt_version), given(o."promptVersion")) as prompt_version,
        coalesce(o.tool_calls, o."toolCalls") as tool_calls,
        coalesce(given(o.tool_definitions), given(o."toolDefinitions")) as tool_definitions,
        coalesce(given(o.user_id), given(o."userId")) as user_id,
        coalesce(given(o.session_id), given(o."sessionId")) as session_id,
        given(o.tags) as tags,
        o.input as input, o.output as output,
        json_extract_string(case when json_valid(o.metadata) then o.metadata end, ['$.attributes."gen_ai.provider.name"', '$.attributes."gen_ai.system"',
            '$.attributes."llm.provider"', '$.ls_provider', '$.attributes."gen_ai.request.model"', '$.attributes."gen_ai.response.model"',
            '$.attributes."gen_ai.conversation.id"', '$.attributes."user.id"', '$.attributes."session.id"', '$.attributes."gen_ai.agent.name"',
            '$.attributes."gen_ai.response.finish_reasons"', '$.user_api_key_team_id', '$.tenant', '$.tenant_id', '$.hidden_params.api_base',
            '$.attributes."server.address"', '$.ls_model_name', '$.attributes."error.type"', '$.hidden_params.custom_llm_provider',
            '$.cache_hit']) as m
    from read_out
),
-- A usage may be OpenAI's own, with objects in it: their keys count like its own, as prompt_tokens_details.cached_tokens.
keyed as (
    select *,
        list_transform(json_keys(usage), lambda k: {'k': k, 'at': '/' || replace(replace(k, '~', '~0'), '/', '~1'), 'is_inner': false}) as outer_keys,
        outer_keys || coalesce(flatten(list_transform(outer_keys, lambda o: list_transform(json_keys(usage, o.at), lambda k:
            {'k': o.k || '.' || k, 'at': o.at || '/' || replace(replace(k, '~', '~0'), '/', '~1'), 'is_inner': true}))), []) as usage_keys
    from records
    where kind is null or kind in ('GENERATION', 'EMBEDDING')
),
listed as (
    select * exclude (outer_keys, usage_keys),
        -- Keys drift (input_cached_tokens, cache_read_input_tokens, prompt_details.cache_read, inputTokens, ..): by what they say.
        list_transform(usage_keys, lambda u: {'n': json_extract_string(usage, u.at), 'k': u.k, 'is_inner': u.is_inner, 'class': case
            when regexp_matches(u.k, '(?i)cost|price|^unit$') then 'none'
            when regexp_matches(u.k, '(?i)^total') then 'total'
            -- LangChain's names for Anthropic's lifetimes, input_ephemeral_5m_input_tokens, do not speak of a cache.
            when regexp_matches(u.k, '(?i)cache.*(creat|writ)|(creat|writ).*cache|ephemeral') and regexp_matches(u.k, '(?i)1_?h|hour') then 'write_1h'
            when regexp_matches(u.k, '(?i)cache.*(creat|writ)|(creat|writ).*cache|ephemeral') and regexp_matches(u.k, '(?i)5_?m') then 'write_5m'
            when regexp_matches(u.k, '(?i)cache.*(creat|writ)|(creat|writ).*cache') then 'write'
            when regexp_matches(u.k, '(?i)cache') then 'cache_read'
            when regexp_matches(u.k, '(?i)reason|think|thought') then 'reasoning'
            when regexp_matches(u.k, '(?i)web_?search') then 'web_search'
            when regexp_matches(u.k, '(?i)audio') then case when regexp_matches(u.k, '(?i)^(output|completion|candidate)') then 'output_audio' else 'input_audio' end
            when regexp_matches(u.k, '(?i)image|video') then case when regexp_matches(u.k, '(?i)^(output|completion|candidate)') then 'output_image' else 'input_image' end
            when regexp_full_match(u.k, '(?i)(output|completion)(_?text)?(_?tokens?(_?count)?)?') then 'output'
            when regexp_full_match(u.k, '(?i)(input|prompt)(_?text)?(_?tokens?(_?count)?)?') then 'input'
            when regexp_matches(u.k, '(?i)^(output|completion)') then 'output_other'
            when regexp_matches(u.k, '(?i)^(input|prompt)') then 'input_other'
            else 'none' end}) as entries,
        upper(coalesce(json_extract_string(usage, '$.unit'), 'TOKENS')) as unit
    from keyed
),
counted as (
    select *,
        len(list_filter(entries, lambda e: regexp_matches(e.k, '^(input|prompt)_tokens?_details\.') and as_count(e.n) > 0)) > 0 as has_input_details,
        len(list_filter(entries, lambda e: regexp_matches(e.k, '^(output|completion)_tokens?_details\.') and as_count(e.n) > 0)) > 0 as has_output_details,
        list_transform(['input', 'input_other', 'cache_read', 'write', 'write_5m', 'write_1h', 'input_audio', 'input_image', 'output', 'output_other',
                'reasoning', 'output_audio', 'output_image', 'total', 'web_search'],
            -- What is said both beside the objects and in them is said twice.
            lambda c: case when unit = 'TOKENS' then cast(coalesce(
                list_sum(list_transform(list_filter(entries, lambda e: e.class = c and not e.is_inner), lambda e: as_count(e.n))),
                list_sum(list_transform(list_filter(entries, lambda e: e.class = c and e.is_inner), lambda e: as_count(e.n)))) as bigint) end) as n
    from listed
),
classed as (
    select *,
        n[1] as input_plain, n[9] as output_plain, n[14] as total,
        -- A plain count of writes beside its split by lifetime is their sum, not more.
        case when n[4] = coalesce(n[5], 0) + coalesce(n[6], 0) then n[5] when n[4] is null then n[5] else n[4] + coalesce(n[5], 0) end as write_5m,
        coalesce(n[3], 0) + coalesce(write_5m, 0) + coalesce(n[6], 0) + coalesce(n[7], 0) + coalesce(n[8], 0) as input_parts,
        coalesce(n[11], 0) + coalesce(n[12], 0) + coalesce(n[13], 0) as output_parts,
        coalesce(n[2], 0) as input_other, coalesce(n[10], 0) as output_other,
        coalesce(input_plain, 0) as i, coalesce(output_plain, 0) as o,
        case when i + o = 0 and input_parts + output_parts = 0 then null
             -- Without a total, OpenAI's details are parts of what they detail.
             when total is null then case
                 when has_input_details and input_parts + input_other <= i and has_output_details and output_parts + output_other <= o then 'inclusive_input_and_output'
                 when has_input_details and input_parts + input_other <= i then 'inclusive_input'
                 when has_output_details and output_parts + output_other <= o then 'inclusive_output' end
             when total = i + input_parts + input_other + o + output_parts + output_other then 'additive'
             when total = i + o + output_parts + output_other and input_parts + input_other <= i then 'inclusive_input'
             when total = i + input_parts + input_other + o and output_parts + output_other <= o then 'inclusive_output'
             when total = i + o and input_parts + input_other <= i and output_parts + output_other <= o then 'inclusive_input_and_output'
             else 'total_mismatch' end as reading
    from counted
),
counted_children as (
    select trace_id, parent_id from records
    where kind in ('GENERATION', 'EMBEDDING') and parent_id is not null and usage is not null
    group by all
),
agent_traces as (select trace_id from records where kind = 'AGENT' and trace_id is not null group by all),
traces as (
    select id, max(changed_at) as changed_at, arg_max(name, changed) as name, arg_max(user_id, changed) as user_id, arg_max(session_id, changed) as session_id,
        arg_max(tags, changed) as tags, arg_max(environment, changed) as environment, arg_max(coalesce(m[13], m[14]), changed) as tenant
    from (select *, coalesce(changed_at, timestamp '1970-01-01') as changed from records where kind = 'TRACE' and id is not null)
    group by id
),
calls as (
    select c.*, t.name as trace_name, t.tags as trace_tags,
        coalesce(c.user_id, t.user_id, c.m[8]) as end_user,
        coalesce(c.session_id, t.session_id, c.m[9], c.m[7]) as conversation,
        coalesce(given(c.environment), given(t.environment)) as deployed_in,
        coalesce(c.m[13], c.m[14], t.tenant) as tenant,
        greatest(c.changed_at, t.changed_at) as version_at,
        w.parent_id is not null as is_wrapper,
        a.trace_id is not null as in_agent,
        as_utc(start_text) as started_at, as_utc(end_text) as finished_at
    from classed as c
    left join traces as t on t.id = c.trace_id
    left join counted_children as w on w.trace_id = c.trace_id and w.parent_id = c.id
    left join agent_traces as a on a.trace_id = c.trace_id
)
select
    landing_file,
    landing_row,
    case when is_wrapper and usage is not null then 'context' else 'call' end as record_kind,
    coalesce(
        unreadable('startTime', start_text, started_at),
        unreadable('endTime', end_text, finished_at),
        unreadable('usage', usage_text, usage),
        case when len(list_filter(entries, lambda e: e.class <> 'none' and given(e.n) is not null and not starts_with(e.n, '{') and as_count(e.n) is null)) > 0
             then 'usage cannot be read' end,
        unreadable('totalCost', total_cost, as_usd(total_cost))) as unreadable,
    case when kind is not null then 'langfuse:' || given(id) end as inference_id,
    coalesce(version_at, finished_at) as version_at,
    case when kind = 'EMBEDDING' then 'embeddings' else 'chat' end as operation_name,
    provider_word(coalesce(given(m[1]), given(m[2]), given(m[3]), given(m[4]), given(m[19]), json_extract_string(params_json, '$.system'))) as provider_name,
    coalesce(given(m[5]), given(m[17]), model) as request_model,
    given(m[6]) as response_model,
    nullif(json_extract_string(params_json, '$.service_tier'), 'auto') as service_tier,
    coalesce(given(m[15]), nullif(m[16], 'Unknown')) as server_address,
    try_cast(coalesce(json_extract_string(params_json, '$.stream'), json_extract_string(params_json, '$.is_stream')) as boolean) as is_streaming,
    -- A part given without its whole: nothing was left over, if the total says so.
    case when input_plain is null and not (input_parts > 0 and reading = 'additive') then null
         when reading in ('inclusive_input', 'inclusive_input_and_output') then i - input_parts
         else i + input_other end as input_uncached_tokens,
    n[3] as cache_read_tokens,
    write_5m as cache_write_5m_tokens,
    n[6] as cache_write_1h_tokens,
    n[7] as input_audio_tokens,
    n[8] as input_image_tokens,
    case when output_plain is null and not (output_parts > 0 and reading = 'additive') then null
         when reading in ('inclusive_output', 'inclusive_input_and_output') then o - output_parts
         else o + output_other end as output_text_tokens,
    n[11] as reasoning_tokens,
    n[12] as output_audio_tokens,
    n[13] as output_image_tokens,
    n[15] as web_search_requests,
    -- LiteLLM's callback tells of its own cache.
    case when lower(m[20]) = 'true' then 'gateway_cache_hit'
         when unit <> 'TOKENS' then 'unit_' || lower(unit)
         when total > 0 and i + o + input_parts + output_parts = 0 then 'total_only'
         else nullif(reading, 'additive') end as usage_note,
    started_at,
    -- Some clients repeat the end time when the answer was not streamed. The API gives seconds, its newer version milliseconds.
    coalesce(case when completion_started_at < finished_at then completion_started_at end,
        case when first_token_after > 0 and started_at + to_microseconds(cast(first_token_after * 1e6 as bigint)) <= finished_at
             then started_at + to_microseconds(cast(first_token_after * 1e6 as bigint))
             when first_token_after > 0 then started_at + to_microseconds(cast(first_token_after * 1e3 as bigint)) end) as first_token_at,
    finished_at,
    case when upper(level) = 'ERROR' then 'error' else 'ok' end as status,
    case when upper(level) = 'ERROR' then as_count(nullif(regexp_extract(status_message, '(?i)(?:error code|status|http)\D{0,12}([45][0-9]{2})\b', 1), '')) end as http_status,
    case when upper(level) = 'ERROR' then coalesce(
        case when regexp_full_match(m[18], '[A-Za-z0-9_.:/-]{1,100}') then m[18] end,
        nullif(regexp_extract(status_message, '\b([A-Za-z]{1,60}(?:Error|Exception|Timeout))\b', 1), '')) end as error_type,
    coalesce(case when json_valid(m[11]) then json_extract_string(m[11], '$[0]') end, m[11], given(json_extract_string(params_json, '$.finishReason'))) as finish_reason,
    -- An empty list beside an answer that ended in a tool call was never filled.
    case when json_valid(tool_calls) and json_type(tool_calls) = 'ARRAY' and not (json_array_length(tool_calls) = 0 and finish_reason like '%tool%')
         then cast(json_array_length(tool_calls) as bigint) end as tool_call_count,
    given(tenant) as tenant,
    given(m[12]) as team,
    end_user as user_id,
    conversation as session_id,
    trace_id,
    parent_id,
    coalesce(given(trace_name), given(m[10])) as workload,
    deployed_in as environment,
    prompt_name,
    prompt_version,
    case when in_agent or given(m[10]) is not null then 'agent' end as traffic_kind,
    coalesce(trace_tags, tags) as tags,
    -- A total of zero without details means that no price was known, not that the call was free.
    coalesce(as_usd(json_extract_string(case when json_valid(cost_details) then cost_details end, '$.total')), nullif(as_usd(total_cost), 0),
        as_usd(usage_cost)) as reported_cost_usd,
    given(input) as input_messages,
    tool_definitions,
    given(output) as output_messages,
    request_params
from calls
union all by name
-- Traces, scores and other observations, and lines of a batch or page that holds nothing.
select landing_file, landing_row, 'context' as record_kind
from records
where kind is not null and kind not in ('GENERATION', 'EMBEDDING')
group by all

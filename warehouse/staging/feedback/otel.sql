-- OpenTelemetry GenAI evaluations: the event gen_ai.evaluation.result, as a log record or on a span, over OTLP/JSON.
-- reads: window
-- It is about the call whose span it names, or else the call with its gen_ai.response.id in the window. About a span
-- that the window shows to be an agent, tool or workflow, or about no span, it is about the trace, or the conversation.
with requests as (
    select landing_file, row_number() over () as landing_row,
        json_transform("resourceSpans", '[{"scopeSpans": [{"spans": [{"traceId": "VARCHAR", "spanId": "VARCHAR",
            "attributes": [{"key": "VARCHAR", "value": "MAP(VARCHAR, VARCHAR)"}],
            "events": [{"name": "VARCHAR", "timeUnixNano": "VARCHAR", "attributes": [{"key": "VARCHAR", "value": "MAP(VARCHAR, VARCHAR)"}]}]}]}]}]') as traces,
        json_transform("resourceLogs", '[{"scopeLogs": [{"logRecords": [{"traceId": "VARCHAR", "spanId": "VARCHAR", "eventName": "VARCHAR",
            "timeUnixNano": "VARCHAR", "observedTimeUnixNano": "VARCHAR",
            "attributes": [{"key": "VARCHAR", "value": "MAP(VARCHAR, VARCHAR)"}]}]}]}]') as logs
    from read_json($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216, columns = {
        "resourceSpans": 'JSON', "resourceLogs": 'JSON'})
),
flat as materialized (
    select landing_file, landing_row,
        flatten(list_transform(traces, lambda r: flatten(list_transform(r."scopeSpans", lambda s: list_transform(s.spans, lambda p: {
            'raw_ids': [p."traceId", p."spanId"],
            'told': list_transform(list_filter(p.attributes, lambda x: x.key in ('gen_ai.operation.name', 'openinference.span.kind',
                'traceloop.span.kind', 'gen_ai.response.id')), lambda x: {'name': x.key, 'text': map_values(x.value)[1]}),
            'events': list_filter(p.events, lambda e: e.name = 'gen_ai.evaluation.result')}))))) as spans,
        flatten(list_transform(logs, lambda r: flatten(list_transform(r."scopeLogs", lambda s: list_filter(s."logRecords", lambda l:
            coalesce(l."eventName", map_values(list_filter(l.attributes, lambda x: x.key = 'event.name')[1].value)[1]) = 'gen_ai.evaluation.result'))))) as records
    from requests
),
spans as (
    select otlp_id(raw_ids[1]) as trace_id, otlp_id(raw_ids[2]) as span_id,
        list_filter(told, lambda x: x.name = 'gen_ai.response.id')[1].text as response_id,
        len(list_filter(told, lambda x: regexp_matches(lower(x.text), 'agent|tool|workflow|plan|chain|task|retriev')
            and x.name <> 'gen_ai.response.id')) > 0 as is_wrapper
    from (select s.raw_ids as raw_ids, s.told as told from (select unnest(spans) as s from flat))
),
by_response as (
    select response_id, any_value(trace_id) as trace_id, any_value(span_id) as span_id from spans
    where response_id is not null
    group by response_id
    having count(*) = 1 or not is_drawn_id(response_id)
),
wrappers as (select trace_id, span_id from spans where is_wrapper group by all),
said as (
    select landing_file, landing_row, unnest(coalesce(nullif(
        coalesce(flatten(list_transform(spans, lambda p: list_transform(p.events, lambda e:
            {'raw_ids': p.raw_ids, 'given_text': e."timeUnixNano", 'attributes': e.attributes}))), [])
            || coalesce(list_transform(records, lambda l: {'raw_ids': [l."traceId", l."spanId"],
                'given_text': coalesce(nullif(l."timeUnixNano", '0'), l."observedTimeUnixNano"), 'attributes': l.attributes}), []),
        []), [null])) as e
    from flat
),
found as (
    select landing_file, landing_row, e is not null as is_signal, e.given_text as given_text,
        list_transform(e.raw_ids, lambda i: otlp_id(i)) as ids,
        list_transform(['gen_ai.evaluation.name', 'gen_ai.evaluation.score.value', 'gen_ai.evaluation.score.label', 'gen_ai.evaluation.explanation',
                'gen_ai.response.id', 'gen_ai.conversation.id', 'error.type'],
            lambda n: map_values(list_filter(e.attributes, lambda x: x.key = n)[1].value)[1]) as a
    from said
),
aimed as (
    select f.*, coalesce(ids[1], r.trace_id) as trace_id,
        case when ids[2] is null then r.span_id when w.span_id is null then ids[2] end as span_id,
        try_cast(a[2] as double) as score
    from found as f
    left join by_response as r on r.response_id = f.a[5]
    left join wrappers as w on w.trace_id = f.ids[1] and w.span_id = f.ids[2]
)
select
    landing_file,
    landing_row,
    case when is_signal then 'signal' else 'context' end as record_kind,
    coalesce(unreadable('gen_ai.evaluation.score.value', a[2], score), unreadable('timeUnixNano', given_text, as_utc(given_text))) as unreadable,
    case when is_signal then 'otel:' || left(sha256(concat_ws('|', ids[1], ids[2], a[5], a[6], a[1], a[2], a[3], given_text)), 32) end as feedback_id,
    as_utc(given_text) as version_at,
    case when trace_id is not null and span_id is not null then 'call' when trace_id is not null then 'trace' when a[6] is not null then 'session' end as target_kind,
    coalesce('otel:' || trace_id || ':' || span_id, trace_id, a[6]) as target_id,
    trace_id,
    given(a[1]) as name,
    case when a[2] is not null then 'number' when a[3] is not null then 'category' end as kind,
    score as value_number,
    given(a[3]) as value_text,
    case when is_signal then 'evaluator' end as rater_kind,
    given(a[1]) as rater_id,
    given(a[4]) as comment,
    as_utc(given_text) as given_at
from aimed

-- llmperf's results, as an example of a benchmark read like a log: one object a call, with `provider` and `model` put beside its keys,
-- as the files have them only in their names. There is no time of day: calls follow each other by ten seconds on a day put in here.
-- A failed call carries zeros for its times; they are read as what they are, no times.
with raw as (
    select *, row_number() over () as landing_row
    from read_json($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216, columns = {
        provider: 'VARCHAR', model: 'VARCHAR', error_code: 'VARCHAR', ttft_s: 'DOUBLE', end_to_end_latency_s: 'DOUBLE',
        number_input_tokens: 'VARCHAR', number_output_tokens: 'VARCHAR'})
),
numbered as (
    select *, row_number() over (partition by landing_file, provider, model order by landing_row) as nth from raw
),
timed as (
    select *, timestamp '2023-12-21' + to_seconds(10 * nth) as started_at from numbered
)
select
    landing_file,
    landing_row,
    'call' as record_kind,
    coalesce(
        unreadable('number_input_tokens', number_input_tokens, as_count(number_input_tokens)),
        unreadable('number_output_tokens', number_output_tokens, as_count(number_output_tokens))) as unreadable,
    'llmperf:' || concat_ws('-', provider, model, nth) as inference_id,
    'chat' as operation_name,
    provider as provider_name,
    model as request_model,
    true as is_streaming,
    as_count(number_input_tokens) as input_uncached_tokens,
    as_count(number_output_tokens) as output_text_tokens,
    started_at,
    case when error_code is null and ttft_s > 0 then started_at + to_microseconds(cast(1e6 * ttft_s as bigint)) end as first_token_at,
    case when error_code is null and end_to_end_latency_s > 0 then started_at + to_microseconds(cast(1e6 * end_to_end_latency_s as bigint)) end as finished_at,
    case when error_code is null then 'ok' else 'error' end as status,
    case when as_count(error_code) between 100 and 599 then as_count(error_code) end as http_status,
    case when error_code is not null then 'llmperf_' || error_code end as error_type
from timed

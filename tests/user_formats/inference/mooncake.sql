-- Mooncake's request trace, as an example of a log without text: `hash_ids` name the blocks of 512 tokens a prompt is made of. Equal
-- ids in the same place are an equal prefix, so each block stands for a message, all of one length. The trace says milliseconds since
-- its start and no date: its day is put in here. Service and model are not named in it either.
with raw as (
    select *, row_number() over () as landing_row
    from read_json($files, format = 'newline_delimited', filename = 'landing_file', maximum_object_size = 16777216, columns = {
        "timestamp": 'VARCHAR', input_length: 'VARCHAR', output_length: 'VARCHAR', hash_ids: 'VARCHAR[]'})
),
numbered as (
    select *, row_number() over (partition by landing_file, "timestamp", input_length, output_length, hash_ids order by landing_row) as nth from raw
)
select
    landing_file,
    landing_row,
    'call' as record_kind,
    coalesce(
        unreadable('timestamp', "timestamp", as_count("timestamp")),
        unreadable('input_length', input_length, as_count(input_length)),
        unreadable('output_length', output_length, as_count(output_length))) as unreadable,
    'mooncake:' || left(sha256(concat_ws('|', "timestamp", input_length, output_length, hash_ids::varchar, nth)), 32) as inference_id,
    'chat' as operation_name,
    'mooncake' as provider_name,
    'mooncake' as request_model,
    as_count(input_length) as input_uncached_tokens,
    as_count(output_length) as output_text_tokens,
    timestamp '2024-06-24' + to_milliseconds(as_count("timestamp")) as started_at,
    'ok' as status,
    cast(to_json(list_transform(hash_ids, lambda b: {'block': lpad(b, 12, '0')})) as varchar) as input_messages
from numbered

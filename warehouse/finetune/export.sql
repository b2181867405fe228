-- The shapes that trainers read, as one line of JSON, over the macros of chat.sql. `prompt` and `answer` are JSON arrays of OpenAI chat messages.

-- Two JSON arrays as one.
create or replace macro one_list(a, b) as case when a = '[]' then b else left(a, length(a) - 1) || ',' || substr(b, 2) end;

-- Messages with a field that says whether an assistant's turn is trained on: 1 or 0 as `weight`, or true or false as `train`.
create or replace macro marked(messages, field, mark) as
    to_json(list_transform(json_extract(messages::json, '$[*]'), lambda m:
        case when json_extract_string(m, '$.role') = 'assistant' then json_merge_patch(m, ('{"' || field || '":' || mark || '}')::json) else m end))::varchar;

create or replace macro sharegpt_turn(m) as
    case when json_exists(m, '$.tool_calls[0]') then json_object('from', 'function_call', 'value', case when json_array_length(m, '$.tool_calls') = 1
            then json_object('name', json_extract_string(m, '$.tool_calls[0].function.name'), 'arguments', json_extract_string(m, '$.tool_calls[0].function.arguments')::json)::varchar
            else to_json(list_transform(json_extract(m, '$.tool_calls[*]'), lambda t: json_object('name', json_extract_string(t, '$.function.name'), 'arguments', json_extract_string(t, '$.function.arguments')::json)))::varchar end)
        else json_object('from', case json_extract_string(m, '$.role') when 'user' then 'human' when 'assistant' then 'gpt' when 'tool' then 'observation' else 'system' end,
            'value', json_extract_string(m, '$.content')) end;

-- ShareGPT turns without the system prompt, which stands in a field of its own.
create or replace macro sharegpt(messages) as
    to_json(list_transform(list_filter(json_extract(messages::json, '$[*]'), lambda m: json_extract_string(m, '$.role') <> 'system'), lambda m: sharegpt_turn(m)))::varchar;
create or replace macro system_text(messages) as
    case when json_extract_string(messages::json, '$[0].role') = 'system' then json_extract_string(messages::json, '$[0].content') else '' end;

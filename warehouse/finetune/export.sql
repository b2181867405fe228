-- The shapes that trainers read, as one line of JSON, over the macros of chat.sql. `prompt` and `answer` are JSON arrays of OpenAI chat messages.

-- Two JSON arrays as one.
create or replace macro one_list(a, b) as case when a = '[]' then b else left(a, length(a) - 1) || ',' || substr(b, 2) end;

-- Messages with a field that says whether an assistant's turn is trained on: 1 or 0 as `weight`, or true or false as `train`.
create or replace macro marked(messages, field, mark) as
    to_json(list_transform(json_extract(messages::json, '$[*]'), lambda m:
        case when json_extract_string(m, '$.role') = 'assistant' then json_merge_patch(m, ('{"' || field || '":' || mark || '}')::json) else m end))::varchar;

-- The text of a message as JSON, and a ShareGPT turn of one that is no tool's. A turn with tool calls has no place for the text beside them.
create or replace macro content_json(m) as to_json(coalesce(json_extract_string(m, '$.content'), ''))::varchar;
create or replace macro sharegpt_turn(m) as
    case when json_exists(m, '$.tool_calls[0]') then json_object('from', 'function_call', 'value', case when json_array_length(m, '$.tool_calls') = 1
            then json_object('name', json_extract_string(m, '$.tool_calls[0].function.name'), 'arguments', json_extract_string(m, '$.tool_calls[0].function.arguments')::json)::varchar
            else to_json(list_transform(json_extract(m, '$.tool_calls[*]'), lambda t: json_object('name', json_extract_string(t, '$.function.name'), 'arguments', json_extract_string(t, '$.function.arguments')::json)))::varchar end)::varchar
        else '{"from":"' || case json_extract_string(m, '$.role') when 'user' then 'human' else 'gpt' end || '","value":' || content_json(m) || '}' end;

-- Turns of trainers must alternate, so results that follow each other are one turn: a JSON list of their texts, in the order of the calls.
-- JSON has no raw control signs: 29 stands around a turn, 30 before each result of a run. A result is its call's place, its own, and its text.
create or replace macro tool_result(m, n, ids) as
    chr(30) || lpad(coalesce(list_position(ids, json_extract_string(m, '$.tool_call_id')), 0)::varchar, 9, '0') || lpad(n::varchar, 9, '0') || content_json(m);
create or replace macro observation(results) as
    '{"from":"observation","value":' || case when len(results) = 1 then substr(results[1], 19)
        else to_json('[' || array_to_string(list_transform(list_sort(results), lambda r: substr(r, 19)), ',') || ']')::varchar end || '}';

-- ShareGPT turns without the system prompt, which stands in a field of its own.
create or replace macro sharegpt_turns(messages, ids) as
    list_of(list_transform(
        list_filter(string_split(array_to_string(list_transform(messages, lambda m, n:
            case when json_extract_string(m, '$.role') = 'tool' then tool_result(m, n, ids) else chr(29) || sharegpt_turn(m) || chr(29) end), ''), chr(29)), lambda part: part <> ''),
        lambda part: case when left(part, 1) = chr(30) then observation(string_split(part[2:], chr(30))) else part end));
-- The ids are bound once by a lambda: a macro's argument is written out wherever it is named.
create or replace macro sharegpt(messages) as
    list_transform([json_extract_string(messages::json, '$[*].tool_calls[*].id')], lambda ids:
        sharegpt_turns(list_filter(json_extract(messages::json, '$[*]'), lambda m: json_extract_string(m, '$.role') <> 'system'), ids))[1];
-- Whether the model takes turns with a person or with tools, who begin and end. By the first letters of roles: system, user, tool, assistant.
create or replace macro alternates(prompt) as
    regexp_full_match(array_to_string(list_transform(json_extract_string(prompt::json, '$[*].role'), lambda r: left(r, 1)), ''), 's?((u|t+)a)*(u|t+)');

create or replace macro has_tool_calls(messages) as len(json_extract(messages::json, '$[*].tool_calls[0]')) > 0;
create or replace macro texts_beside_calls(messages) as
    len(list_filter(json_extract(messages::json, '$[*]'), lambda m: json_exists(m, '$.tool_calls[0]') and trim(coalesce(json_extract_string(m, '$.content'), '')) <> ''));

create or replace macro system_text(messages) as
    case when json_extract_string(messages::json, '$[0].role') = 'system' then json_extract_string(messages::json, '$[0].content') else '' end;

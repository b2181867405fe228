-- Conversations in one shape, whatever dialect they were logged in: OpenAI's chat messages, as JSON text.
--   {"role": system|user|assistant|tool, "content": text, "tool_calls": [{id, type, function: {name, arguments: JSON text}}], "tool_call_id"}
-- Hidden reasoning is left out; an image stands as <image> in the text, and `said_images` lists what it refers to.

-- A JSON object of names and JSON texts, those that are null left out. What is null within them stays, which json_merge_patch would take away.
-- No array_to_string: a macro itself, it names its argument twice, so that objects in objects would be made again and again.
create or replace macro field(name, json) as {'name': name, 'json': json::varchar};
create or replace macro object_of(fields) as
    '{' || coalesce(list_aggr(list_transform(list_filter(fields, lambda f: f.json is not null), lambda f: '"' || f.name || '":' || f.json), 'string_agg', ','), '') || '}';
-- A JSON list of JSON texts, null where there is none.
create or replace macro list_of(texts) as '[' || list_aggr(texts, 'string_agg', ',') || ']';

create or replace macro chat_role(role) as
    case lower(role) when 'human' then 'user' when 'ai' then 'assistant' when 'model' then 'assistant' when 'developer' then 'system'
        when 'function' then 'tool' else lower(role) end;

-- JSON text as compact JSON: escapes and white space are written one way only. What is no JSON stays, so that the gate sees it.
create or replace macro json_plain(said) as
    case when json_valid(said) then json_extract(said::json, '$')::varchar else said end;

-- The arguments of a tool call as JSON text, from a value that is JSON or a text that holds it.
create or replace macro tool_arguments(value) as
    case when value is null then '{}' when json_type(value) = 'VARCHAR' then json_plain(coalesce(nullif(json_extract_string(value, '$'), ''), '{}'))
        else json_extract(value, '$')::varchar end;

create or replace macro tool_call(id, name, arguments) as
    json_merge_patch('{}', json_object('id', id, 'type', 'function', 'function', json_object('name', name, 'arguments', tool_arguments(arguments))));

create or replace macro is_image(b) as
    json_extract_string(b, '$.type') in ('image', 'image_url', 'input_image') or json_exists(b, '$.image') or json_exists(b, '$.image_url');

-- The text of one block of content; null for tool use, reasoning and what is no text.
create or replace macro block_text(b) as
    case when json_type(b) = 'VARCHAR' then json_extract_string(b, '$')
        when is_image(b) then '<image>'
        when coalesce(json_extract_string(b, '$.type'), 'text') in ('text', 'input_text', 'output_text', 'refusal')
        then coalesce(json_extract_string(b, '$.text'), json_extract_string(b, '$.content'), json_extract_string(b, '$.value'), json_extract_string(b, '$.refusal')) end;

create or replace macro blocks_text(blocks) as
    coalesce(array_to_string(list_filter(list_transform(blocks, lambda b: block_text(b)), lambda t: t is not null), chr(10)), '');

-- A value that is text or holds blocks, as text; any other JSON as it is written.
create or replace macro value_text(v) as
    case json_type(v) when 'VARCHAR' then json_extract_string(v, '$') when 'NULL' then '' when 'ARRAY' then
            case when blocks_text(json_extract(v, '$[*]')) <> '' then blocks_text(json_extract(v, '$[*]')) else v::varchar end
        else v::varchar end;

-- The tool calls that stand in a message, in its own field or among its blocks.
create or replace macro message_tool_calls(m, blocks) as
    list_concat(
        list_transform(coalesce(json_extract(m.tool_calls, '$[*]'), []::json[]), lambda t: tool_call(
            json_extract_string(t, '$.id'), coalesce(json_extract_string(t, '$.function.name'), json_extract_string(t, '$.name')),
            coalesce(json_extract(t, '$.function.arguments'), json_extract(t, '$.arguments'), json_extract(t, '$.args')))),
        case when json_type(m.function_call) = 'OBJECT'
            then [tool_call(null::varchar, json_extract_string(m.function_call, '$.name'), json_extract(m.function_call, '$.arguments'))] else []::json[] end,
        case when m.type = 'function_call' then [tool_call(m.call_id, m.name, m.arguments)] else []::json[] end,
        list_transform(
            list_filter(blocks, lambda b: coalesce(json_extract_string(b, '$.type') in ('tool_use', 'tool_call'), false) or json_exists(b, '$.toolUse')),
            lambda b: tool_call(
                coalesce(json_extract_string(b, '$.id'), json_extract_string(b, '$.toolUse.toolUseId')),
                coalesce(json_extract_string(b, '$.name'), json_extract_string(b, '$.raw_name'), json_extract_string(b, '$.toolUse.name')),
                coalesce(json_extract(b, '$.input'), json_extract(b, '$.raw_arguments'), json_extract(b, '$.arguments'), json_extract(b, '$.toolUse.input')))));

-- Tool results that stand among the blocks of a message, as messages of their own.
create or replace macro block_results(blocks) as
    list_transform(
        list_filter(blocks, lambda b: coalesce(json_extract_string(b, '$.type') in ('tool_result', 'tool_call_response'), false) or json_exists(b, '$.toolResult')),
        lambda b: json_merge_patch('{}', json_object('role', 'tool',
            'tool_call_id', coalesce(json_extract_string(b, '$.tool_use_id'), json_extract_string(b, '$.toolResult.toolUseId'), json_extract_string(b, '$.id')),
            'content', coalesce(value_text(coalesce(json_extract(b, '$.content'), json_extract(b, '$.response'), json_extract(b, '$.result'), json_extract(b, '$.toolResult.content'))), ''))));

create or replace macro message_blocks(m) as
    list_concat(
        case when json_type(m.content) = 'ARRAY' then json_extract(m.content, '$[*]') when json_type(m.content) = 'OBJECT' then [m.content] else []::json[] end,
        case when json_type(m.parts) = 'ARRAY' then json_extract(m.parts, '$[*]') else []::json[] end);

-- One logged message as chat messages: a list, as results of tools become messages of their own.
create or replace macro chat_message_of(m, blocks) as
    case when m.type in ('reasoning', 'item_reference') then []::json[]
        when m.type = 'function_call_output' then [json_object('role', 'tool', 'tool_call_id', m.call_id, 'content', value_text(m.output))]
        when chat_role(m.role) = 'tool' and json_type(m.content) = 'VARCHAR' or (chat_role(m.role) = 'tool' and len(block_results(blocks)) = 0)
        then [json_merge_patch('{}', json_object('role', 'tool', 'tool_call_id', m.tool_call_id, 'content',
            case when json_type(m.content) = 'VARCHAR' then json_extract_string(m.content, '$') else blocks_text(blocks) end))]
        else list_concat(
            block_results(blocks),
            list_filter([json_merge_patch('{}', json_object(
                'role', case when m.type = 'function_call' then 'assistant' else chat_role(m.role) end,
                'content', case when json_type(m.content) = 'VARCHAR' then json_extract_string(m.content, '$') else blocks_text(blocks) end,
                'tool_calls', nullif(message_tool_calls(m, blocks), []::json[])))],
                lambda x: len(block_results(blocks)) = 0 or json_extract_string(x, '$.content') <> '')) end;

create or replace macro chat_message(m) as
    -- What nearly all messages are: a role and a text, which is JSON already.
    case when left(m.content::varchar, 1) = '"' and lower(m.role) in ('system', 'user', 'assistant')
            and coalesce(m.tool_calls, m.function_call, m.parts) is null and coalesce(m.type, 'message') = 'message'
        then ['{"role":"' || lower(m.role) || '","content":' || m.content::varchar || '}']
        -- The blocks are bound once by a lambda: a macro's argument is written out wherever it is named.
        else list_transform([message_blocks(m)], lambda blocks: chat_message_of(m, blocks)::varchar[])[1] end;

create or replace macro typed_messages(list_json) as
    from_json(list_json, '[{"role":"VARCHAR","type":"VARCHAR","content":"JSON","parts":"JSON","tool_calls":"JSON","function_call":"JSON",
        "tool_call_id":"VARCHAR","name":"VARCHAR","call_id":"VARCHAR","arguments":"JSON","output":"JSON"}]');

create or replace macro chat_list(list_json) as
    flatten(list_transform(typed_messages(list_json), lambda m: chat_message(m)));

-- What was asked as a JSON list of what may be messages, before it is brought into shape; a bare text is one of the user.
create or replace macro prompt_list(said) as
    case when said is null then '[]'
        when left(said, 1) = '[' and json_valid(said) then said
        when left(said, 1) = '{' and json_valid(said) and json_type(said::json, '$.input') is distinct from 'VARCHAR'
            then coalesce(json_extract(said::json, '$.messages'), json_extract(said::json, '$.input'))::varchar
        else '[{"role":"user","content":' || to_json(case when left(said, 1) = '{' and json_valid(said) then json_extract_string(said::json, '$.input')
            when left(said, 1) = '"' and json_valid(said) then json_extract_string(said::json, '$') else said end)::varchar || '}]' end;

-- A request as a list of chat messages (JSON texts); the system prompt first, where the source keeps it apart.
create or replace macro chat_prompt(said, system) as
    list_concat(
        case when system is null or trim(system) in ('', 'null', '""', '[]') then []::varchar[]
            else ['{"role":"system","content":' || to_json(case when json_valid(system) then value_text(system::json) else system end)::varchar || '}'] end,
        case when left(said, 1) = '{' and json_valid(said) and json_exists(said::json, '$.system') and json_type(said::json, '$.system') <> 'NULL'
            then ['{"role":"system","content":' || to_json(value_text(json_extract(said::json, '$.system')))::varchar || '}'] else []::varchar[] end,
        chat_list(prompt_list(said)));

-- An answer as a JSON list of what may be messages, before it is brought into shape. Of several choices the first counts.
create or replace macro answer_list(said) as
    case when left(said, 1) = '[' then
            case when json_exists(said::json, '$[0].message') then '[' || json_extract(said::json, '$[0].message')::varchar || ']'
                when json_exists(said::json, '$[0].role') or json_extract_string(said::json, '$[0].type') in ('message', 'function_call', 'reasoning') then said
                else '[{"role":"assistant","content":' || said || '}]' end
        when json_exists(said::json, '$.choices[0].message') then '[' || json_extract(said::json, '$.choices[0].message')::varchar || ']'
        when json_exists(said::json, '$.choices[0].text') then '[{"role":"assistant","content":' || json_extract(said::json, '$.choices[0].text')::varchar || '}]'
        when json_exists(said::json, '$.output.message') then '[' || json_extract(said::json, '$.output.message')::varchar || ']'
        when json_type(said::json, '$.output') = 'ARRAY' then json_extract(said::json, '$.output')::varchar
        when json_exists(said::json, '$.message') then '[' || json_extract(said::json, '$.message')::varchar || ']'
        else '[' || said || ']' end;

create or replace macro chat_answer(said) as
    chat_list(case when said is null then '[]' when left(said, 1) in ('[', '{') and json_valid(said) then answer_list(said)
        else '[{"role":"assistant","content":' || to_json(case when left(said, 1) = '"' and json_valid(said) then json_extract_string(said::json, '$') else said end)::varchar || '}]' end);

-- Pieces of one answer (a text and a tool call apart) as one message.
create or replace macro joined_answer(messages) as
    case when len(messages) <= 1 then messages
        when len(list_filter(messages, lambda m: json_extract_string(m, '$.role') is distinct from 'assistant')) > 0 then messages
        else [json_merge_patch('{}', json_object('role', 'assistant',
            'content', array_to_string(list_filter(list_transform(messages, lambda m: json_extract_string(m, '$.content')), lambda t: t <> ''), chr(10)),
            'tool_calls', nullif(flatten(list_transform(messages, lambda m: coalesce(json_extract(m, '$.tool_calls[*]'), []::json[]))), []::json[])))::varchar] end;

create or replace macro message_array(messages) as '[' || array_to_string(messages, ',') || ']';

-- Messages in this shape with the arguments of tool calls as objects, not as text, and back again.
create or replace macro message_of(m, calls) as
    object_of([field('role', m.role), field('content', m.content), field('tool_calls', list_of(calls)), field('tool_call_id', m.tool_call_id)]);
create or replace macro call_of(t, arguments) as
    object_of([field('id', t.id), field('type', t.type), field('function', object_of([field('name', t.function.name), field('arguments', arguments)]))]);
create or replace macro with_objects(messages) as
    case when contains(messages, '"tool_calls"') then list_of(list_transform(
        from_json(messages, '[{"role":"JSON","content":"JSON","tool_calls":[{"id":"JSON","type":"JSON","function":{"name":"JSON","arguments":"VARCHAR"}}],"tool_call_id":"JSON"}]'),
        lambda m: message_of(m, list_transform(m.tool_calls, lambda t: call_of(t, t.function.arguments))))) else messages end;
create or replace macro with_texts(messages) as
    case when contains(messages, '"tool_calls"') then list_of(list_transform(
        from_json(messages, '[{"role":"JSON","content":"JSON","tool_calls":[{"id":"JSON","type":"JSON","function":{"name":"JSON","arguments":"JSON"}}],"tool_call_id":"JSON"}]'),
        lambda m: message_of(m, list_transform(m.tool_calls, lambda t: call_of(t, to_json(t.function.arguments::varchar)))))) else messages end;

-- Tools in OpenAI's shape, as a JSON array; null where none were offered.
create or replace macro chat_tools(defined) as
    case when json_type(try_cast(defined as json)) = 'ARRAY' and defined <> '[]' then
        list_of(list_transform(json_extract(defined::json, '$[*]'), lambda t: object_of([field('type', '"function"'), field('function', object_of([
            field('name', to_json(coalesce(json_extract_string(t, '$.function.name'), json_extract_string(t, '$.toolSpec.name'), json_extract_string(t, '$.name')))),
            field('description', to_json(coalesce(json_extract_string(t, '$.function.description'), json_extract_string(t, '$.toolSpec.description'), json_extract_string(t, '$.description')))),
            field('parameters', coalesce(json_extract(t, '$.function.parameters'), json_extract(t, '$.toolSpec.inputSchema.json'), json_extract(t, '$.input_schema'), json_extract(t, '$.parameters')))]))]))) end;

-- What images refer to: a URL, or the hash of bytes that were sent inside the message; never the bytes.
create or replace macro said_images(said) as
    case when said like '%image%' and json_valid(said) then
        list_transform(
            list_filter(list_concat(
                json_extract_string(said::json, '$[*].content[*].image_url.url'), json_extract_string(said::json, '$[*].content[*].image_url'),
                json_extract_string(said::json, '$[*].content[*].source.url'), json_extract_string(said::json, '$[*].content[*].source.data'),
                json_extract_string(said::json, '$[*].content[*].image.source.bytes')), lambda u: u is not null and left(u, 1) <> '{'),
            lambda u: case when u like 'http%' or u like 's3:%' or u like 'gs:%' then u else 'sha256:' || sha256(u) end)
        else []::varchar[] end;

-- All that is said in a list of messages, as one text; tool calls with their arguments.
create or replace macro messages_text(messages) as
    array_to_string(list_concat(
        json_extract_string(messages::json, '$[*].content'), json_extract_string(messages::json, '$[*].tool_calls[*].function.arguments')), chr(10));

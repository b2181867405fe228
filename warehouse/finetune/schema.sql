-- Why an example is no conversation that can be trained on; null where it is one.
select example_no,
    case
        when prompt is null or answer is null or not is_whole or len(json_extract(prompt, '$[*].content')) < len(asked) then 'no readable messages'
        when len(asked) = 0 then 'nothing asked'
        when len(list_filter(list_concat(asked, answered, refused), lambda r: r is null or r not in ('system', 'user', 'assistant', 'tool'))) > 0 then 'unknown role'
        when asked[-1] not in ('user', 'tool') then 'does not end with a question'
        when len(answered) <> 1 or answered[1] <> 'assistant' or (rejected is not null and (len(refused) <> 1 or refused[1] <> 'assistant')) then 'answer is not one message'
        when list_contains(asked[2:], 'system') then 'system prompt in the middle'
        when len(list_filter(range(2, len(asked) + 1), lambda n: asked[n] = asked[n - 1] and asked[n] <> 'tool')) > 0
            or len(list_filter(range(2, len(asked) + 1), lambda n: asked[n] = 'tool' and asked[n - 1] not in ('assistant', 'tool'))) > 0 then 'roles do not alternate'
        when trim(coalesce(json_extract_string(answer, '$[0].content'), '')) = '' and not json_exists(answer, '$[0].tool_calls[0]') then 'empty answer'
        when rejected is not null and trim(coalesce(json_extract_string(rejected, '$[0].content'), '')) = '' and not json_exists(rejected, '$[0].tool_calls[0]') then 'empty answer'
        when len(list_filter(list_concat(json_extract_string(prompt, '$[*].tool_calls[*].function.arguments'), json_extract_string(answer, '$[*].tool_calls[*].function.arguments'),
                json_extract_string(rejected, '$[*].tool_calls[*].function.arguments')), lambda a: a is not null and not json_valid(a))) > 0 then 'tool arguments do not parse'
        when len(list_filter(list_concat(json_extract(prompt, '$[*].tool_calls[*]'), json_extract(answer, '$[*].tool_calls[*]')), lambda t: coalesce(json_extract_string(t, '$.function.name'), '') = '')) > 0 then 'tool call without a name'
        when len(list_filter(json_extract_string(prompt, '$[*].tool_call_id'), lambda i: i is not null and not list_contains(json_extract_string(prompt, '$[*].tool_calls[*].id'), i))) > 0 then 'tool result without its call'
    end as reason
from (
    -- One role a message, null where it has none.
    select *, list_transform(json_extract(prompt, '$[*]'), lambda m: json_extract_string(m, '$.role')) as asked,
        list_transform(json_extract(answer, '$[*]'), lambda m: json_extract_string(m, '$.role')) as answered, list_transform(json_extract(rejected, '$[*]'), lambda m: json_extract_string(m, '$.role')) as refused
    from (
        select example_no, try_cast(prompt as json) as prompt, try_cast(answer as json) as answer, try_cast(rejected as json) as rejected,
            (rejected is null or json_valid(rejected)) and (tools is null or json_valid(tools)) and (images is null or json_valid(images)) as is_whole
        from unchecked
    ) as read
) as example

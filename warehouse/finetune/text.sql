-- What of a conversation is compared: turns without the system prompt, which many calls share.
create or replace macro turns_text(messages) as
    array_to_string(list_concat(
        case when json_extract_string(messages::json, '$[0].role') = 'system' then json_extract_string(messages::json, '$[*].content')[2:]
            else json_extract_string(messages::json, '$[*].content') end,
        json_extract_string(messages::json, '$[*].tool_calls[*].function.arguments')), chr(10));

create or replace macro plain_text(said) as array_to_string(text_words(said), ' ');

-- Language by script, else by the commonest words of seven languages; null where neither tells (code, a few words).
create or replace macro language_of(said) as
    case when regexp_matches(said, '[\p{Hiragana}\p{Katakana}]') then 'ja' when regexp_matches(said, '\p{Hangul}') then 'ko' when regexp_matches(said, '\p{Han}{2}') then 'zh'
        when regexp_matches(said, '\p{Cyrillic}{3}') then 'ru' when regexp_matches(said, '\p{Arabic}{3}') then 'ar' when regexp_matches(said, '\p{Devanagari}{3}') then 'hi'
        else list_transform(list_filter([list_max(list_transform([
            {'n': len(regexp_extract_all(lower(said), '\b(?:the|and|of|is|that|with|this|are|you)\b')), 'language': 'en'},
            {'n': len(regexp_extract_all(lower(said), '\b(?:der|die|und|ist|das|nicht|ein|mit|sie)\b')), 'language': 'de'},
            {'n': len(regexp_extract_all(lower(said), '\b(?:le|les|des|est|une|pas|pour|vous|dans)\b')), 'language': 'fr'},
            {'n': len(regexp_extract_all(lower(said), '\b(?:el|los|las|que|una|por|para|del|como)\b')), 'language': 'es'},
            {'n': len(regexp_extract_all(lower(said), '\b(?:il|che|di|per|non|una|sono|della|gli)\b')), 'language': 'it'},
            {'n': len(regexp_extract_all(lower(said), '\b(?:os|uma|com|não|para|mais|dos|você|isso)\b')), 'language': 'pt'},
            {'n': len(regexp_extract_all(lower(said), '\b(?:het|een|van|niet|dat|zijn|voor|met|ik)\b')), 'language': 'nl'}], lambda x: x))], lambda x: x.n >= 2), lambda x: x.language)[1] end;

-- How hard a call was, as far as it shows: turns, tools and length. No judgement of what was asked.
create or replace macro difficulty_of(prompt, tools, tokens) as
    case when len(regexp_extract_all(prompt, '"role":"user"')) >= 4 or coalesce(nullif(tokens, 0), strlen(prompt) // 4) >= 4000
            or (tools is not null and contains(prompt, '"tool_calls"')) then 'hard'
        when len(regexp_extract_all(prompt, '"role":"user"')) = 1 and tools is null and coalesce(nullif(tokens, 0), strlen(prompt) // 4) < 300 then 'easy' else 'medium' end;

-- Messages with stand-ins, in the arguments of tool calls too.
create or replace macro redacted_messages(messages, pairs) as
    list_transform([redacted_json(with_objects(messages), pairs)], lambda t: case when json_valid(t) then with_texts(t) else t end)[1];

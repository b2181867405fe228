-- The day on which a file arrived, as its place in landing says: <source>/day=<day>/<hash>.
create or replace macro landed_on(landing_file) as try_cast(substring(landing_file, instr(landing_file, '/day=') + 5, 10) as date);

-- Whether a call asked a model to say something, of which it can be told whether it did well.
create or replace macro is_generation(operation_name) as
    coalesce(operation_name, 'chat') not in ('embeddings', 'embedding', 'rerank', 'moderation', 'image_generation', 'speech', 'transcription', 'search', 'ocr', 'video');

-- Whether an answer was cut at a limit of tokens, or held back by a filter or refused, as every provider calls it; null where nothing is said.
create or replace macro is_truncated(finish_reason) as
    lower(finish_reason) in ('length', 'max_tokens', 'max_output_tokens', 'model_length', 'model_context_window_exceeded');
create or replace macro is_withheld(finish_reason) as
    regexp_matches(lower(finish_reason), 'content_filter|refusal|safety|guardrail|prohibited|blocklist|recitation|spii');

-- Calls that belong together: of one session, else of one trace. An id of one kind that equals one of another kind is another.
create or replace macro thread_of(source, session_id, trace_id, inference_id) as
    concat(source, ' ', coalesce('s ' || session_id, 't ' || trace_id, 'c ' || inference_id));

-- Names of models, as the same model is called differently by every gateway, cloud and price list.

-- Canonical name: lower case; the last path segment (all prefixes are providers, regions, sizes or owners); no Bedrock region,
-- vendor or revision, no TensorZero provider; versions with dots; Vertex' @date as -date. Dates, -latest, :free and :thinking are part of the name.
--   openrouter/anthropic/claude-3.5-sonnet, claude-3-5-sonnet           -> claude-3.5-sonnet
--   bedrock/us-east-1/us.anthropic.claude-3-5-sonnet-20240620-v1:0      -> claude-3.5-sonnet-20240620
--   vertex_ai/claude-3-5-sonnet@20240620                                -> claude-3.5-sonnet-20240620
create or replace macro model_path(name) as
    -- a last segment that is only a version belongs to the one before it; openai::gpt-4o
    regexp_replace(regexp_replace(regexp_replace(lower(trim(name)), '/(v[0-9][^/]*)$', '-\1'), '^.*/', ''), '^[a-z0-9_]+::', '');

create or replace macro model_unvended(name) as
    regexp_replace(
        regexp_replace(
            regexp_replace(name, '^~', ''),
            '^(?:us-gov|us|eu|apac|ap|jp|au|ca|sa|me|global)\.([a-z0-9-]+\.)', '\1'
        ),
        '^(?:ai21|amazon|anthropic|cohere|google|luma|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen|stability|twelvelabs|writer|xai|zai)\.', ''
    );

create or replace macro model_name(name) as
    -- 3-5 is version 3.5 where both are single digits (again: 3-2-1b) and 3p1 is Fireworks' 3.1
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
    regexp_replace(
        model_unvended(model_path(name)),
        '^(ft:[^:]+):.*$', '\1'),
        '@(?:default|latest)$', ''),
        -- Bedrock's deepseek.r1 has the owner as part of the name
        '^deepseek\.(?:deepseek-)?', 'deepseek-'),
        '@', '-', 'g'),
        '^claude(-instant)?-v([0-9])(?::([1-9]).*)?$', 'claude\1-\2-\3'),
        '^(claude.*)-$', '\1'),
        '-v0:([0-9])$', '-v0.\1'),
        '-v[0-9]+:[0-9]+(?::[0-9]+[km])?$', ''),
        '(^|[^0-9])([0-9])-([0-9])(-|$)', '\1\2.\3\4'),
        '([0-9])p([0-9])', '\1.\2'),
        '^(?:meta-)?llama-?v?([0-9])', 'llama-\1');

-- The family that a dated or numbered release belongs to: gpt-4o-2024-08-06 -> gpt-4o, mistral-large-2407 -> mistral-large,
-- gemini-1.5-pro-002 -> gemini-1.5-pro. Takes a canonical name. Only for matching where no exact name is found.
create or replace macro model_family(name) as
    regexp_replace(name, '-(?:20[0-9]{2}-[0-9]{2}-[0-9]{2}|20[0-9]{6}|[0-9]{2}-20[0-9]{2}|[0-9]{2}-[0-9]{2}|[0-9]{4}|00[0-9]|latest)$', '');

-- The ways to write a name that a price feed's own clause is tried on: whole, without its provider or path, and -20251211 as -2025-12-11.
create or replace macro model_spellings(name) as list_distinct([
    lower(trim(name)), regexp_replace(lower(trim(name)), '^[^/]*/', ''), model_path(name),
    regexp_replace(model_path(name), '-(20[0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])(:|-|$)', '-\1-\2-\3\4')]);

-- The parts of a clause of genai-prices of which one is to fit: {"equals": ..}, {"or": [{"starts_with": ..}, {"and": [..]}, ..]}.
create or replace macro clause_parts(clause) as
    case when (json_keys(clause))[1] = 'or' then json_extract(clause, '$.or[*]') else [cast(clause as json)] end;

-- Whether a name in lower case fits a part. What cannot be read fits no name. RE2 has no (?!..), which is read where it is all of an expression.
create or replace macro word_fits(word, text, name) as
    case word
        when 'equals' then name = lower(text)
        when 'starts_with' then starts_with(name, lower(text))
        when 'ends_with' then ends_with(name, lower(text))
        when 'contains' then contains(name, lower(text))
        when 'regex' then case when regexp_full_match(text, '\^\(\?!.*\)') then not try(regexp_matches(name, '^' || text[5:-2])) else try(regexp_matches(name, text)) end
    end;
create or replace macro part_fits(part, name) as
    list_bool_and(list_transform(case when (json_keys(part))[1] = 'and' then json_extract(part, '$.and[*]') else [part] end,
        lambda each: coalesce(word_fits((json_keys(each))[1], json_extract_string(each, '$.*')[1], name), false)));

-- Whether a name is the very one that a price feed has, before which it may put its provider, or the call a gateway's.
create or replace macro is_feed_name(name, feed_model) as
    ends_with('/' || lower(name), '/' || lower(feed_model)) or lower(name) = regexp_replace(lower(feed_model), '^[^/]*/', '');

-- The wider places that prices for a region may be listed under, as AWS names inference profiles and Azure data zones.
create or replace macro price_zones(region, jurisdiction) as
    case when starts_with(region, 'us-gov') then ['us-gov'] when starts_with(region, 'ap-') then ['apac', 'ap', jurisdiction]
         else [regexp_extract(region, '^(us|eu|ca|sa|me)-', 1), jurisdiction] end;

-- What was said, whatever dialect it was logged in: chat messages, Responses input, Anthropic, Bedrock, OTel parts, TensorZero.

-- The messages of a request as a list of JSON objects; null where it is none (a bare text is a prompt of its own).
create or replace macro said_messages(said) as
    json_extract(case json_type(try_cast(said as json))
        when 'ARRAY' then said
        when 'OBJECT' then coalesce(json_extract(said, '$.messages'), json_extract(said, '$.input'))::varchar end, '$[*]');

-- The text of one message.
create or replace macro message_text(message) as
    case when json_type(message, '$.content') = 'VARCHAR' then json_extract_string(message, '$.content')
        else nullif(array_to_string(list_concat(
            json_extract_string(message, '$.content[*].text'), json_extract_string(message, '$.content[*].value'),
            json_extract_string(message, '$.parts[*].content'), json_extract_string(message, '$.parts[*].text')), chr(10)), '') end;

-- The last thing the user said; null where no text was kept.
create or replace macro last_user_text(said) as
    case when json_type(try_cast(said as json)) in ('ARRAY', 'OBJECT')
        then message_text(list_filter(said_messages(said), lambda m: lower(json_extract_string(m, '$.role')) in ('user', 'human'))[-1])
        else coalesce(json_extract_string(try_cast(said as json), '$'), nullif(said, '')) end;

-- All turns of a conversation, the system prompt left out: what an answer depends on, for telling equal prompts from like ones.
create or replace macro conversation_text(said) as
    case when json_type(try_cast(said as json)) in ('ARRAY', 'OBJECT')
        then nullif(array_to_string(list_transform(
            list_filter(said_messages(said), lambda m: lower(json_extract_string(m, '$.role')) not in ('system', 'developer')),
            lambda m: lower(json_extract_string(m, '$.role')) || ': ' || coalesce(message_text(m), '')), chr(10)), '')
        else coalesce(json_extract_string(try_cast(said as json), '$'), nullif(said, '')) end;

-- The text of an answer: a list of messages or choices, one message, or plain text.
create or replace macro answer_text(said) as
    case json_type(try_cast(said as json))
        when 'ARRAY' then coalesce(message_text(json_extract(said, '$[0]')), message_text(json_extract(said, '$[0].message')), json_extract_string(said, '$[0].text'))
        when 'OBJECT' then coalesce(message_text(said::json), message_text(json_extract(said, '$.choices[0].message')), message_text(json_extract(said, '$.message')),
            message_text(json_extract(said, '$.output.message')), json_extract_string(said, '$.output_text'))
        else coalesce(json_extract_string(try_cast(said as json), '$'), nullif(said, '')) end;

-- The distinct words of a text, in lower case; every number is the same word.
create or replace macro words(said) as
    list_distinct(list_filter(regexp_split_to_array(regexp_replace(lower(said), '[0-9]+', '0', 'g'), '[^\pL\pN]+'), lambda w: w <> ''));

-- Share of their words that two texts have in common (Jaccard), 0..1; null where either has none.
create or replace macro word_overlap(a, b) as
    case when len(a) > 0 and len(b) > 0 then len(list_intersect(a, b)) / (len(a) + len(b) - len(list_intersect(a, b))) end;

-- The band of a call's input: more tokens than this, and not more than the next. The edges are those at which providers change prices
-- (32k, 128k, 200k, 272k) and two below and above.
create or replace macro context_band(input_tokens) as
    case when input_tokens > 1000000 then 1000000 when input_tokens > 272000 then 272000 when input_tokens > 200000 then 200000
         when input_tokens > 128000 then 128000 when input_tokens > 32000 then 32000 when input_tokens > 8000 then 8000 else 0 end;

-- The service tier that a call is priced at: what every provider calls its ordinary one is standard, and so is no word at all.
create or replace macro price_tier(service_tier) as
    case when service_tier is null or lower(service_tier) in ('standard', 'default', 'auto', 'on_demand', 'scale', 'none') then 'standard'
         else lower(service_tier) end;

-- The words of a text in order, in lower case; signs of scripts without spaces are words of their own.
create or replace macro text_words(said) as
    coalesce(string_split(nullif(trim(regexp_replace(lower(
        case when strlen(said) <> length(said) then regexp_replace(said, '([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}])', ' \1 ', 'g') else said end),
        '[^\pL\pN\pM]+', ' ', 'g')), ''), ' '), []::varchar[]);

-- Words as hashes of 32 bits: texts are compared by these, so that each is taken apart once.
create or replace macro word_hashes(words) as list_transform(words, lambda w: (hash(w) >> 32)::uinteger);

-- Readers that every staging select shares. A value that is there but cannot be read gives null here and a
-- word in `unreadable`, so that the gate can quarantine the row instead of losing the value in silence.

-- A whole, finite number as text ("2100", "2100.0", 2100) → bigint; anything else → null.
create or replace macro as_count(text) as
    case when regexp_full_match(text, '-?[0-9]{1,18}(\.0+)?') then try_cast(text as bigint) end;

-- An amount as text, scientific notation included → decimal, rounded half up to 1e-12.
create or replace macro as_usd(text) as try_cast(text as decimal(18, 12));

-- ISO 8601 text with or without zone (none means UTC), or epoch in s, ms, µs or ns told apart by size → UTC timestamp. Other words than
-- T, UTC and GMT, and other offsets than ±hh[:mm], cannot be read: a cast to timestamp drops them, be it EST, America/New_York or PM.
-- Nor can other years than 1 to 9999: at the edges of what DuckDB holds, a day more or less is an error that stops the whole source.
create or replace macro as_utc(text) as
    case
        when try_cast(text as double) between -62135596800 and 1e11 then make_timestamp(cast(round(try_cast(text as double) * 1e6) as bigint))
        -- Beyond what a clock can show, infinity included: no time.
        when try_cast(text as double) > 4e18 or try_cast(text as double) < 0 then null
        when try_cast(text as double) < 1e14 then make_timestamp(cast(round(try_cast(text as double) * 1e3) as bigint))
        when try_cast(text as double) < 1e17 then make_timestamp(try_cast(text as bigint))
        when try_cast(text as bigint) is not null then make_timestamp(try_cast(text as bigint) // 1000)
        when length(text) > 10 and regexp_matches(text, '(Z|z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$')
            and try_cast(text as timestamptz) between timestamptz '0001-01-01 00:00:00+00' and timestamptz '9999-12-31 23:59:59.999999+00'
            then cast(try_cast(text as timestamptz) at time zone 'UTC' as timestamp)
        when regexp_full_match(text, '(?i)[^a-z+:]*(t[^a-z+:]*)?(:[^a-z+-]*)?((etc/)?(utc?|gmt)\s*)?')
            and try_cast(text as timestamp) between timestamp '0001-01-01' and timestamp '9999-12-31 23:59:59.999999'
            then try_cast(text as timestamp)
    end;

-- A trace or span id of OTLP: hex, or the base64 of exporters that print protobuf bytes → lower-case hex; all zeros is no id.
create or replace macro otlp_id(text) as
    case
        when regexp_full_match(text, '0*') then null
        when regexp_full_match(text, '([0-9a-fA-F]{16}){1,2}') then lower(text)
        when regexp_full_match(text, '[A-Za-z0-9+/]{11}=|[A-Za-z0-9+/]{22}==') then lower(hex(from_base64(text)))
        else text
    end;

-- Null when `read` holds or nothing was there to read, else what could not be read.
create or replace macro unreadable(field, text, read) as
    case when text is not null and text <> '' and text <> 'null' and read is null then field || ' cannot be read' end;

-- Empty text, JSON null and "{}" mean "not given". Most texts are none of these, and are told from them at a glance.
create or replace macro given(text) as
    case when length(text) > 4 and text >= '!' then text
         else case trim(text) when '' then null when 'null' then null when 'None' then null when '{}' then null when '[]' then null
                              when '""' then null else text end
    end;

-- A provider's name without the API that the Vercel AI SDK puts behind it (openai.responses, google.vertex.chat).
create or replace macro provider_word(name) as
    regexp_replace(lower(given(name)), '\.(chat|responses|messages|completion|(text)?embedding|image|transcription|speech|generative-ai)$', '');

-- The lines of one format and chunk as they are written: the clean ones, and $dirt_share of them spoilt in one of twelve ways.
-- part and days_late tell the file. The select of the format is put in where it says so. A kind is chosen only where the line has what it spoils.
with rolled as (
    select l.*, draw(cast(call_no as ubigint) + cast($chunk_no as ubigint) * 1099511627776, 'dirt ' || $format) as roll,
        draw(cast(call_no as ubigint) + cast($chunk_no as ubigint) * 1099511627776, 'dirt kind ' || $format) as kind_roll,
        d.* exclude (format)
    from ($lines) l
    cross join (from read_csv($dirt_file, all_varchar = true) where format = $format) d
),
spoilt as (
    select * exclude (line), cast(line as varchar) as line, case when roll < $dirt_share then list_concat(
        ['duplicate_same_file', 'duplicate_other_file', 'duplicate_other_day', 'late', 'truncated', 'invalid_json', 'missing_id', 'blank_line'],
        case when regexp_matches(cast(line as varchar), token_pattern) then ['negative_tokens', 'wrong_type'] else [] end,
        case when regexp_matches(cast(line as varchar), time_pattern) then ['year_1970', 'year_2999'] else [] end) end as kinds
    from rolled
),
kinded as (
    select * exclude (kinds), kinds[1 + cast(floor(kind_roll * len(kinds)) as integer)] as dirt_kind,
        1 + cast(floor(kind_roll * 1e6) as bigint) % 2 as days
    from spoilt
),
original as (
    select call_no, inference_ids, dirt_kind, 0 as copy, case when dirt_kind = 'late' then days else 0 end as days_late, 'main' as part,
        case dirt_kind
            when 'truncated' then line[1:length(line) // 2]
            when 'invalid_json' then replace(line, '":', '" ')
            when 'negative_tokens' then regexp_replace(line, token_pattern, case when format_is_text then '\1"-17"' else '\1-17' end)
            when 'wrong_type' then regexp_replace(line, token_pattern, '\1"a lot"')
            when 'year_1970' then regexp_replace(line, time_pattern, '\1' || time_1970)
            when 'year_2999' then regexp_replace(line, time_pattern, '\1' || time_2999)
            when 'missing_id' then regexp_replace(line, id_pattern, '\1null')
            else line
        end as line
    from (select *, $format = 'otel' as format_is_text from kinded)
),
extra as (
    select call_no, inference_ids, dirt_kind, 1 as copy, case when dirt_kind = 'duplicate_other_day' then days else 0 end as days_late,
        case when dirt_kind = 'duplicate_other_file' then 'again' else 'main' end as part,
        case when dirt_kind = 'blank_line' then '' else line end as line
    from kinded
    where dirt_kind like 'duplicate%' or dirt_kind = 'blank_line'
)
select *, row_number() over (partition by part, days_late order by call_no, copy) as line_no,
    dirt_kind in ('truncated', 'invalid_json', 'missing_id', 'negative_tokens', 'wrong_type', 'year_1970', 'year_2999') as is_spoilt,
    case when dirt_kind in ('missing_id', 'negative_tokens', 'wrong_type', 'year_1970', 'year_2999') then inference_ids[1:1]
        when dirt_kind is not null and dirt_kind <> 'blank_line' then inference_ids end as hit_ids
from (from original union all from extra)
order by part, days_late, call_no, copy

-- marts.prompt: what depends on the text of a request alone, so that it is read once, whatever comes to be known of the call later.
with told as (
    select inference_id, started_at, input_messages, tool_definitions, last_user_text(input_messages) as prompt
    from core.inference_content
    where started_at >= $from_day and started_at < $to_day
)
select
    inference_id, started_at, prompt,
    md5(trim(regexp_replace(lower(conversation_text(input_messages)), '\s+', ' ', 'g'))) as prompt_key,
    len(said_messages(input_messages)) as message_count,
    json_array_length(case when json_valid(tool_definitions) then tool_definitions end) as tool_definition_count,
    length(prompt) as prompt_character_count,
    len(words(prompt)) as prompt_word_count,
    regexp_matches(prompt, '```|(^|\n)\s*(def|class|import|function|SELECT|select|#include|public) ') as has_code
from told

-- The signals of a chunk, with the channel that carries each: our own feedback files, or those of the call's format.
-- Langfuse scores have no rater; there an evaluator's name follows that of the score.
select feedback_id, channel, target_kind, target_id, trace_id, name, kind, value_number, rater_kind, rater_id, given_at
from simulate_feedback
order by call_no, name, rater_id

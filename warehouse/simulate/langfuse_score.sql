-- Langfuse scores of observations.
select call_no, given_at, to_json({
    'id': feedback_id, 'timestamp': strftime(given_at, '%Y-%m-%d %H:%M:%S'), 'project_id': 'simulated', 'environment': 'production',
    'trace_id': trace_id, 'observation_id': native_id, 'name': case when rater_kind = 'evaluator' then name || ' ' || rater_id else name end,
    'value': value_number, 'source': case when rater_kind = 'evaluator' then 'EVAL' else 'API' end,
    'data_type': case when kind = 'boolean' then 'BOOLEAN' else 'NUMERIC' end,
    'string_value': case when kind = 'boolean' then case when value_number = 1 then 'True' else 'False' end end,
    'created_at': strftime(given_at, '%Y-%m-%d %H:%M:%S'), 'updated_at': strftime(given_at, '%Y-%m-%d %H:%M:%S')}) as line
from simulate_feedback
where channel = 'langfuse'

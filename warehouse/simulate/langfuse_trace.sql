-- Langfuse traces: who and what the observations of a trace belong to.
select min(call_no) as call_no, to_json({
    'id': trace_id, 'timestamp': strftime(min(started_at), '%Y-%m-%d %H:%M:%S.%g'), 'name': any_value(workload), 'environment': 'production',
    'project_id': 'simulated', 'metadata': {'tenant': any_value(tenant), 'team': any_value(team)}, 'user_id': any_value(user_id),
    'session_id': any_value(session_id), 'tags': ['traffic:' || any_value(traffic_kind)],
    'created_at': strftime(min(started_at), '%Y-%m-%d %H:%M:%S.%g'), 'updated_at': strftime(max(finished_at), '%Y-%m-%d %H:%M:%S.%g')}) as line
from simulate_call
where format = 'langfuse'
group by trace_id

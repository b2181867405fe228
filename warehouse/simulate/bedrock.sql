-- AWS Bedrock model invocation log. inputTokenCount leaves out what the cache read and wrote; reasoning is not told apart.
-- The timestamp is when the request came, to the second.
select call_no, [inference_id] as inference_ids, to_json({
    'schemaType': 'ModelInvocationLog', 'schemaVersion': '1.0', 'timestamp': strftime(started_at, '%Y-%m-%dT%H:%M:%SZ'), 'accountId': '111122223333',
    'identity': {'arn': 'arn:aws:sts::111122223333:assumed-role/' || team || '/' || user_id}, 'region': request_region, 'inferenceRegion': served_region,
    'requestId': native_id, 'operation': case when is_streaming then 'ConverseStream' else 'Converse' end, 'modelId': request_model,
    'errorCode': case http_status when 429 then 'ThrottlingException' when 500 then 'InternalServerException' when 504 then 'ModelTimeoutException' end,
    'input': {'inputContentType': 'application/json', 'inputBodyJson': case when getvariable('with_content') then {
            'system': [{'text': system_text(workload_no)}],
            'messages': list_transform(list_filter(messages(workload_no, is_hard, earlier_text_key, text_key), lambda message: message.role <> 'system'),
                lambda message: {'role': message.role, 'content': [{'text': message.content}]})} end,
        'inputTokenCount': case when status = 'ok' then input_uncached_tokens end,
        'cacheReadInputTokenCount': case when status = 'ok' then cache_read_tokens end,
        'cacheWriteInputTokenCount': case when status = 'ok' then cache_write_tokens end},
    'output': case when status = 'ok' then {'outputContentType': 'application/json', 'outputBodyJson': {
            'output': {'message': {'role': 'assistant', 'content': list_concat(
                [to_json({'text': answer_text(workload_no, text_key)})], case when tool_call_count > 0 then
                [to_json({'toolUse': {'toolUseId': 'tooluse_' || hex16(call_key, 'tool'), 'name': 'look_up', 'input': {'reference': 7}}})] else [] end)}},
            'stopReason': case finish_reason when 'stop' then 'end_turn' when 'length' then 'max_tokens' when 'tool_calls' then 'tool_use' else 'guardrail_intervened' end,
            'metrics': {'latencyMs': latency_ms},
            'usage': {'inputTokens': input_uncached_tokens, 'outputTokens': output_tokens, 'cacheReadInputTokens': cache_read_tokens,
                'cacheWriteInputTokens': cache_write_tokens, 'totalTokens': input_tokens + output_tokens}},
        'outputTokenCount': output_tokens} end,
    'requestMetadata': {'tenant': tenant, 'team': team, 'user_id': user_id, 'session_id': session_id, 'workload': workload}}) as line
from simulate_call
where format = 'bedrock'

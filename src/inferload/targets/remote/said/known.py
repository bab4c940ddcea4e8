"""Metrics that are known by name: what they are in words, and which of them count requests."""

from __future__ import annotations

#: By name, in the order in which they are shown.
WORDS = {
    # https://docs.vllm.ai/en/latest/usage/metrics.html
    "vllm:request_success_total": "requests finished",
    "vllm:request_queue_time_seconds": "waiting in the queue",
    "vllm:time_to_first_token_seconds": "time to first token",
    "vllm:inter_token_latency_seconds": "between tokens",
    "vllm:e2e_request_latency_seconds": "whole request",
    "vllm:request_prefill_time_seconds": "prefill",
    "vllm:request_decode_time_seconds": "decode",
    "vllm:request_inference_time_seconds": "prefill and decode",
    "vllm:request_time_per_output_token_seconds": "per token, mean of a request",
    "vllm:prompt_tokens_total": "tokens of prompts",
    "vllm:generation_tokens_total": "tokens generated",
    "vllm:request_prompt_tokens": "prompt tokens a request",
    "vllm:request_generation_tokens": "generated tokens a request",
    "vllm:iteration_tokens_total": "tokens a step",
    "vllm:num_preemptions_total": "preemptions",
    "vllm:kv_cache_usage_perc": "KV cache in use",
    # https://kserve.github.io/website/docs/model-serving/predictive-inference/observability
    "request_preprocess_seconds": "preprocess",
    "request_predict_seconds": "predict",
    "request_postprocess_seconds": "postprocess",
    "request_explain_seconds": "explain",
    # https://github.com/triton-inference-server/server/blob/main/docs/user_guide/metrics.md
    "nv_inference_request_success": "requests answered",
    "nv_inference_request_failure": "requests failed",
    "nv_inference_count": "samples",
    "nv_inference_exec_count": "executions",
    "nv_inference_request_duration_us": "whole request",
    "nv_inference_queue_duration_us": "waiting in the queue",
    "nv_inference_compute_input_duration_us": "compute: inputs",
    "nv_inference_compute_infer_duration_us": "compute: model",
    "nv_inference_compute_output_duration_us": "compute: outputs",
    # https://docs.pytorch.org/serve/metrics.html
    "ts_inference_requests_total": "requests",
    "ts_queue_latency_microseconds": "waiting in the queue",
    "ts_inference_latency_microseconds": "inference",
}
#: Counts of the requests that were answered, of histograms by their observations.
REQUESTS = (
    "vllm:request_success_total",
    "nv_inference_request_success",
    "request_predict_seconds",
    "ts_inference_requests_total",
)
#: What the names of counters of time begin with, and what counts the requests that took it.
TIMES = {
    "nv_inference_": "nv_inference_request_success",
    "ts_": "ts_inference_requests_total",
}

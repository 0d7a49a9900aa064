"""Reports of TensorRT-LLM's `trtllm-bench throughput` and `latency` (`--report_json`).

tensorrt_llm/bench/dataclasses/reporting.py writes one object of sections: engine (model, formats), machine (the GPU's
name, in newer versions), world_info (sizes of the layout), request_info (lengths, requests in flight on average),
performance (rates; times in milliseconds), streaming_metrics (TTFT and TPOT, with --streaming and in `latency`) and
decoding_stats (speculative decoding). All of its requests are sent at once unless --concurrency limits them, so
latencies and TTFT include the wait for a place in the batch.
"""

from reports.served.fields import MS, Fields
from reports.served.log import ServedLog, Spread

BENCH = "trtllm-bench"
BENCH_KEYS = (
    *("engine.model", "request_info.num_requests", "request_info.avg_input_length", "request_info.avg_output_length"),
    *("performance.total_latency_ms", "performance.request_throughput_req_s"),
    "performance.system_output_throughput_tok_s",
)


def read_bench(log: Fields) -> ServedLog:
    """A report of `throughput` or `latency`. Raises BadLog."""
    requests = log.completed("request_info.num_requests")
    output = log.needed("performance.system_output_throughput_tok_s")
    rate = log.needed("performance.request_throughput_req_s")
    return ServedLog(
        file=log.file,
        form=BENCH,
        model=log.text("engine.model"),
        tokenizer=log.text("engine.model_path"),
        gpu=log.text("machine.name"),
        gpus=_gpus(log),
        weights=log.text("engine.quantization"),
        kv=log.text("engine.kv_cache_dtype"),
        requests=requests,
        duration_s=log.positive("performance.total_latency_ms", MS),
        isl=log.positive("request_info.avg_input_length"),
        osl=log.positive("request_info.avg_output_length"),
        requests_per_s=rate,
        output_tokens_per_s=output,
        total_tokens_per_s=log.positive("performance.system_total_throughput_tok_s"),
        ttft=_spread(log, "streaming_metrics.avg_ttft_ms", "streaming_metrics.ttft_percentiles"),
        tpot=_spread(log, "streaming_metrics.avg_tpot_ms", "streaming_metrics.tpot_percentiles"),
        latency=_spread(log, "performance.avg_request_latency_ms", "performance.request_latency_percentiles_ms"),
        in_flight=log.positive("request_info.avg_num_concurrent_requests"),
        tokens_per_step=log.positive("decoding_stats.acceptance_length_percentiles.average"),
    )


def _spread(log: Fields, mean: str, percentiles: str) -> Spread | None:
    mean_s = log.positive(mean, MS)
    if mean_s is None:
        return None
    return Spread(mean_s, log.positive(f"{percentiles}.p50", MS), log.positive(f"{percentiles}.p99", MS))


def _gpus(log: Fields) -> int | None:
    if (world := log.count("world_info.world_size")) is not None:
        return world or None
    tp, pp = log.count("world_info.tp_size"), log.count("world_info.pp_size")
    return None if tp is None else tp * (pp or 1) or None

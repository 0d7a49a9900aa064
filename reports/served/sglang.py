"""Results of SGLang's `bench_serving --output-file`: JSON lines, one for each run, appended to what the file holds.

python/sglang/bench_serving.py writes totals, rates and statistics in milliseconds as vLLM's tool does, of the whole
latency too (`mean_e2e_latency_ms`), and `concurrency`: the sum of all latencies over the duration. `request_rate` is
Infinity for requests sent at once, or "trace". The model is told only by newer versions, in `server_info`, which holds
the server's arguments; `accept_length` is null without speculative decoding.
"""

from reports.served.fields import Fields, ratio
from reports.served.log import ServedLog
from reports.served.vllm import detailed_latency

SERVING = "SGLang bench_serving"
SERVING_KEYS = (
    *("duration", "completed", "total_input_tokens", "total_output_tokens", "total_output_tokens_retokenized"),
    *("request_throughput", "output_throughput", "mean_e2e_latency_ms"),
)
_NO_FORMAT = ("auto", "bfloat16", "float16")


def read_serving(log: Fields) -> ServedLog:
    """A run of `bench_serving`. Raises BadLog."""
    requests, duration_s = log.completed("completed"), log.needed("duration")
    tokens_in, tokens_out = log.positive("total_input_tokens"), log.positive("total_output_tokens")
    kv = log.text("server_info.kv_cache_dtype")
    return ServedLog(
        file=log.file,
        form=SERVING,
        model=log.text("server_info.model_path") or log.text("server_info.served_model_name"),
        tokenizer=log.text("server_info.tokenizer_path"),
        gpus=_gpus(log),
        weights=log.text("server_info.quantization"),
        kv=None if kv in _NO_FORMAT else kv,
        requests=requests,
        failed=log.count("failed"),
        duration_s=duration_s,
        isl=ratio(tokens_in, requests),
        osl=ratio(tokens_out, requests),
        cached=ratio(log.positive("cache_report.total_cached_tokens"), requests),
        requests_per_s=requests / duration_s,
        output_tokens_per_s=ratio(tokens_out, duration_s),
        total_tokens_per_s=log.positive("total_throughput"),
        ttft=log.spread_ms("ttft"),
        tpot=log.spread_ms("tpot"),
        latency=log.spread_ms("e2e_latency") or detailed_latency(log),
        asked_per_s=log.rate_asked("request_rate"),
        most_in_flight=log.positive("max_concurrency"),
        in_flight=log.positive("concurrency"),
        tokens_per_step=log.positive("accept_length"),
    )


def _gpus(log: Fields) -> int | None:
    """The GPUs of the server. With attention data-parallel its copies are among the tp GPUs."""
    tp, pp, dp = (log.count(f"server_info.{size}_size") for size in ("tp", "pp", "dp"))
    if tp is None:
        return None
    return tp * (pp or 1) * (1 if log.find("server_info.enable_dp_attention") else dp or 1)

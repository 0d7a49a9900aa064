"""Results of vLLM's benchmarks: `vllm bench serve --save-result`, `bench throughput` and `bench latency --output-json`.

`bench serve` (vllm/benchmarks/serve.py, before it benchmarks/benchmark_serving.py) writes one object, or with
--append-result one behind the other: totals, rates, and mean, median, standard deviation and percentiles of TTFT, TPOT
and ITL in milliseconds; of the whole latency (e2el) only if asked. --save-detailed (always, in older versions) adds
lists with an entry for each request: input_lens, output_lens, ttfts and itls in seconds. `request_rate` is "inf" for
requests sent at once; `max_concurrency` is null without a limit. TTFT and latency count from when a request is sent.
"""

from reports.served.fields import Fields, ratio
from reports.served.log import ServedLog, Spread

SERVE = "vLLM bench serve"
SERVE_KEYS = (
    *("model_id", "duration", "completed", "total_input_tokens", "total_output_tokens"),
    *("request_throughput", "output_throughput"),
)
THROUGHPUT = "vLLM bench throughput"
THROUGHPUT_KEYS = ("elapsed_time", "num_requests", "total_num_tokens", "requests_per_second", "tokens_per_second")
LATENCY = "vLLM bench latency"
LATENCY_KEYS = ("avg_latency", "latencies", "percentiles")


def read_serve(log: Fields) -> ServedLog:
    """A run of `bench serve`. Raises BadLog."""
    requests = log.completed("completed")
    duration_s = log.needed("duration")
    tokens_in, tokens_out = log.positive("total_input_tokens"), log.positive("total_output_tokens")
    ramp = log.text("ramp_up_strategy")
    return ServedLog(
        file=log.file,
        form=SERVE,
        model=log.text("model_id"),
        tokenizer=log.text("tokenizer_id"),
        requests=requests,
        failed=log.count("failed"),
        duration_s=duration_s,
        isl=ratio(tokens_in, requests),
        osl=ratio(tokens_out, requests),
        requests_per_s=requests / duration_s,
        output_tokens_per_s=ratio(tokens_out, duration_s),
        total_tokens_per_s=log.positive("total_token_throughput"),
        ttft=log.spread_ms("ttft"),
        tpot=log.spread_ms("tpot"),
        latency=log.spread_ms("e2el") or detailed_latency(log),
        asked_per_s=log.rate_asked("request_rate"),
        most_in_flight=log.positive("max_concurrency"),
        tokens_per_step=log.positive("spec_decode_acceptance_length"),
        remarks=(f"requests came at a rising rate ({ramp} ramp-up): one load stands for all",) if ramp else (),
    )


def read_throughput(log: Fields) -> ServedLog:
    """A run of `bench throughput`, which sends all requests at once and tells prompts and output only together (some
    forks tell them apart). Raises BadLog."""
    requests, duration_s = log.completed("num_requests"), log.needed("elapsed_time")
    tokens_in, tokens_out = log.positive("total_input_tokens"), log.positive("total_output_tokens")
    tokens = log.needed("total_num_tokens")
    return ServedLog(
        file=log.file,
        form=THROUGHPUT,
        requests=requests,
        duration_s=duration_s,
        isl=ratio(tokens_in, requests),
        osl=ratio(tokens_out, requests),
        tokens=tokens / requests,
        requests_per_s=requests / duration_s,
        output_tokens_per_s=ratio(tokens_out, duration_s),
        total_tokens_per_s=tokens / duration_s,
    )


def read_latency(log: Fields) -> ServedLog:
    """A run of `bench latency`: the time of one batch from its prompts to its last tokens, and nothing else. Raises
    BadLog."""
    median_s, p99_s = log.positive("percentiles.50"), log.positive("percentiles.99")
    return ServedLog(file=log.file, form=LATENCY, latency=Spread(log.needed("avg_latency"), median_s, p99_s))


def detailed_latency(log: Fields) -> Spread | None:
    """The mean latency by the lists of each request: its TTFT and all times between its tokens. None without them."""
    firsts, between = log.numbers("ttfts"), log.find("itls")
    if not isinstance(between, list) or len(between) != len(firsts):
        return None
    pairs = zip(firsts, between, strict=True)
    latencies = [first + sum(gaps) for first, gaps in pairs if first > 0 and isinstance(gaps, list)]
    return Spread(sum(latencies) / len(latencies)) if latencies else None

"""What a server's benchmark measured, whatever tool wrote it: seconds, requests/s and tokens/s."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A time over all requests, in seconds."""

    mean_s: float
    median_s: float | None = None
    p99_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedLog:
    """One run of a benchmark. None: the file does not say."""

    file: str  # its name, with the run's number if it holds several
    run: int = 1  # that number
    form: str  # the tool that wrote it: "vLLM bench serve"
    model: str | None = None  # as the log calls it
    tokenizer: str | None = None
    gpu: str | None = None  # the product's name
    gpus: int | None = None
    weights: str | None = None  # format of the stored weights, by the name that the tool gives it
    kv: str | None = None  # format of the KV cache, likewise
    requests: int | None = None  # that completed
    failed: int | None = None
    duration_s: float | None = None
    isl: float | None = None  # prompt tokens of a request on average
    osl: float | None = None  # tokens that it made on average
    tokens: float | None = None  # both together, where the file does not tell them apart
    cached: float | None = None  # prompt tokens that a prefix cache had
    requests_per_s: float | None = None
    output_tokens_per_s: float | None = None
    total_tokens_per_s: float | None = None  # prompts and output; worked out of the lengths where it is not told
    ttft: Spread | None = None
    tpot: Spread | None = None  # (latency - TTFT) / (tokens - 1) of each request
    latency: Spread | None = None
    asked_per_s: float | None = None  # requests that were sent per second; None: as many as could be
    most_in_flight: float | None = None  # requests that were sent at most before others ended
    in_flight: float | None = None  # as the tool itself counted, on average
    tokens_per_step: float | None = None  # that speculative decoding made of each request
    remarks: tuple[str, ...] = ()  # what a reader should know about the file

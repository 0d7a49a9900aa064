"""The load that a run was under: lengths, requests in flight, and how many of them were decoding.

Little's law (1961) gives a mean number of requests from rate and time, whatever the order of service: rate x latency
are in flight, of which rate x (latency - TTFT) decode. The others wait or have their prompt read. That holds with a
limit of requests (a closed loop) as with a rate at which they come (an open loop).
"""

from dataclasses import dataclass, replace

from predict.errors import BadQuantity
from reports.served.log import ServedLog


@dataclass(frozen=True, slots=True)
class Given:
    """What the user says about a run, because the file does not. It goes before what the file says."""

    isl: int | None = None
    osl: int | None = None
    concurrency: float | None = None
    prefix: int | None = None
    tokens_per_step: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What a server had to do."""

    isl: int  # prompt tokens of a request
    osl: int  # tokens that it makes, at least 2
    cached: int  # prompt tokens that are cached already
    tokens_per_step: float  # that a step makes of each request: 1 without speculative decoding
    in_flight: float | None  # requests at a time, on average; None: not known
    decoding: float | None  # those of them that have their first token; None: no TPOT in the file
    notes: tuple[str, ...]  # where these numbers come from

    @property
    def context(self) -> int:
        """Cached tokens of a decoding request on average over its life."""
        return round(self.isl + (self.osl - 2) / 2)


def fill(log: ServedLog, given: Given) -> ServedLog:
    """The log with the rates and lengths that follow from what the user says. Raises BadQuantity, naming the options
    that are missing."""
    isl, osl = _lengths(log, given)
    rate = log.requests_per_s
    if rate is None:
        rate = _batch_rate(log, given)
    return replace(
        log,
        isl=isl,
        osl=osl,
        requests_per_s=rate,
        output_tokens_per_s=log.output_tokens_per_s or rate * osl,
        total_tokens_per_s=log.total_tokens_per_s or rate * (isl + osl),
    )


def find_load(log: ServedLog, given: Given) -> Load:
    """The load of a filled log. Raises BadQuantity for requests of one token, which have no decode step."""
    assert log.isl is not None
    assert log.osl is not None
    isl, osl = round(log.isl), round(log.osl)
    if osl < 2:
        raise BadQuantity(f"{log.file} makes {log.osl:.3g} tokens per request: there is no decode step to compare")
    cached = given.prefix if given.prefix is not None else round(log.cached or 0)
    if not 0 <= cached < isl:
        raise BadQuantity(f"prefix={cached} must be less than the {isl} tokens of the prompt")
    in_flight, notes = _in_flight(log, given)
    return Load(
        isl=isl,
        osl=osl,
        cached=cached,
        tokens_per_step=given.tokens_per_step or max(1.0, log.tokens_per_step or 1.0),
        in_flight=in_flight,
        decoding=_decoding(log),
        notes=(*_length_notes(log, given), *notes),
    )


def _lengths(log: ServedLog, given: Given) -> tuple[float, float]:
    """Tokens of a prompt and of an output. Where the file tells them only together, one gives the other."""
    isl, osl, both = given.isl or log.isl, given.osl or log.osl, log.tokens
    if both is not None and isl is not None and osl is None:
        osl = both - isl
    elif both is not None and osl is not None and isl is None:
        isl = both - osl
    if isl is None or osl is None:
        needed = "--isl and --osl" if both is None else "one of --isl and --osl"
        raise BadQuantity(f"{log.file} does not say how long prompts and outputs are: give {needed}, in tokens")
    if both is not None and min(isl, osl) < 1:
        raise BadQuantity(f"{log.file} has {both:,.4g} tokens per request, prompt and output: one length is too long")
    return isl, osl


def _batch_rate(log: ServedLog, given: Given) -> float:
    """Requests/s of a batch whose latency alone is known."""
    assert log.latency is not None
    if given.concurrency is None:
        raise BadQuantity(f"{log.file} does not say how many requests its batch has: give --concurrency")
    return given.concurrency / log.latency.mean_s


def _in_flight(log: ServedLog, given: Given) -> tuple[float | None, list[str]]:
    """The mean number of requests in flight, and where it comes from."""
    rate, osl = log.requests_per_s, log.osl
    assert rate is not None
    assert osl is not None
    if given.concurrency is not None:
        return given.concurrency, [f"{given.concurrency:g} requests in flight are as given"]
    if log.in_flight is not None:
        return log.in_flight, []
    if log.latency is not None:
        found = rate * log.latency.mean_s
        return found, [
            f"requests in flight: {rate:.4g} requests/s x {log.latency.mean_s:.4g} s of latency (Little's law)"
        ]
    if log.ttft is not None and log.tpot is not None:
        latency_s = log.ttft.mean_s + log.tpot.mean_s * (osl - 1)
        said = f"{rate:.4g} requests/s x {latency_s:.4g} s, which is TTFT + {osl - 1:.4g} x TPOT (Little's law)"
        return rate * latency_s, [f"requests in flight: {said}"]
    if log.most_in_flight is not None:
        return log.most_in_flight, ["requests in flight: the most that were sent, because the file has no latency"]
    return None, []


def _decoding(log: ServedLog) -> float | None:
    """The mean number of requests that decode."""
    if log.tpot is None:
        return None
    assert log.requests_per_s is not None
    assert log.osl is not None
    decode_s = log.tpot.mean_s * (log.osl - 1)
    if log.latency is not None and log.ttft is not None:
        decode_s = log.latency.mean_s - log.ttft.mean_s
    return max(0.0, log.requests_per_s * decode_s) or None


def _length_notes(log: ServedLog, given: Given) -> list[str]:
    if given.isl is not None and given.osl is not None:
        return []
    if log.tokens is not None and (given.isl or given.osl):
        return [
            f"{log.tokens:,.4g} tokens per request, prompt and output, are told together: the other length is the rest"
        ]
    return ["lengths are means over the requests, so all count as equally long"]

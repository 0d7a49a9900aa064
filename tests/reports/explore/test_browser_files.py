"""A config.json of the user's own, in a browser: dropped, chosen, left out; and files that are no model."""

import json

import pytest
from typer.testing import CliRunner

from predict.__main__ import app

LLAMA = {
    "model_type": "llama",
    "vocab_size": 1000,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
}
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>\x1b[31m\u202e"
DROP = """([name, text]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([text], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""


def choose(opened, content, name="config.json"):
    opened.page.set_input_files("#config-file", {"name": name, "mimeType": "application/json", "buffer": content})


def wait_for_config(opened):
    opened.page.wait_for_function("() => new URLSearchParams(location.search).has('config')")


def printed(file):
    result = CliRunner().invoke(app, ["model", "--config", str(file), "--gpu", "h100", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("way", ["chosen", "dropped"])
def test_a_configuration_gives_the_numbers_of_its_command(open_page, tmp_path, way):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA))
    opened = open_page()
    opened.see("flop")
    if way == "chosen":
        choose(opened, file.read_bytes())
    else:
        opened.page.evaluate(DROP, ["config.json", file.read_text()])
    wait_for_config(opened)
    shown = opened.shown("flop")
    told = {key: json.loads(value) for key, _, value, _ in shown["numbers"]}
    found = printed(file)
    assert told == {key: found[key] for key in told}
    assert shown["commands"] == ["napkin-bench predict model --config config.json --gpu h100-sxm --gpus 1"]
    opened.page.reload()
    assert opened.see("flop")["numbers"] == shown["numbers"]
    opened.page.click("#undrop")
    opened.page.wait_for_function("() => !new URLSearchParams(location.search).has('config')")
    assert "llama-3-8b" in opened.shown("flop")["commands"][0]


def test_a_file_that_is_gone_says_so(open_page):
    opened = open_page("config=0123456789abcdef&file=config.json", is_refused=True)
    assert opened.see("time")["error"] == "that config.json is no longer here: drop it onto the page again"


HOSTILE = {
    "too large": (b'{"x": "' + b"y" * 2_000_000 + b'"}', "a config.json has at most 1,000,000 bytes"),
    "too deep": (b"[" * 100_000, "config.json is not"),
    "no JSON": (b"not JSON", "config.json is not valid JSON"),
    "a list": (b"[1, 2]", "config.json holds no JSON object"),
    "no model": (b"{}", "config.json"),
    "too many layers": (json.dumps({**LLAMA, "num_hidden_layers": 10**9}).encode(), "more than the 10000 layers"),
    "too wide": (json.dumps({**LLAMA, "hidden_size": 10**13}).encode(), "more than any model has"),
    "no number": (json.dumps({**LLAMA, "hidden_size": float("nan")}).encode(), "hidden_size must be"),
    "a huge number": (json.dumps(LLAMA).replace("512", "1e400").encode(), "hidden_size must be"),
    "markup": (json.dumps({**LLAMA, "model_type": MARKUP}).encode(), "model_type"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_model_gets_one_line_and_the_page_goes_on(open_page, kind):
    content, says = HOSTILE[kind]
    opened = open_page(is_refused=True)
    before = opened.see("flop")
    choose(opened, content)
    opened.page.wait_for_function("() => !document.getElementById('dropped').textContent.startsWith('or drop')")
    told = opened.page.text_content("#dropped")
    assert says in told
    assert "\n" not in told
    assert opened.page.locator("#dropped *").count() == 0  # a text, whatever is in it
    opened.control("batch").press("ArrowRight")
    assert opened.shown("flop")["numbers"] != before["numbers"]


def test_names_with_markup_are_texts(open_page):
    """A name of a file, of a model and of a field that the reader does not know and therefore names."""
    opened = open_page()
    content = {**LLAMA, "_name_or_path": MARKUP, f"odd_{MARKUP}": 7}
    choose(opened, json.dumps(content).encode(), "<b>config</b>.json")
    wait_for_config(opened)
    for section in ("flop", "answer"):
        shown = opened.see(section)
        assert shown["error"] == ""
        assert opened.page.locator("main :is(img, script, b)").count() == 0
    assert "<b>config</b>.json" in opened.page.text_content("#dropped")


def test_experts_without_end_are_refused_in_time(open_page):
    opened = open_page(is_refused=True)
    mixture = {
        **LLAMA,
        "model_type": "mixtral",
        "num_local_experts": 10**9,
        "num_experts_per_tok": 2,
        "num_key_value_heads": 8,
    }
    choose(opened, json.dumps(mixture).encode())
    wait_for_config(opened)
    shown = opened.see("time")
    assert "leaves nothing of the 85.5 GB of a GPU" in shown["error"]  # for what a pass over all of them would hold
    opened.page.click("#undrop")
    opened.page.wait_for_function("() => !new URLSearchParams(location.search).has('config')")
    assert opened.shown("time")["numbers"]

"""The napkin on the command line. It needs no GPU.

    python -m predict kernel matmul m=16 n=8192 k=8192 --gpu h100
    matmul-m16-n8192-k8192-bf16 on h100-sxm    napkin 40.2 us    bound: dram    expected 48.5 us

`kernel` predicts one op at one size, `model` estimates a whole model on GPUs, `formula` evaluates one formula. `gpus`,
`models`, `ops` and `formulas` list what is known. `--explain` shows the arithmetic, `--json` prints SI units.
"""

import typer

from predict.command_line import run_command_line
from predict.commands import kernel, listings, model

app = typer.Typer(
    help="Predict the least time of work from its FLOP, its bytes and a GPU's roofs. Needs no GPU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,  # a shell completes `napkin-bench`: to it, this program is `python`
)
app.command(epilog=kernel.EXAMPLES)(kernel.kernel)
app.command(epilog=model.EXAMPLES)(model.model)
app.command()(listings.models)
app.command(epilog="Example: python -m predict formula speculation.speedup alpha=0.8 k=4 c=0.15")(listings.formula)
app.command()(listings.formulas)
app.command()(listings.gpus)
app.command()(listings.ops)

if __name__ == "__main__":
    run_command_line(app, "python -m predict")

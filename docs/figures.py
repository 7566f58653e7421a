"""Write everything the documentation quotes from the program, so that no figure in it is typed by hand.

    make figures        or: python docs/figures.py

Writes ``docs/figures/bubbles.svg``, ``docs/scenario.md``, the marked blocks of ``README.md`` and the printed outputs
of the notebooks; the tests ask the same functions and compare.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import simtrain as st
from simtrain.quantities import DIMENSIONS

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
SVG = DOCS / "figures" / "bubbles.svg"
SCENARIO = DOCS / "scenario.md"
NOTEBOOK = DOCS.parent / "notebooks" / "4090_vs_h100.ipynb"
SCHEDULES = DOCS.parent / "notebooks" / "pipeline_schedules.ipynb"
FAILURES = DOCS.parent / "notebooks" / "failure_what_if.ipynb"

STUDY = "4090-vs-h100"
_QUESTION = ("goodput", "--gpus", "2048", "--mtbf", "30 days", "--recovery", "10 min")
_FREE = (*_QUESTION, "--checkpoint", "0 s", "--interval", "10 min")
_BEST = (*_QUESTION, "--checkpoint", "30 s", "--interval", "exact")
_LLAMA = ("goodput", "h100", "--gpus", "16384", "--work", "51 days", "--interval", "10 min")
GOODPUT = (
    *(_FREE, (*_FREE, "--immune"), _BEST, (*_BEST, "--immune")),
    (*_LLAMA, "--checkpoint", "0.1 s", "--persist", "3 s"),
)
PICTURE = (
    "llama2-70b-on-2048-rtx4090",
    "layout.tp=4",
    "layout.pp=8",
    "layout.vpp=1",
    "layout.schedule=1f1b",
    "title=LLaMA-2 70B on 2048 RTX 4090, tp 4, pp 8, 1F1B",
)
_BLOCK = r"(<!-- {name} -->\n)(.*?)(<!-- end -->)"


def bubble_svg() -> str:
    """The bubble timeline at the top of the README."""
    return st.report.svg(st.simulate_step(st.load(PICTURE[0], *PICTURE[1:])))


def study_table() -> str:
    """The tables that ``simtrain compare`` prints for the study, without those of time and differences below them."""
    from rich.console import Console

    from simtrain.reliability.run import run_of
    from simtrain.report.run_tables import runs_table
    from simtrain.report.tables import compare_table
    from simtrain.step.compare import differences, step_key

    scenarios = st.load_study(STUDY)[1]
    first = {step_key(scenario): scenario for scenario in reversed(scenarios)}
    found = {step_key(scenario): st.simulate_step(first[step_key(scenario)]) for scenario in first.values()}
    steps = [found[key] for key in dict.fromkeys(map(step_key, scenarios))]
    runs = [run_of(replace(found[step_key(scenario)], scenario=scenario)) for scenario in scenarios]
    out = io.StringIO()
    console = Console(file=out, width=118, highlight=False)
    console.print(compare_table(steps, differences(steps)))
    console.print(runs_table(runs))
    return _fenced(_compact(out.getvalue()))


def goodput_answers() -> str:
    """What ``simtrain goodput`` answers to the question of the README: the first in full, then one line each."""
    lines = [f"$ simtrain {shlex.join(GOODPUT[0])}\n{_compact(_printed(GOODPUT[0]))}"]
    for command in GOODPUT[1:]:
        wanted = "goodput|failures +[0-9]" if "h100" in command else "goodput"
        found = [line for line in _printed(command).splitlines() if re.search(wanted, line)]
        lines.append(f"$ simtrain {shlex.join(command)} | grep -E {shlex.quote(wanted)}\n" + _compact("\n".join(found)))
    return _fenced("\n".join(lines))


def _printed(command: tuple[str, ...]) -> str:
    from simtrain.cli.main import app

    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        app(list(command), standalone_mode=False)
    return out.getvalue()


def _compact(text: str) -> str:
    """Without spaces at the ends of lines, and without empty lines."""
    lines = [line.rstrip() for line in text.splitlines()]
    return "".join(f"{line}\n" for line in lines if line)


def command_table() -> str:
    """Every command of the program with the first sentence of its help."""
    from typer.main import get_command

    from simtrain.cli.main import app

    rows = ["| command | does |\n", "|---|---|\n"]
    for name, command in sorted(get_command(app).commands.items()):  # type: ignore[attr-defined]
        wanted = [str(p.metavar) for p in command.params if p.param_type_name == "argument"]
        sentence = " ".join(command.help.split("\n\n")[0].split()).replace("|", "\\|")
        words = " ".join(["simtrain", name, *wanted]).replace("|", "\\|")
        rows.append(f"| `{words}` | {sentence} |\n")
    return "".join(rows)


def _fenced(text: str) -> str:
    return f"```text\n{text}```\n"


def python_example(readme: str) -> str:
    """The program in the README's Python block."""
    found = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    if found is None:
        raise SystemExit("README.md has no Python block")
    return found[1]


def python_output(readme: str) -> str:
    """What the README's Python block prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        exec(compile(python_example(readme), "README.md", "exec"), {})  # noqa: S102  our own document
    return _fenced(out.getvalue())


def block(readme: str, name: str) -> str:
    """The text of a marked block of the README."""
    found = re.search(_BLOCK.format(name=re.escape(name)), readme, re.DOTALL)
    if found is None:
        raise SystemExit(f"README.md has no block <!-- {name} -->")
    return found[2]


def filled(readme: str, texts: Mapping[str, str]) -> str:
    """The README with the text of each named block replaced."""
    for name, text in texts.items():
        block(readme, name)
        readme = re.sub(
            _BLOCK.format(name=re.escape(name)), lambda m, new=text: m[1] + new + m[3], readme, flags=re.DOTALL
        )
    return readme


_OPENING = """\
# Keys of a scenario

Written by `make figures` from the schema (`simtrain schema`); do not edit. A blank meaning: the name says it.

- A part (cluster, node, device, fabric, workload, model, kernels, reliability) is written out, or named: a catalogue
  name (`simtrain catalog`), or a path (anything with a slash or ending in `.yaml`), relative to the file that says it.
- `extends: NAME` starts from another document of the same kind; the keys beside it go on top, mapping by mapping.
- `--set a.b.c=value` changes one value after everything is read; it reaches into named parts too
  (`--set cluster.node.nics=8`). The result is validated again.
- Quantities carry their unit: `400 Gbps` and `400 Gb/s` are bits, `50 GB/s` bytes, `GB` is 10^9 and `GiB` 2^30.
  A bare number is refused where a unit is needed, except 0.
- A study (`simtrain compare`) is a list of scenarios, each with `name`, `extends` and `set`; a sweep (`simtrain sweep`)
  is a grid of them.
"""

_SECTIONS = (
    *("Scenario", "Workload", "ExpertRouting", "Layout", "Software", "Money"),
    *(
        "Reliability",
        "Failures",
        "RecoverySteps",
        "CheckpointPolicy",
        "LocalDisk",
        "Storage",
        "Spares",
        "TimeLaw",
        "Cluster",
        "CollectiveSoftware",
    ),
    *("Contention", "HeldSms", "SingleSwitch", "FatTree", "Dragonfly", "Torus", "Node"),
    *("SwitchedLinks", "MeshLinks", "PcieTree", "Link", "Device", "KernelTable", "KernelEfficiency"),
    *("GemmEfficiency", "AttentionEfficiency", "InTraining", "EarlyInTraining"),
    *("Model", "GroupedQueryAttention", "LatentAttention", "MixtureOfExperts"),
    *("Study", "StudyEntry", "Sweep", "Range"),
)


def scenario_page() -> str:
    """``docs/scenario.md``: a table of keys for every part of a scenario."""
    from simtrain.scenario.scenario import Range, Scenario, Study, Sweep

    whole = {cls.__name__: cls.model_json_schema() for cls in (Scenario, Study, Sweep, Range)}
    parts = {**whole, **{name: part for each in whole.values() for name, part in each.get("$defs", {}).items()}}
    missing = set(parts) - set(_SECTIONS)
    if missing:
        raise SystemExit(f"docs/figures.py: _SECTIONS lacks {sorted(missing)}")
    return "\n".join([_OPENING, *(line for name in _SECTIONS for line in _section(name, parts[name]))])


def _section(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {name}\n"
    yield " ".join(part.get("description", "").split()) + "\n"
    yield "| key | what is written | default | meaning |"
    yield "|---|---|---|---|"
    required = part.get("required", ())
    for key, value in part["properties"].items():
        default = "**needed**" if key in required else _default(value.get("default"))
        yield f"| `{key}` | {_written(value)} | {default} | {_meaning(value)} |"
    yield ""


def _meaning(value: Mapping[str, Any]) -> str:
    text = " ".join(value.get("description", "").split())
    return "" if text.endswith("with its unit") else text


def _default(value: object) -> str:
    if value is None:
        return "absent"
    if value in ("", {}, []):
        return "empty"
    if isinstance(value, dict):
        return "its defaults"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _written(value: Mapping[str, Any]) -> str:
    options = value.get("anyOf") or value.get("oneOf")
    if options:
        shown = [_written(each) for each in options if each.get("type") != "null"]
        if "[TimeLaw](#timelaw)" in shown:
            return "time: `10 min`, or [TimeLaw](#timelaw)"
        if not any("$ref" in each for each in options):
            return " or ".join(dict.fromkeys(shown))
        return " or ".join(dict.fromkeys("a name" if text == "text" and len(shown) > 1 else text for text in shown))
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "examples" in value:
        return next(
            f"{d.noun}: `{d.examples[0]}`" for d in DIMENSIONS.values() if list(d.examples) == value["examples"]
        )
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    return _plain(value)


def _plain(value: Mapping[str, Any]) -> str:
    kind = value.get("type")
    if kind == "array":
        return f"list of {_written(value['items'])}"
    if kind == "object":
        inner = value.get("additionalProperties")
        return f"mapping to {_written(inner)}" if isinstance(inner, Mapping) and inner else "mapping"
    signs = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    bounds = ", ".join(f"{sign} {value[key]:g}" for key, sign in signs if key in value)
    names = {"string": "text", "boolean": "true or false", "integer": "whole number", "number": "number"}
    return f"{names.get(str(kind), 'any value')} {bounds}".strip()


def executed_notebook(path: Path = NOTEBOOK) -> Any:
    """A notebook (an ``nbformat`` node) with what its cells give now."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    metadata = notebook.metadata.copy()
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources, record_timing=False).execute()
    notebook.metadata = metadata
    return notebook


def without_figures(notebook: Any) -> Any:
    """A notebook with nothing but printed outputs; the figures in it would be megabytes."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.output_type == "stream" and out.name == "stdout"]
    return notebook


def main() -> None:
    """Write every generated file."""
    import nbformat

    SVG.parent.mkdir(exist_ok=True)
    SVG.write_text(bubble_svg(), encoding="utf-8")
    SCENARIO.write_text(scenario_page(), encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    blocks = {
        "make demo": study_table(),
        "goodput": goodput_answers(),
        "commands": command_table(),
        "python": python_output(readme),
    }
    README.write_text(filled(readme, blocks), encoding="utf-8")
    for notebook in (NOTEBOOK, SCHEDULES, FAILURES):
        nbformat.write(without_figures(executed_notebook(notebook)), notebook)


if __name__ == "__main__":
    main()

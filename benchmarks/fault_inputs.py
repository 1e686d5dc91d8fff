"""Wrong recipes and rows by the thousand, for benchmarks/faults.py; and the fuzzer's targets.

python benchmarks/fault_inputs.py recipe SECONDS    (or: rows)
"""

from __future__ import annotations

import contextlib
import io
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEEDS = Path("tests/assets/fuzz")
Result = dict[str, Any]


def outcome(words: list[str]) -> tuple[int, str]:
    """Exit code and stderr of a command, in this process."""
    from kft.cli.main import run_words

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = run_words(words)
    return code, said.getvalue()


def counted(told: Result, words: list[str]) -> None:
    """Run a command and count what came of it."""
    began = time.perf_counter()
    code, said = outcome(words)
    told[f"exit {code}"] = told.get(f"exit {code}", 0) + 1
    told["seconds at most"] = max(told["seconds at most"], time.perf_counter() - began)
    if code not in (0, 2) or "Traceback" in said or "kft met something" in said:
        told["wrong"].append(said[-400:])


def recipes(work: Path, count: int, model: Path) -> Result:
    """Recipes that hypothesis makes: half of them right ones, `kft check` reads them all."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    path, told = work / "recipe.yaml", {"recipes": 0, "seconds at most": 0.0, "wrong": []}
    rows = sorted((SEEDS / "rows").iterdir())
    fixed = {"model.name_or_path": str(model), "output_dir": str(work / "run")}

    @seed(0)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.one_of(wrong_recipes(), right_recipes(fixed, list(map(str, rows)))))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        told["recipes"] += 1
        counted(told, ["check", str(path)])

    check()
    return told


def wrong_recipes() -> Any:
    """The schema's own keys with values of any kind, and some bytes put in; as bytes."""
    from hypothesis import strategies as st

    from kft.recipe.schema import Recipe

    sections = {
        name: list(getattr(field.annotation, "model_fields", {}))
        for name, field in Recipe.model_fields.items()
    }
    scalar = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
        st.sampled_from(["auto", "lora", "full", "causal_lm", "qlora", "nf4", "2e-4", "~", "/"]),
    )  # fmt: skip
    value = st.recursive(
        scalar,
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=6), below),
        max_leaves=6,
    )
    words = st.text(max_size=8)

    def section(names: list[str]) -> Any:
        keys = st.sampled_from(names) | words if names else words
        return st.dictionaries(keys, value, max_size=5) if names else value

    recipe = st.fixed_dictionaries({}, optional={n: section(k) for n, k in sections.items()})

    def spoilt(content: dict[str, Any], noise: bytes, place: int) -> bytes:
        text = as_yaml(content)
        return text[:place] + noise + text[place:]

    return st.builds(spoilt, recipe, st.binary(max_size=3), st.integers(0, 400))


def right_recipes(fixed: dict[str, str], rows: list[str]) -> Any:
    """A few keys with values of their types, within their limits; as bytes.

    Each key is right by itself. Some pairs of them are not, and kft has to say so.
    """
    from hypothesis import strategies as st

    from kft.recipe.keys import keys

    values = {
        path: st.one_of(*drawn)
        for path, key in keys().items()
        if path not in fixed and (drawn := [one for form in key.forms for one in of_form(form)])
    }
    some = st.lists(st.sampled_from(sorted(values)), max_size=4, unique=True)
    chosen = some.flatmap(lambda names: st.fixed_dictionaries({n: values[n] for n in names}))

    def nested(drawn: dict[str, Any], train: str) -> bytes:
        content: dict[str, Any] = {}
        for path, value in {**drawn, **fixed, "data.train": train}.items():
            section, _, name = path.rpartition(".")
            (content.setdefault(section, {}) if section else content)[name] = value
        return as_yaml(content)

    return st.builds(nested, chosen, st.sampled_from(rows))


def of_form(form: Any) -> list[Any]:
    """What makes the values of one alternative of a key's type; nothing for free text."""
    from hypothesis import strategies as st

    low = form.get("minimum", form.get("exclusiveMinimum", 0))
    is_open = {"exclude_min": "exclusiveMinimum" in form, "exclude_max": True}
    match form.get("type"):
        case "boolean":
            return [st.booleans()]
        case "null":
            return [st.none()]
        case "integer":
            return [st.integers(low, low + 40)]
        case "number":
            return [st.floats(low, form.get("exclusiveMaximum", 5), **is_open)]
    choices = form.get("enum") or [form["const"]] if "enum" in form or "const" in form else []
    return [st.sampled_from(choices)] if choices else []


def as_yaml(content: dict[str, Any]) -> bytes:
    """A recipe's file."""
    import yaml

    return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")


def rows(work: Path, count: int, model: Path, seed: int = 0) -> Result:
    """Files of rows with bytes changed, cut, doubled and swapped; `kft check` reads them."""
    draw = random.Random(seed)
    told: Result = {"files": 0, "seconds at most": 0.0, "wrong": []}
    recipe = work / "recipe.yaml"
    seeds = sorted((SEEDS / "rows").iterdir())
    for _ in range(count):
        source = draw.choice(seeds)
        content = bytearray(source.read_bytes())
        for _ in range(draw.randint(0, 2)):
            mutate(content, draw)
        path = work / f"rows{source.suffix}"
        path.write_bytes(content)
        recipe.write_text(
            f"model: {{name_or_path: {model}}}\ndata: {{train: {path}}}\noutput_dir: {work}/run\n",
            encoding="utf-8",
        )
        told["files"] += 1
        counted(told, ["check", str(recipe)])
    return told


def mutate(content: bytearray, draw: random.Random) -> None:
    """One change of some bytes."""
    start = draw.randrange(len(content) + 1)
    stop = min(len(content), start + draw.randint(1, 12))
    odd = [b"\0", b"\xff\xfe", b'"', b"\n", b"{", b"]", b",", b"\xed\xa0\x80", b"1e999", b"null"]
    match draw.randrange(4):
        case 0:
            content[start:stop] = draw.choice(odd)
        case 1:
            del content[start:stop]
        case 2:
            content[start:start] = content[start:stop] * draw.randint(1, 40)
        case _:
            content[start:stop] = draw.randbytes(stop - start)


def fuzz(target: str, seconds: int) -> Result:
    """Let atheris look for a crash in a process of its own."""
    words = [sys.executable, __file__, target, str(seconds)]
    done = subprocess.run(words, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith(("Done", "#"))]
    return {"exit": done.returncode, "last": lines[-1] if lines else done.stderr[-400:]}


def _one_recipe(content: bytes) -> None:
    from kft.errors import KftError
    from kft.recipe.document import parse
    from kft.recipe.reader import read_recipe
    from kft.recipe.source import Source

    with contextlib.suppress(KftError):
        parse(content.decode("utf-8", "replace"), Source("a.yaml"))
    path = Path(tempfile.gettempdir()) / "kft-fuzz.yaml"
    path.write_bytes(content)
    with contextlib.suppress(KftError):
        read_recipe(path)


def _one_file(content: bytes) -> None:
    from kft.data.rows import read_rows
    from kft.data.sources import DataFile
    from kft.errors import KftError

    kinds = (".jsonl", ".json", ".csv", ".tsv", ".txt")
    path = (
        Path(tempfile.gettempdir())
        / f"kft-fuzz{kinds[content[0] % len(kinds)] if content else '.txt'}"
    )
    path.write_bytes(content[1:])
    with contextlib.suppress(KftError):
        for _ in read_rows(DataFile(path)):
            pass


def main() -> None:
    """What :func:`fuzz` starts."""
    import atheris

    target, seconds = sys.argv[1:]
    with atheris.instrument_imports(include=["kft"]):
        import kft.data.rows
        import kft.recipe.reader  # noqa: F401 -- instrumented as they are imported
    one = _one_recipe if target == "recipe" else _one_file
    with tempfile.TemporaryDirectory() as found:  # new inputs go there, the seeds stay as they are
        options = [f"-max_total_time={seconds}", "-timeout=20", found, str(SEEDS / target)]
        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

"""docs/recipes.md and its Korean page: a table of the shipped recipes, read from them."""

from __future__ import annotations

import json
import re
import statistics
from itertools import takewhile
from pathlib import Path

from kft.errors import UsageError
from kft.models.preset_memory import memory_need
from kft.models.presets import Preset, find_preset
from kft.recipe.reader import read_recipe

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "recipes"
GIB = 2**30
RESULTS = ROOT / "benchmarks/results"
Measured = tuple[str, tuple[str, ...], str, str]


def _bert(task: str, metric: str, way: str = "lora") -> Measured:
    return "bert_tasks", ("tasks", task, "ways", way), metric, "ko-bert-mini"


MEASURED: dict[str, Measured] = {
    "nsmc_gpt_lora": ("nsmc", ("lora",), "accuracy", "ko-gpt-mini"),
    "klue_bert_nsmc": _bert("nsmc", "accuracy"),
    "korsts_regression": _bert("korsts", "pearson"),
    "klue_ner": _bert("ner", "entity_micro_f1"),
    "koelectra_kornli": _bert("nli", "accuracy"),
    "kcbert_prefix_chat": _bert("chat", "bits_per_character", way="prefix"),
}
"""Recipe -> file of results, where in it, the metric, the small checkpoint it was measured with."""

COLUMNS = (
    ("recipe", "what it does", "checkpoint", "memory", "commercial use", "measured"),
    ("레시피", "하는 일", "체크포인트", "메모리", "상업적 이용", "잰 결과"),
)
INTRODUCTION = (
    """# Recipes

Each file in `recipes/` is complete: its head has the commands, those that fetch the data too, and
each value says what it trades. Copy the nearest one. All of them are run for a few steps in the
tests, on a checkpoint of the same architecture with random weights.

Memory is the estimate of `kft presets` at rank 8 and 8 rows of 512 tokens, for comparison: a
recipe's own rows may be shorter. What was measured was measured with the small checkpoint named
there, on two CPU cores that did other work too: the mean score of its seeds, minutes of training,
greatest memory. The others are starting points.

""",
    """# 레시피

`recipes/`의 파일은 하나하나 완전합니다. 머리말에 데이터를 받는 것까지 모든 명령이 있고, 값마다
무엇을 얻고 무엇을 내주는지 적혀 있습니다. 가장 가까운 것을 베껴서 시작하세요. 모두 테스트에서 같은
구조의 무작위 체크포인트로 몇 스텝씩 실행됩니다.

메모리는 랭크 8, 512토큰짜리 8행일 때 `kft presets`의 어림값이며 견주기 위한 것입니다. 잰 결과는
거기 적힌 작은 체크포인트로 다른 일도 하던 CPU 코어 둘에서 잰 것입니다: 시드 평균 점수, 학습에 든
분, 가장 많이 쓴 메모리. 나머지는 출발점입니다.

""",
)
COMMERCIAL = {True: ("allowed", "가능"), False: ("not allowed", "불가"), None: ("unknown", "모름")}


def summary(path: Path) -> str:
    """The head up to the first full stop that ends a sentence."""
    every = path.read_text(encoding="utf-8").splitlines()
    lines = takewhile(lambda line: line.startswith("# "), every)
    text = " ".join(line.removeprefix("# ").strip() for line in lines)
    found = re.search(r"^.*?\.(?= |$)", text)
    return found[0] if found else text


def preset_of(name: str) -> Preset | None:
    """The checkpoint's entry, if it has one."""
    try:
        return find_preset(name)
    except UsageError:
        return None


def memory(preset: Preset | None, method: str) -> str:
    """The estimate in GiB, or nothing."""
    if preset is None or method == "full":
        return ""
    need = memory_need(preset, quantized=method == "qlora")
    return f"{need.total / GIB:.1f} GiB" if need is not None else ""


def measured(name: str, language: int) -> str:
    """The score, the time and the memory of a recipe that was measured; else nothing."""
    if name not in MEASURED:
        return ""
    file, keys, metric, checkpoint = MEASURED[name]
    found = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))
    for key in keys:
        found = found.get(key, {})
    if not found:
        return ""
    score = statistics.mean(found[metric])
    minutes = f"{found['train_seconds'] / 60:.0f} {('min', '분')[language]}"
    parts = [f"[{metric} {score:.3f}](evidence/{file}.md)", minutes]
    if "peak_memory_bytes" in found:
        parts.append(f"{found['peak_memory_bytes'] / GIB:.1f} GiB")
    return ", ".join([*parts, checkpoint])


def recipe_page(language: int) -> str:
    """The page; 0 is English, 1 Korean."""
    columns = COLUMNS[language]
    rows = [f"| {' | '.join(columns)} |", "|---|---|---|--:|---|---|"]
    texts = []
    for path in sorted(FOLDER.glob("*.yaml")):
        recipe = read_recipe(path, {})
        preset = preset_of(recipe.model.name_or_path)
        licence = COMMERCIAL[preset.commercial][language] if preset else "CC0"
        name, method = recipe.model.name_or_path, recipe.adapter.method
        rows.append(
            f"| [{path.stem}](#{path.stem}) | {summary(path)} | {name}, {method} |"
            f" {memory(preset, method)} | {licence} | {measured(path.stem, language)} |"
        )
        text = path.read_text(encoding="utf-8").rstrip()
        texts.append(f"\n## {path.stem}\n\n```yaml\n{text}\n```\n")
    return INTRODUCTION[language] + "\n".join(rows) + "\n" + "".join(texts)

# ruff: noqa: E501, SIM905 -- the table's lines are long, and so would be a list of words
"""What many rows cost: memory and time of reading, checking and finding them again.

    python benchmarks/rows.py --nsmc ratings_train.txt

Writes synthetic files of two million rows, checks each twice in processes of their own with an
empty cache to begin with, and NSMC's 150,000 rows likewise. Anonymous memory is what can't be
dropped and read again from a file (RssAnon in /proc/self/status), sampled ten times a second.
Writes benchmarks/results/rows.json and docs/evidence/data.md; `--only NAME` measures one of the
data sets again and leaves the others' numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROWS = 2_000_000
MODEL = "data/checkpoints/ko-gpt-mini"
FOLDER = Path("runs/rows")
RESULTS = Path("benchmarks/results/rows.json")
PAGE = Path("docs/evidence/data.md")
LIMIT_BYTES, LIMIT_SECONDS, LIMIT_NSMC_SECONDS = 1.5e9, 10, 30
TITLES = {
    "prompt_completion": "2,000,000 prompts with answers",
    "text": "2,000,000 texts",
    "nsmc": "NSMC, 150,000 rows",
}
SAME = ("rows_read", "tokens", "findings")
WORDS = (
    "오늘 아침 바다 구름 기차 학교 친구 노래 영화 겨울 여름 도시 골목 편지 사진 창문 바람 나무 "
    "책상 커피 시장 저녁 주말 약속 여행 음악 그림 이야기 천천히 조용히 함께 다시 먼저 갑자기 "
    "걸었다 보았다 읽었다 기다렸다 웃었다 좋았다 멀었다 따뜻했다 고마웠다 떠났다 돌아왔다"
).split()


def sentence(draw: random.Random, least: int, most: int) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))


def synthetic(name: str) -> Iterator[dict[str, str]]:
    """Rows that hardly repeat, drawn from one seed."""
    draw = random.Random(20261125)
    for number in range(ROWS):
        if name == "text":
            yield {"text": f"{number} {sentence(draw, 6, 18)}."}
        else:
            asked = f"{number}번 {sentence(draw, 3, 8)}?"
            yield {"prompt": asked, "completion": f"{sentence(draw, 3, 10)}."}


def data_of(name: str, nsmc: Path | None) -> tuple[Path, list[str]]:
    """A data set's file and the overrides it needs."""
    if name == "nsmc":
        assert nsmc is not None, "--nsmc names the file"
        return nsmc, ["data.labels=[부정, 긍정]", "data.on_too_long=drop"]
    path = FOLDER / f"{name}.jsonl"
    if not path.is_file():
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            for row in synthetic(name):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        part.rename(path)
    return path, []


def anonymous_bytes() -> int:
    """Of this process and those that it started."""
    started = [
        number
        for thread in Path("/proc/self/task").iterdir()
        for number in (thread / "children").read_text(encoding="ascii").split()
    ]
    return sum(_anonymous_bytes(one) for one in ("self", *started))


def _anonymous_bytes(process: str) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:  # it has ended
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def measure(recipe: str, overrides: list[str]) -> None:
    """One `kft check` in this process; prints its numbers."""
    started, peak, done = time.monotonic(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], anonymous_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    import kft

    imported = anonymous_bytes()
    checked = kft.check(recipe, overrides)
    seconds = time.monotonic() - started
    done.set()
    watcher.join()
    sides = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    numbers = {
        "seconds": seconds,
        "cpu_seconds": sum(used.ru_utime + used.ru_stime for used in sides),
        "peak_anonymous_bytes": max(peak[0], imported),
        "rows_read": checked.sections["data"]["rows_read"],
        "tokens": checked.sections["tokens"]["tokens"],
        "findings": len(checked.findings),
    }
    print(json.dumps(numbers))


def timed(name: str, nsmc: Path | None) -> dict[str, Any]:
    """The first start and the second one of a data set."""
    path, overrides = data_of(name, nsmc)
    recipe = FOLDER / f"{name}.yaml"
    recipe.write_text(
        f"model: {{name_or_path: {MODEL}}}\ndata: {{train: {path}, max_length: 192}}\n"
        f"evaluate: {{max_rows: 1000}}\noutput_dir: {FOLDER / 'run'}\n",
        encoding="utf-8",
    )
    cache = FOLDER / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    starts = []
    for _ in range(2):
        command = [sys.executable, __file__, "--measure", str(recipe), *overrides]
        environment = {**os.environ, "KFT_CACHE": str(cache)}
        output = subprocess.run(command, env=environment, check=True, capture_output=True)
        starts.append(json.loads(output.stdout.splitlines()[-1]))
    stored = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    shutil.rmtree(cache)
    first, second = starts
    assert [first[same] for same in SAME] == [second[same] for same in SAME]
    return {
        "file_bytes": path.stat().st_size,
        "stored_bytes": stored,
        "load_average": os.getloadavg()[1],
        "first": first,
        "second": second,
    }


def page(results: dict[str, Any]) -> str:
    lines = [
        "# Many rows, measured",
        "",
        "`kft check` twice in processes of their own, the cache empty at first: everything that comes",
        "before weights are loaded. Anonymous memory is what the system can't drop and read again from a",
        "file; of each process it includes about what importing torch and transformers takes. Seconds",
        "include the start of Python. Made by `python benchmarks/rows.py`.",
        "",
        "| rows | file | kept | first start | of CPU | second start | of CPU | anonymous, peak |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in results.items():
        first, second = row["first"], row["second"]
        peak = max(first["peak_anonymous_bytes"], second["peak_anonymous_bytes"])
        lines.append(
            f"| {TITLES[name]} | {row['file_bytes'] / 1e6:,.0f} MB | "
            f"{row['stored_bytes'] / 1e6:,.0f} MB | {first['seconds']:,.0f} s | "
            f"{first['cpu_seconds']:,.0f} s | {second['seconds']:.1f} s | "
            f"{second['cpu_seconds']:.1f} s | {peak / 1e9:.2f} GB |"
        )
    notes = [f"- {TITLES[name]}: {row['note']}." for name, row in results.items() if "note" in row]
    lines += ["", *notes] if notes else []
    loads = ", ".join(f"{row['load_average']:.1f}" for row in results.values())
    lines += [
        "",
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, no accelerator; other work ran beside it "
        f"(load averages over five minutes, at the end of each row's: {loads}).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nsmc", type=Path, help="NSMC's ratings_train.txt")
    parser.add_argument("--only", choices=TITLES, help="measure this alone")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        recipe, *overrides = asked.measure
        measure(recipe, overrides)
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for name in [asked.only] if asked.only else TITLES:
        results[name] = timed(name, asked.nsmc)
        ordered = {name: results[name] for name in TITLES if name in results}
        RESULTS.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")
        PAGE.write_text(page(ordered), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

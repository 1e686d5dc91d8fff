# ruff: noqa: E501, SIM905 -- the table's lines are long, and so would be a list of words
"""What many rows cost: memory and time of reading, checking and finding them again.

    python benchmarks/rows.py --nsmc ratings_train.txt

Writes synthetic files of two million rows, runs `kft check` on each with an empty cache and three
times more, of which the median counts; NSMC's 150,000 rows three times with an empty cache. Anonymous memory is
what can't be dropped and read again from a file (RssAnon in /proc/*/status), of the process and
those it starts, sampled ten times a second.
Writes benchmarks/results/rows.json and docs/evidence/data.md; `--only NAME` measures one of the
data sets again and leaves the others' numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
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


def anonymous_bytes(process: int) -> int:
    """Of a process and those that it started."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
        threads = list(Path(f"/proc/{process}/task").iterdir())
        started = [(one / "children").read_text(encoding="ascii").split() for one in threads]
    except OSError:  # it has ended
        return 0
    own = sum(1024 * int(line.split()[1]) for line in status if line.startswith("RssAnon"))
    return own + sum(anonymous_bytes(int(each)) for several in started for each in several)


def measure(recipe: Path, overrides: list[str], cache: Path) -> dict[str, Any]:
    """One `kft check`, as a user types it."""
    command = [sys.executable, "-m", "kft", "check", str(recipe), *overrides, "--json"]
    peak, before = 0, resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        environment = {**os.environ, "KFT_CACHE": str(cache)}
        process = subprocess.Popen(command, stdout=output, env=environment)
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        seconds = time.monotonic() - started
        assert process.returncode == 0, process.returncode
        output.seek(0)
        checked = json.load(output)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime - before.ru_utime + used.ru_stime - before.ru_stime,
        "peak_anonymous_bytes": peak,
        "rows_read": checked["data"]["rows_read"],
        "tokens": checked["tokens"]["tokens"],
        "findings": len(checked["findings"]),
    }


def median_of(starts: list[dict[str, Any]]) -> dict[str, Any]:
    """The start whose time is the median, with the shortest and the longest beside it."""
    ordered = sorted(starts, key=lambda one: one["seconds"])
    times = {"shortest": ordered[0]["seconds"], "longest": ordered[-1]["seconds"]}
    return {**ordered[len(ordered) // 2], **times}


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
    firsts = []
    for _ in range(3 if name == "nsmc" else 1):
        shutil.rmtree(cache, ignore_errors=True)
        firsts.append(measure(recipe, overrides, cache))
    os.sync()  # a second run seldom waits for what the first one wrote
    first, second = map(median_of, (firsts, [measure(recipe, overrides, cache) for _ in range(3)]))
    stored = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    shutil.rmtree(cache)
    assert [first[same] for same in SAME] == [second[same] for same in SAME]
    return {
        "file_bytes": path.stat().st_size,
        "stored_bytes": stored,
        "load_average": os.getloadavg()[1],
        "first": first,
        "second": second,
    }


def spread(start: dict[str, Any]) -> str:
    """The shortest and the longest of several starts."""
    if start["shortest"] == start["longest"]:
        return ""
    return f" ({start['shortest']:.1f} to {start['longest']:.1f})"


def page(results: dict[str, Any]) -> str:
    lines = [
        "# Many rows, measured",
        "",
        "`kft check` as it is typed, the cache empty at first; the median of three second starts, and of three",
        "first ones for NSMC. It is all that comes before weights are loaded. Anonymous memory is what the system can't drop and read again",
        "from a file, of all processes together; what importing torch and transformers takes is in it. Made by",
        "`python benchmarks/rows.py`.",
        "",
        "| rows | file | kept | first start | of CPU | second start | of CPU | anonymous, peak |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in results.items():
        first, second = row["first"], row["second"]
        peak = max(first["peak_anonymous_bytes"], second["peak_anonymous_bytes"])
        lines.append(
            f"| {TITLES[name]} | {row['file_bytes'] / 1e6:,.0f} MB | "
            f"{row['stored_bytes'] / 1e6:,.0f} MB | {first['seconds']:,.0f} s{spread(first)} | "
            f"{first['cpu_seconds']:,.0f} s | {second['seconds']:.1f} s{spread(second)} | "
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
    asked = parser.parse_args()
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

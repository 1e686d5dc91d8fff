"""Mistakes that people make, for docs/errors.md: files, what went wrong, in English and Korean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ROWS = '{"prompt": "배고파", "completion": "밥 먹자."}\n{"prompt": "졸려", "completion": "자자."}\n'
RECIPE = """\
model:
  name_or_path: ko-gpt-mini
data:
  train: rows.jsonl
output_dir: runs/first
"""


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Args:
        title: Heading, in English and in Korean.
        why: What to know about it, likewise.
        recipe: Content of ``my_recipe.yaml``.
        files: Other files: name -> content.
    """

    title: tuple[str, str]
    why: tuple[str, str]
    recipe: str = RECIPE
    files: Mapping[str, str] = field(default_factory=lambda: {"rows.jsonl": ROWS})


def edited(old: str, new: str) -> str:
    """The plain recipe with one change."""
    assert old in RECIPE  # noqa: S101 -- a page made from another recipe would lie
    return RECIPE.replace(old, new)


MISTAKES: Mapping[str, tuple[Mistake, ...]] = {
    "The recipe · 레시피": (
        Mistake(
            ("A misspelt key", "철자가 틀린 키"),
            (
                "Nothing is silently ignored: every key is known, or the line is named.",
                "조용히 넘어가는 키는 없습니다. 모르는 키가 있으면 그 줄을 알려 줍니다.",
            ),
            edited("output_dir", "train:\n  lerning_rate: 1e-4\noutput_dir"),
        ),
        Mistake(
            ("A key of another toolkit", "다른 도구의 키"),
            (
                "Names of axolotl, LLaMA-Factory, TRL and others are known, with their place here.",
                "axolotl, LLaMA-Factory, TRL 등의 이름을 알고, 여기서의 자리를 말해 줍니다.",
            ),
            edited("data:", "  load_in_4bit: true\ndata:"),
        ),
        Mistake(
            ("A number in quotes", "따옴표 안의 숫자"),
            (
                '`2e-4` is a number in a recipe; `"2e-4"` is text.',
                '레시피에서 `2e-4`는 숫자이고 `"2e-4"`는 글입니다.',
            ),
            edited("output_dir", 'train:\n  learning_rate: "2e-4"\noutput_dir'),
        ),
        Mistake(
            ("A key written twice", "두 번 적은 키"),
            ("YAML would take the last one and say nothing.", "YAML은 말없이 뒤의 것을 고릅니다."),
            edited("output_dir", "adapter:\n  r: 8\n  r: 16\noutput_dir"),
        ),
        Mistake(
            ("Two keys that don't go together", "함께 쓸 수 없는 키"),
            (
                "Random weights under a frozen base would stay random.",
                "무작위 가중치를 얼려 두면 끝까지 무작위입니다.",
            ),
            edited("data:", "  init: random\ndata:"),
        ),
    ),
    "The rows · 데이터": (
        Mistake(
            ("The file isn't there", "파일이 없음"),
            (
                "Relative paths count from the current directory.",
                "상대 경로는 현재 디렉터리에서 셉니다.",
            ),
            edited("rows.jsonl", "row.jsonl"),
        ),
        Mistake(
            ("Columns of unknown names", "모르는 열 이름"),
            (
                "Common names are found by themselves; others are named in `data.columns`.",
                "흔한 이름은 알아서 찾습니다. 다른 이름은 `data.columns`에 적습니다.",
            ),
            edited("rows.jsonl", "rows.csv"),
            {"rows.csv": "고객 리뷰,상담원 답변\n재밌어요,감사합니다.\n"},
        ),
        Mistake(
            ("A line that isn't JSON", "JSON이 아닌 줄"),
            (
                "The line is named, and no row is skipped.",
                "줄을 알려 주고, 어떤 행도 건너뛰지 않습니다.",
            ),
            RECIPE,
            {"rows.jsonl": ROWS + '{"prompt": "끝", "completion": "끝"\n'},
        ),
        Mistake(
            ("A label that isn't among the names", "이름 목록에 없는 레이블"),
            (
                "`data.labels` are the names of 0, 1, ... in order.",
                "`data.labels`는 0, 1, ...의 이름을 차례로 적은 것입니다.",
            ),
            edited("output_dir", "  labels: [부정, 긍정]\noutput_dir"),
            {"rows.jsonl": '{"text": "좋아요", "label": 1}\n{"text": "별로", "label": 2}\n'},
        ),
        Mistake(
            ("A row that is too long", "너무 긴 행"),
            (
                "With `on_too_long: error` nothing is cut without being asked for.",
                "`on_too_long: error`이면 시키지 않은 자르기는 없습니다.",
            ),
            edited("output_dir", "  max_length: 8\n  on_too_long: error\noutput_dir"),
            {
                "rows.jsonl": ROWS
                + '{"prompt": "길게 말해 줘", "completion": "'
                + "아주 " * 9
                + '"}\n'
            },
        ),
    ),
    "The checkpoint · 체크포인트": (
        Mistake(
            ("A task that the checkpoint can't do", "체크포인트가 할 수 없는 과제"),
            (
                "A GPT sees only the left of a word, so tags are an encoder's work.",
                "GPT는 단어의 왼쪽만 보므로, 태그는 인코더의 일입니다.",
            ),
            "task: token_classification\n" + RECIPE,
            {"rows.jsonl": '{"tokens": ["서울", "가자"], "tags": ["B-LC", "O"]}\n' * 2},
        ),
        Mistake(
            ("Modules that aren't there", "없는 모듈"),
            (
                "Every architecture has its own names; `auto` finds them.",
                "아키텍처마다 이름이 다릅니다. `auto`는 알아서 찾습니다.",
            ),
            edited("data:", "adapter:\n  target_modules: [q_proj, v_proj]\ndata:"),
        ),
        Mistake(
            ("Remote code", "원격 코드"),
            (
                "Python from a checkpoint runs only when it is asked for and pinned.",
                "체크포인트의 파이썬 코드는 요청하고 고정했을 때만 실행합니다.",
            ),
            edited("data:", "  trust_remote_code: true\ndata:"),
        ),
    ),
    "The run folder · 실행 폴더": (
        Mistake(
            ("The folder has something in it", "폴더가 비어 있지 않음"),
            ("kft overwrites no run.", "kft는 어떤 실행도 덮어쓰지 않습니다."),
            RECIPE,
            {"rows.jsonl": ROWS, "runs/first/notes.txt": "…\n"},
        ),
    ),
}
"""Heading in both languages -> mistakes."""

"""docs/errors.md and its Korean page: each message is the one that kft really gives."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dev.error_cases import MISTAKES, Mistake

ROOT = Path(__file__).resolve().parents[1]
INTRODUCTION = (
    """# Error messages

Every message says what is wrong, where, what was expected, and one edit or command that mends it.
Exit code 2 means that nothing has been trained yet: mend the input. 1 means that something failed
later; `error.txt` in the run folder has the traceback. The messages below were made by `make docs`
from the files shown.
""",
    """# 오류 메시지

모든 메시지는 무엇이 잘못됐는지, 어디인지, 무엇을 기대했는지, 그리고 고칠 방법 하나를 말합니다.
종료 코드 2는 아직 아무것도 학습하지 않았다는 뜻이니 입력을 고치면 됩니다. 1은 나중에 실패했다는
뜻이고, 실행 폴더의 `error.txt`에 자세한 기록이 있습니다. 아래 메시지는 함께 보인 파일로
`make docs`가 실제로 낸 것입니다.
""",
)
LAST = (
    """
## Others

A wrong tokenizer is refused with its share of unknown tokens: see
[the checkpoints' verdicts](evidence/checkpoints.md). A merged model that differs from the trained
one isn't written: see [merging](evidence/merging.md).
""",
    """
## 그 밖에

맞지 않는 토크나이저는 모르는 토큰의 비율과 함께 거절합니다:
[체크포인트별 판정](evidence/checkpoints.md). 학습한 것과 다른 병합 모델은 쓰지 않습니다:
[병합](evidence/merging.md).
""",
)


@contextlib.contextmanager
def folder_of(mistake: Mistake) -> Iterator[None]:
    """The current directory is a folder with the mistake's files."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        Path("ko-gpt-mini").symlink_to(ROOT / "data/checkpoints/ko-gpt-mini")
        for file, content in {"my_recipe.yaml": mistake.recipe, **mistake.files}.items():
            path = Path(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        yield


def message_of(mistake: Mistake) -> str:
    """What kft says.

    Raises:
        ValueError: If it says nothing.
    """
    import kft

    with folder_of(mistake):
        here = str(Path.cwd())
        try:
            check = kft.check("my_recipe.yaml")
            found = [str(one) for one in check.findings if one.severity == "error"]
            if not found:
                kft.finetune("my_recipe.yaml", {"train.max_steps": 1, "export.merge": False})
        except kft.KftError as error:
            found = [str(error)]
        if found:
            return found[0].replace(f"{here}/", "")
    raise ValueError(f"kft finds nothing wrong: {mistake.title[0]}")


@cache
def messages() -> dict[str, str]:
    """English title of each mistake -> message."""
    return {one.title[0]: message_of(one) for group in MISTAKES.values() for one in group}


def _shown(mistake: Mistake) -> str:
    """The files that matter: the recipe, and the rows where they are the mistake."""
    parts = [f"```yaml\n{mistake.recipe}```\n"]
    for name, content in mistake.files.items():
        if content != Mistake(("", ""), ("", "")).files.get(name) and name.startswith("rows"):
            kind = "csv" if name.endswith("csv") else "json"
            parts.append(f"```{kind}\n{content}```\n")
    return "\n".join(parts)


def error_page(language: int) -> str:
    """The page; 0 is English, 1 Korean."""
    parts = [INTRODUCTION[language]]
    for heading, group in MISTAKES.items():
        parts.append(f"\n## {heading.split(' · ')[language]}\n")
        for mistake in group:
            parts.append(
                f"\n### {mistake.title[language]}\n\n{mistake.why[language]}\n\n{_shown(mistake)}\n"
                f"```text\n{messages()[mistake.title[0]]}\n```\n"
            )
    return "".join(parts) + LAST[language]

"""The roles of each format, and the names that columns of a role commonly have."""

from __future__ import annotations

import unicodedata

FORMATS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "messages": (("messages",), ()),
    "instruction": (("instruction", "output"), ("input", "system")),
    "tokens": (("tokens", "tags"), ()),
    "pairs": (("text", "text_pair", "label"), ()),
    "prompt_completion": (("prompt", "completion"), ("system",)),
    "classification": (("text", "label"), ()),
    "text": (("text",), ()),
}
"""Format -> roles it needs, roles it may have; in the order in which ``auto`` tries them."""

QUESTION_NAMES = ("question", "질문")
"""They mean the instruction where the context that they ask about has a column."""

KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "대화"),
    "instruction": ("instruction", "명령어", "명령", "지시문", "지시", *QUESTION_NAMES),
    "input": ("input", "context", "입력", "맥락", "지문"),
    "output": ("output", "response", "completion", "answer", "출력", "응답", "답변"),
    "prompt": ("prompt", "question", "query", "q", "질문", "질의", "instruction", "input", "입력"),
    "completion": (
        *("completion", "response", "answer", "a", "답변", "대답", "응답", "답"),
        *("output", "출력"),
    ),
    "system": ("system", "system_prompt", "시스템"),
    "text": (
        *("text", "document", "sentence", "content", "review", "comment", "comments", "title"),
        *("텍스트", "문장", "내용", "본문", "문서", "리뷰", "댓글", "제목"),
    ),
    "text_pair": ("text_pair",),
    "label": (
        *("label", "class", "category", "sentiment", "레이블", "라벨", "감정", "분류"),
        *("labels.label", "labels"),
    ),
    "tokens": ("tokens", "words", "토큰"),
    "tags": ("tags", "ner_tags", "labels", "태그"),
}
PAIR_NAMES = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("context_1", "context_2"),
    ("paragraph", "question"),
    ("문장1", "문장2"),
    ("전제", "가설"),
)
"""Names that make a pair together; alone they may mean something else."""

PAIR_LABELS = ("gold_label", "score", "similarity", "is_duplicate", "점수", "유사도", "정답")
"""What a pair's label is called besides the names of any label."""

RUNNING_TEXT = frozenset({"text", "document", "content", "텍스트", "내용", "본문", "문서"})
ROW_NUMBERS = frozenset({"", "id", "guid", "idx", "index", "no", "번호"})


def name_key(column: str) -> str:
    """A column's name as it is compared: any case and Unicode form, without outer blanks."""
    return unicodedata.normalize("NFC", column).strip().casefold()

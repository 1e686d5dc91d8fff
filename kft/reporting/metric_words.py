"""Names of metrics in Korean; in English a metric's own line of meaning is used."""

from __future__ import annotations

from collections.abc import Mapping

_SHARE = {
    "ended": "스스로 끝난 답의 비율",
    "length_limit": "길이 제한에 걸린 답의 비율",
    "repeats": "같은 말을 되풀이하는 답의 비율",
    "empty": "빈 답의 비율",
    "switches_script": "묻지 않은 문자를 섞어 쓴 답의 비율",
    "switches_to_hanja": "한자를 섞어 쓴 답의 비율",
    "switches_to_latin": "로마자를 섞어 쓴 답의 비율",
    "switches_to_kana": "가나를 섞어 쓴 답의 비율",
    "switches_to_cyrillic": "키릴 문자를 섞어 쓴 답의 비율",
    "memorised": "정답이 아닌 학습 답을 그대로 베낀 비율",
    "memorised_and_right": "학습 답과 같고 정답이기도 한 비율",
}
_UNITS = {"eojeol": "어절", "character": "글자"}
_ROUGE = {"1": "단위", "2": "이어진 두 단위", "l": "가장 긴 공통 부분열"}

KOREAN: Mapping[str, str] = {
    "accuracy": "정확도",
    "macro_f1": "레이블별 F1의 평균",
    "micro_f1": "모든 레이블을 합쳐 센 F1",
    "weighted_f1": "개수로 가중한 레이블별 F1의 평균",
    "matthews": "매슈스 상관계수",
    "multilabel_macro_f1": "레이블별 F1의 평균 (다중 레이블)",
    "multilabel_micro_f1": "합쳐 센 F1 (다중 레이블)",
    "multilabel_weighted_f1": "개수로 가중한 F1 (다중 레이블)",
    "multilabel_exact_match": "모든 레이블을 맞힌 행의 비율",
    "pearson": "피어슨 상관계수",
    "spearman": "스피어만 순위 상관계수",
    "r2": "결정계수; 0이면 평균만 답하는 것과 같음",
    "mean_squared_error": "평균 제곱 오차",
    "mean_absolute_error": "평균 절대 오차",
    "entity_micro_f1": "개체 단위 F1 (합쳐 셈, seqeval 방식)",
    "entity_macro_f1": "개체 단위 F1 (종류별 평균, seqeval 방식)",
    "entity_micro_f1_strict": "개체 단위 F1 (합쳐 셈, 엄격한 IOB2)",
    "entity_macro_f1_strict": "개체 단위 F1 (종류별 평균, KLUE 방식)",
    "klue_character_f1": "글자 단위 F1 (KLUE 방식, O 제외)",
    "exact_match": "정답과 똑같은 답의 비율",
    "korquad_exact_match": "KorQuAD 정규화 뒤 정답과 같은 비율",
    "korquad_character_f1": "글자 F1 (KorQuAD 방식)",
    "klue_exact_match": "KLUE-MRC 정규화 뒤 정답과 같은 비율",
    "klue_rouge_w": "가장 긴 공통 글자열의 F1 (KLUE-MRC 방식)",
    "chrf": "chrF2, 0에서 100까지",
    **{
        f"rouge_{variant}_{unit}": f"ROUGE-{variant.upper()}: {what}의 F1, 단위는 {name}"
        for variant, what in _ROUGE.items()
        for unit, name in _UNITS.items()
    },
    "eval_loss": "타깃 하나당 nat",
    "perplexity": "혼란도; 토크나이저에 따라 달라짐",
    "bits_per_character": "글자당 비트 (공백 포함)",
    "bits_per_byte": "UTF-8 바이트당 비트",
    **_SHARE,
}
"""Name of a metric -> what it is."""

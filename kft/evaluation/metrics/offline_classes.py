"""Every metric as an ``evaluate.Metric`` class that needs neither network nor cache folder.

``evaluate.load("accuracy")`` fetches code from a hub, also when that is switched off; these
classes are here already and are used in the same way: ``compute``, ``add``, ``add_batch``,
``evaluate.combine``. They keep rows in memory where evaluate would write files with locks under
the user's home. Importing ``evaluate`` takes seconds, so nothing else in kft imports this.

Example:
    >>> Accuracy().compute(predictions=[0, 1, 1], references=[0, 1, 0], num_labels=2)
    {'accuracy': 0.6666666666666666}
"""

from __future__ import annotations

from kft.evaluation.metrics.offline import CLASSES, OfflineMetric
from kft.evaluation.metrics.registry import find_metric


def load_metric(name: str) -> OfflineMetric:
    """A new object of the class of that name.

    Raises:
        RecipeError: If there is no such metric.

    Example:
        >>> load_metric("pearson").compute(predictions=[1.0, 2.0], references=[2.0, 4.0])
        {'pearson': 1.0}
    """
    return CLASSES[find_metric(name).name]()


class Accuracy(OfflineMetric, metric="accuracy"):
    """Share of rows whose label is right."""


class MacroF1(OfflineMetric, metric="macro_f1"):
    """Mean of the labels' F1."""


class MicroF1(OfflineMetric, metric="micro_f1"):
    """F1 of all labels' counts together."""


class WeightedF1(OfflineMetric, metric="weighted_f1"):
    """Mean of the labels' F1, weighted by their rows."""


class Matthews(OfflineMetric, metric="matthews"):
    """Matthews' correlation coefficient, for any number of labels."""


class MultilabelMacroF1(OfflineMetric, metric="multilabel_macro_f1"):
    """Macro F1 where a row may have several labels."""


class MultilabelMicroF1(OfflineMetric, metric="multilabel_micro_f1"):
    """Micro F1 where a row may have several labels."""


class MultilabelWeightedF1(OfflineMetric, metric="multilabel_weighted_f1"):
    """Weighted F1 where a row may have several labels."""


class MultilabelExactMatch(OfflineMetric, metric="multilabel_exact_match"):
    """Share of rows all of whose labels are right."""


class Pearson(OfflineMetric, metric="pearson"):
    """Pearson's correlation."""


class Spearman(OfflineMetric, metric="spearman"):
    """Spearman's rank correlation."""


class RSquared(OfflineMetric, metric="r2"):
    """Coefficient of determination; 0 is the mean of the truths."""


class MeanSquaredError(OfflineMetric, metric="mean_squared_error"):
    """Mean of the squared errors."""


class MeanAbsoluteError(OfflineMetric, metric="mean_absolute_error"):
    """Mean size of the errors."""


class EntityMicroF1(OfflineMetric, metric="entity_micro_f1"):
    """Micro F1 of whole entities, as seqeval counts."""


class EntityMacroF1(OfflineMetric, metric="entity_macro_f1"):
    """Macro F1 of whole entities, as seqeval counts."""


class EntityMicroF1Strict(OfflineMetric, metric="entity_micro_f1_strict"):
    """Micro F1 of whole entities, IOB2 strictly, as KLUE counts."""


class EntityMacroF1Strict(OfflineMetric, metric="entity_macro_f1_strict"):
    """Macro F1 of whole entities, IOB2 strictly, as KLUE counts."""


class KlueCharacterF1(OfflineMetric, metric="klue_character_f1"):
    """Macro F1 of the tags of characters, without O."""


class ExactMatch(OfflineMetric, metric="exact_match"):
    """Share of texts equal to a reference."""


class KorQuadExactMatch(OfflineMetric, metric="korquad_exact_match"):
    """The same after KorQuAD's normalisation."""


class KorQuadCharacterF1(OfflineMetric, metric="korquad_character_f1"):
    """F1 of the bag of characters, as KorQuAD's."""


class KlueExactMatch(OfflineMetric, metric="klue_exact_match"):
    """Share equal to a reference after KLUE-MRC's normalisation."""


class KlueRougeW(OfflineMetric, metric="klue_rouge_w"):
    """F1 of the longest common run of characters, as KLUE-MRC's."""


class ChrF(OfflineMetric, metric="chrf"):
    """ChrF2, from 0 to 100."""


class Rouge1Eojeol(OfflineMetric, metric="rouge_1_eojeol"):
    """ROUGE-1: F1 of units, the unit is one eojeol."""


class Rouge1Character(OfflineMetric, metric="rouge_1_character"):
    """ROUGE-1: F1 of units, the unit is one character."""


class Rouge2Eojeol(OfflineMetric, metric="rouge_2_eojeol"):
    """ROUGE-2: F1 of pairs of units, the unit is one eojeol."""


class Rouge2Character(OfflineMetric, metric="rouge_2_character"):
    """ROUGE-2: F1 of pairs of units, the unit is one character."""


class RougeLEojeol(OfflineMetric, metric="rouge_l_eojeol"):
    """ROUGE-L: F1 of longest common subsequence, the unit is one eojeol."""


class RougeLCharacter(OfflineMetric, metric="rouge_l_character"):
    """ROUGE-L: F1 of longest common subsequence, the unit is one character."""


class EvalLoss(OfflineMetric, metric="eval_loss"):
    """Nats per target."""


class Perplexity(OfflineMetric, metric="perplexity"):
    """Exp of the nats per target; depends on the tokenizer."""


class BitsPerCharacter(OfflineMetric, metric="bits_per_character"):
    """Bits per NFC character, spaces counted."""


class BitsPerByte(OfflineMetric, metric="bits_per_byte"):
    """Bits per UTF-8 byte of the NFC text."""


class Ended(OfflineMetric, metric="ended"):
    """Share of answers that end by themselves."""


class LengthLimit(OfflineMetric, metric="length_limit"):
    """Share of answers that the length limit cut."""


class Repeats(OfflineMetric, metric="repeats"):
    """Share of answers that go round in circles."""


class Empty(OfflineMetric, metric="empty"):
    """Share of answers that say nothing."""


class SwitchesScript(OfflineMetric, metric="switches_script"):
    """Share of answers with letters of a script that nobody used before."""


class SwitchesToHanja(OfflineMetric, metric="switches_to_hanja"):
    """The same for Hanja alone."""


class SwitchesToLatin(OfflineMetric, metric="switches_to_latin"):
    """The same for Latin letters alone."""


class SwitchesToKana(OfflineMetric, metric="switches_to_kana"):
    """The same for kana alone."""


class SwitchesToCyrillic(OfflineMetric, metric="switches_to_cyrillic"):
    """The same for Cyrillic letters alone."""


class Memorised(OfflineMetric, metric="memorised"):
    """Share of answers that copy a training answer and not the reference."""


class MemorisedAndRight(OfflineMetric, metric="memorised_and_right"):
    """Share of answers that are a training answer and the reference."""

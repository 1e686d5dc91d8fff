"""What a report says, in Korean and English. ``{names}`` stand for numbers and names."""

from __future__ import annotations

from collections.abc import Mapping

WORDS: Mapping[str, tuple[str, str]] = {
    # the top
    "report": ("파인튜닝 보고서", "Fine-tuning report"),
    "comparison": ("실행 비교", "Comparison of runs"),
    "language": ("언어", "Language"),
    # did it help
    "helped": ("효과가 있었나요?", "Did it help?"),
    "better": ("좋아졌습니다", "Yes, it got better"),
    "worse": ("나빠졌습니다", "No, it got worse"),
    "within noise": (
        "차이가 우연의 범위 안에 있습니다",
        "Can't be told: the difference is within noise",
    ),
    "unknown": ("판단할 수 없습니다", "Can't be told"),
    "no rows": (
        "따로 둔 행이 없어 측정하지 않았습니다.",
        "No rows were held out, so nothing was measured.",
    ),
    "few rows": (
        "따로 둔 행이 {rows}개뿐이어서 구간을 계산하지 않았습니다.",
        "Held-out rows: only {rows}, too few for an interval.",
    ),
    "measured on": (
        "학습에 쓰지 않은 {rows}개 행에서 잰 값입니다. 구간은 행을 짝지어 {resamples}번 다시 뽑은 "
        "(시드 {seed}) 95 % 부트스트랩 구간이며, 0을 포함하면 우연과 구별되지 않습니다.",
        "Measured on {rows} rows that were not trained on. Intervals are paired 95 % bootstrap "
        "intervals of {resamples} resamples (seed {seed}); one that holds 0 can't be told from "
        "chance.",
    ),
    "leaked": (
        "따로 둔 행 가운데 {rows}개는 학습 행에도 있습니다. 그래서 실제보다 좋게 나온 값입니다.",
        "{rows} of the held-out rows also stand in the training rows: the numbers look better than "
        "they are.",
    ),
    "measured on leaked": (
        "따로 둔 {rows}개 행에서 잰 값입니다. 구간은 행을 짝지어 {resamples}번 다시 뽑은 "
        "(시드 {seed}) 95 % 부트스트랩 구간이며, 0을 포함하면 우연과 구별되지 않습니다.",
        "Measured on {rows} held-out rows. Intervals are paired 95 % bootstrap intervals of "
        "{resamples} resamples (seed {seed}); one that holds 0 can't be told from chance.",
    ),
    "metric": ("지표", "Metric"),
    "base": ("학습 전", "Before"),
    "tuned": ("학습 후", "After"),
    "difference": ("차이", "Difference"),
    "interval": ("95 % 구간", "95 % interval"),
    "outcome": ("결과", "Outcome"),
    "chip better": ("나아짐", "better"),
    "chip worse": ("나빠짐", "worse"),
    "chip noise": ("우연 범위", "within noise"),
    "not above free": (
        "늘 같은 답만 할 때의 {free}보다 확실히 높지는 않습니다.",
        "It is not clearly above {free}, which always giving the same answer would score.",
    ),
    "majority": (
        "언제나 가장 흔한 레이블만 답해도 정확도는 {score}입니다.",
        "Always answering the commonest label would have an accuracy of {score}.",
    ),
    # what it cost
    "forgetting": ("알던 것을 잊었나요?", "Did it forget what it knew?"),
    "forgot much": (
        "알고 있던 것을 많이 잊었습니다. 학습률이나 에폭을 줄이거나, 학습 행에 일반 글을 섞으면 "
        "덜 잊습니다.",
        "Much of what it knew was forgotten. A smaller learning rate, fewer epochs, or general "
        "rows among the training rows keep more.",
    ),
    "own general text": (
        "과제와 상관없는 kft의 한국어 글 64편에서 잰 값으로, 작을수록 좋습니다.",
        "Measured on kft's own 64 Korean passages, which have nothing to do with the task; less "
        "is better.",
    ),
    "general text": (
        "과제와 상관없는 글({text})에서 잰 값으로, 작을수록 좋습니다.",
        "Measured on text that has nothing to do with the task ({text}); less is better.",
    ),
    "general loss": ("일반 글의 손실", "Loss on general text"),
    # how it learned
    "learning": ("어떻게 배웠나요?", "How it learned"),
    "loss": ("손실 (타깃 하나당 nat)", "Loss (nats per target)"),
    "squared error": ("손실 (제곱 오차)", "Loss (squared error)"),
    "mean squared": ("행마다의 제곱 오차의 평균", "mean of the rows' squared errors"),
    "steps": ("가로축은 모두 최적화 단계입니다.", "Across, always: optimizer steps."),
    "training": ("학습", "training"),
    "training mean": ("학습 (평균)", "training (average)"),
    "held out": ("평가", "held out"),
    "best": ("가장 좋은 평가", "best evaluation"),
    "learning rate": ("학습률", "Learning rate"),
    "layer norms": (
        "층마다의 기울기 크기 (진할수록 깊은 층)",
        "Gradient norm of each layer (the darker, the deeper)",
    ),
    "grad norm": ("기울기 크기", "Gradient norm"),
    "tokens per second": ("초당 토큰", "Tokens per second"),
    "memory": ("최대 메모리 (GiB)", "Peak memory (GiB)"),
    "best step": (
        "{metric} 값은 {step}단계에서 가장 좋았습니다({value}).",
        "{metric} was best at step {step} ({value}).",
    ),
    "best is saved": ("저장된 것은 그 단계의 가중치입니다.", "The weights of that step are saved."),
    "last is saved": (
        "저장된 것은 마지막 단계의 가중치입니다. `--resume`과 함께 "
        "`train.load_best_model_at_end=true`를 주면 학습 없이 바꿀 수 있습니다.",
        "The weights of the last step are saved. `train.load_best_model_at_end=true` with "
        "`--resume` puts the best ones in their place, without training.",
    ),
    # the fit
    "overfitting": ("과적합", "Overfitting"),
    "underfitting": ("과소적합", "Underfitting"),
    "good fit": ("잘 맞음", "A good fit"),
    "not enough evaluations": ("평가 횟수가 부족함", "Not enough evaluations"),
    "rise": (
        "학습 손실은 내려가는데 평가 손실은 {best_step}단계의 {best}에서 {last}까지 올랐습니다.",
        "Evaluation loss rose from {best} at step {best_step} to {last} while training loss fell.",
    ),
    "gap": (
        "{score}이(가) 학습 행에서는 {train}, 따로 둔 행에서는 {evaluation}입니다.",
        "{score} is {train} on training rows and {evaluation} on held-out rows.",
    ),
    "diverged": (
        "평가 손실이 {best_step}단계의 {best}에서 {last}까지 올랐고 학습 손실도 올랐습니다. "
        "학습이 발산했습니다.",
        "Evaluation loss rose from {best} at step {best_step} to {last}, and training loss rose "
        "too: the run diverged.",
    ),
    "lost": (
        "평가 손실이 처음보다 낮아진 적이 없습니다. 처음 {start}, 그 뒤 가장 낮을 때 {best}. "
        "학습률을 줄이면 알던 것을 덜 잃습니다.",
        "Evaluation loss was never as low as at the start: {start}, then {best} at best. A smaller "
        "learning rate loses less of what was known.",
    ),
    "unmoved": (
        "평가 손실이 거의 움직이지 않았습니다. 처음 {start}, 가장 낮을 때 {best}.",
        "Evaluation loss hardly moved: {start} at the start, {best} at best.",
    ),
    "unlearnt": (
        "학습 행에서도 {score}이(가) {train}입니다. 늘 같은 답만 해도 {baseline}이므로 "
        "배운 것이 거의 없습니다.",
        "{score} is {train} on training rows, where {baseline} costs nothing: hardly anything was "
        "learnt.",
    ),
    "falling": (
        "학습을 마칠 때에도 평가 손실이 내려가고 있었습니다. "
        "마지막 3분의 1에서 {before}에서 {last}까지.",
        "Evaluation loss was still falling when training stopped: from {before} to {last} in the "
        "last third.",
    ),
    "settled": (
        "평가 손실이 {start}에서 {best_step}단계의 {best}까지 내려가 머물렀습니다.",
        "Evaluation loss fell from {start} to {best} at step {best_step} and stayed.",
    ),
    "few": (
        "학습 중 평가가 {evaluations}번뿐입니다. 곡선을 보려면 {needed}번이 필요합니다. "
        "`evaluate.eval_steps`로 정합니다.",
        "Evaluations while training: {evaluations}; a curve needs {needed}. "
        "`evaluate.eval_steps` sets how often.",
    ),
    "none": (
        "학습 중 평가를 하지 않았습니다. `evaluate.eval_steps`로 정합니다.",
        "No evaluation was made while training: `evaluate.eval_steps` sets how often.",
    ),
    "training rows": (
        "학습 행 {rows}개에서는 손실이 {train}, 따로 둔 행에서는 {held_out}입니다.",
        "The loss is {train} on {rows} training rows and {held_out} on held-out rows.",
    ),
    # predictions
    "predictions": ("무엇을 맞히고 틀렸나요?", "What it gets right and wrong"),
    "label": ("레이블", "Label"),
    "entity": ("개체", "Entity"),
    "support": ("개수", "Count"),
    "precision": ("정밀도", "Precision"),
    "recall": ("재현율", "Recall"),
    "f1 before": ("F1 (전)", "F1 before"),
    "f1 after": ("F1 (후)", "F1 after"),
    "confusion": (
        "혼동 행렬 (학습 후): 아래로 참 레이블, 옆으로 예측",
        "Confusion matrix (after): true label down, predicted across",
    ),
    "too many labels": (
        "레이블이 {labels}개라서 혼동 행렬은 그리지 않았습니다.",
        "With {labels} labels no confusion matrix is drawn.",
    ),
    "true and predicted": (
        "가로축은 참값, 세로축은 예측입니다. 점선 위에 있으면 정확합니다.",
        "True value across, predicted up. On the dashed line both agree.",
    ),
    # data
    "data": ("데이터", "Data"),
    "rows trained": ("학습 행", "Training rows"),
    "rows held out": ("따로 둔 행", "Held-out rows"),
    "rows dropped": ("뺀 행: {reason}", "Rows left out: {reason}"),
    "tokens": ("토큰", "Tokens"),
    "targets": ("그중 배우는 토큰(타깃)", "Of these, targets"),
    "row lengths": (
        "행 길이: 중앙값 / 95 % / 최대",
        "Row length: median / 95 % / longest",
    ),
    "truncated": ("잘린 행", "Truncated rows"),
    "lengths": (
        "행의 토큰 수에 따른 행 수입니다. 점선은 `data.max_length`.",
        "Rows by their number of tokens; the dashed line is `data.max_length`.",
    ),
    "findings": ("데이터에서 발견한 점", "Findings in the data"),
    "no findings": ("특별히 발견한 점이 없습니다.", "Nothing was noticed."),
    # samples
    "mistakes": ("가장 크게 틀린 행", "The furthest mistakes"),
    "mistakes note": (
        "따로 둔 행 가운데 학습 뒤에 가장 크게 틀린 것들입니다. 레이블 쪽이 틀린 경우가 많으니 "
        "읽어 볼 만합니다.",
        "The held-out rows that the tuned model gets wrong the furthest. Often the label is what "
        "is wrong: they are worth reading.",
    ),
    "truth": ("참", "True"),
    "samples": ("생성 예", "Sample generations"),
    "sample note": (
        "같은 질문에 대한 학습 전과 후의 답입니다. 달라진 부분에 표시했습니다.",
        "The same questions before and after; what differs is marked.",
    ),
    "prompt": ("질문", "Prompt"),
    "reference": ("정답", "Reference"),
    "same": ("두 답이 같습니다.", "Both answers are the same."),
    "nothing shared": ("두 답에 같은 어절이 없습니다.", "The two answers share no word."),
    "empty answer": ("(빈 답)", "(empty)"),
    # merge
    "merge": ("합친 모델 검증", "Verification of the merged model"),
    "verified": (
        "검증 통과: 학습한 모델과 같은 답을 합니다",
        "Verified: it says what the trained model says",
    ),
    "not verified": ("검증 실패", "Not verified"),
    "not merged": ("합치지 않았습니다: {reason}", "Not merged: {reason}"),
    "no verification": ("합친 모델이 없습니다.", "There is no merged model."),
    "max_logit_difference": ("로짓의 최대 차이", "Largest difference of logits"),
    "limit_logits": ("그 한계", "Its limit"),
    "kl_nats": ("KL 발산 (nat)", "KL divergence (nats)"),
    "limit_kl": ("그 한계", "Its limit"),
    "top1_agreement": ("가장 그럴듯한 선택의 일치율", "Agreement of the likeliest choice"),
    "dtype": ("저장 정밀도", "Saved precision"),
    "num_positions": ("비교한 위치", "Positions compared"),
    # the run
    "run": ("레시피와 환경", "Recipe and environment"),
    "recipe": ("레시피", "Recipe"),
    "environment": ("환경", "Environment"),
    "task": ("과제", "Task"),
    "model": ("모델", "Model"),
    "method": ("방법", "Method"),
    "trained parameters": ("학습한 매개변수", "Trained parameters"),
    "of all": ("{trained} / 전체 {total}", "{trained} of {total}"),
    "time": ("학습 시간", "Training time"),
    "checkpoints": ("체크포인트", "Checkpoints"),
    "checkpoint sizes": (
        "{count}번 저장, 마지막은 {size}, 모두 {time}",
        "{count} written, the last of {size}, {time} in all",
    ),
    "peak memory": ("최대 메모리", "Peak memory"),
    "steps taken": ("최적화 단계", "Optimizer steps"),
    "device": ("장치", "Device"),
    # comparison
    "runs": ("실행", "Runs"),
    "recipe differences": ("레시피에서 다른 점", "What differs in the recipes"),
    "no differences": ("레시피가 같습니다.", "The recipes are the same."),
    "key": ("키", "Key"),
    "results": ("결과", "Results"),
    "results note": (
        "각 칸은 학습 후의 값과, 학습 전과의 차이(95 % 구간)입니다.",
        "Each cell: the value after training, and its difference to before (95 % interval).",
    ),
    "between runs": ("실행 사이의 차이", "Differences between the runs"),
    "between note": (
        "같은 {rows}개 행에서 짝지어 비교한, {first} 대비 차이입니다.",
        "Against {first}, paired on the same {rows} rows.",
    ),
    "other rows": (
        "따로 둔 행이 서로 달라, 실행끼리는 행을 짝지어 비교하지 않았습니다.",
        "Their held-out rows differ, so runs are not compared row by row.",
    ),
    "training loss": ("학습 손실 (평균)", "Training loss (average)"),
    "held-out loss": ("평가 손실", "Held-out loss"),
    "fit": ("적합", "Fit"),
}
"""Name of a phrase -> it in Korean and in English."""

"""One run from the recipe to the merged model, in the order in which things happen."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

from accelerate.utils import set_seed

from kft.api.before_after import choose_rows, look_at
from kft.api.begun import MADE_TOKENIZER, Begun, begun, has_begun
from kft.api.concluding import conclude
from kft.api.connecting import connect
from kft.api.launched import repeats_another
from kft.api.loaded import Loaded, load
from kft.api.measuring import Rows
from kft.api.observer import Observer, Silent
from kft.api.ranks import Ranks, lost_rank
from kft.api.resuming import last_checkpoint, require_same_run, training_stage
from kft.api.run_folder import (
    create,
    environment,
    free_folder,
    full_disk,
    write_traceback,
)
from kft.api.run_lock import RunLock
from kft.api.stepping import Steps
from kft.api.token_report import step_findings
from kft.api.training import idle_ranks, prepare_training, train_and_save
from kft.api.watching import Watch
from kft.errors import KftError, UsageError
from kft.recipe.schema import Recipe
from kft.train.allocator import return_freed_memory
from kft.train.checkpoint import put_back, read_checkpoint
from kft.train.loop import StepStats
from kft.train.optimizer import rate_findings
from kft.train.runlog import cut_log


def run_steps(
    recipe: Recipe, observer: Observer, *, resume: bool = False
) -> Generator[StepStats, None, None]:
    """Fine-tune as the recipe says; yields after each optimizer step.

    When the iterator ends, the run folder holds the adapter, the result and, if asked for,
    the merged and verified model.

    Args:
        recipe: The resolved recipe.
        observer: Told what happens.
        resume: Go on from the run folder's last checkpoint; without one, start afresh.

    Raises:
        KftError: With exit code 2 for what is wrong before training, 1 for what fails later.
        KeyboardInterrupt: After a SIGINT, once a checkpoint was written.
        SystemExit: With 143 after a SIGTERM, likewise.
    """
    folder = Path(recipe.output_dir)
    try:
        ranks = connect(recipe)
    except UsageError as error:
        if repeats_another():
            raise SystemExit(error.exit_code) from error
        raise
    observer = observer if ranks.is_main else Silent()
    lock = RunLock(folder)
    try:
        goes_on = ranks.together(lambda: _begin(recipe, lock, ranks, resume=resume))
        yield from _run_steps(recipe, lock, observer, ranks, goes_on=goes_on, resume=resume)
        if ranks.is_main:
            for left in folder.glob("error*.txt"):
                left.unlink()
        ranks.close()
    except Exception as error:  # whatever it is, its traceback is kept; it goes on
        is_lost = ranks.left_alone(error)
        before_training = isinstance(error, KftError) and error.exit_code == 2
        if not before_training and not (is_lost and ranks.rank):
            write_traceback(folder, error, ranks.rank)
        if is_lost and ranks.rank > 1:  # two voices are enough; one may be the one that ended
            raise SystemExit(1) from error
        if is_lost:
            raise lost_rank(ranks.rank, error) from error
        disk = None if isinstance(error, KftError) else full_disk(folder, error)
        if disk is not None:
            raise disk from error
        raise
    finally:
        lock.release()
        observer.close()
        return_freed_memory()


def _begin(recipe: Recipe, lock: RunLock, ranks: Ranks, *, resume: bool) -> bool:
    """See that the run folder can be written; whether a run in it goes on."""
    goes_on = resume and has_begun(lock.path.parent)
    if len({*ranks.every(goes_on)}) > 1:
        raise UsageError(
            "The run folder isn't the same on all ranks",
            where=recipe.output_dir,
            expected="a folder that every machine sees, for a run that goes on",
        )
    if not goes_on:
        free_folder(recipe.output_dir, resumed=resume)
    elif ranks.is_main:
        lock.take()
    return goes_on


def _run_steps(
    recipe: Recipe,
    lock: RunLock,
    observer: Observer,
    ranks: Ranks,
    *,
    goes_on: bool,
    resume: bool,
) -> Iterator[StepStats]:
    folder = lock.path.parent
    loaded, rows = ranks.together(
        lambda: _load(recipe, begun(folder) if goes_on else None, observer, ranks)
    )
    recipe = loaded.recipe
    training = prepare_training(loaded)
    plan = training.plan
    idle = idle_ranks(plan, ranks.number)
    of_steps = [*step_findings(plan), *idle, *rate_findings(recipe.train)]
    for finding in of_steps:
        observer.finding(finding)
    observer.stage("measuring the base model")
    base = ranks.with_model(lambda: look_at(loaded, training.bare, rows))
    if base is not None:
        observer.evaluation("base", base.result)
    ranks.by_main(lambda: _create(loaded, lock, goes_on=goes_on, resume=resume))
    set_seed(recipe.train.seed)
    steps = Steps(loaded, training, observer)
    first_step = 1
    watch = Watch(loaded, training.bare, rows, folder, observer)
    checkpoint = ranks.by_main(lambda: last_checkpoint(folder, observer)) if goes_on else None
    checkpoint = ranks.from_main(checkpoint)
    if checkpoint is not None:
        put = partial(_go_on_from, checkpoint, steps, watch)
        # Where parts are sent to each rank, one that fails can't tell those that wait for them.
        put() if ranks.sharing else ranks.together(put)
        first_step = checkpoint[1] + 1
    ranks.by_main(lambda: cut_log(folder, first_step))
    total_steps = plan.total_steps
    observer.stage(training_stage(first_step, total_steps, is_over=watch.is_over))
    watch.begin()
    step = first_step - 1
    for stats in train_and_save(steps, folder, watch, first_step):
        step = stats.step
        yield stats
    if base is not None:  # else this rank is done
        conclude(steps, watch, (rows, base), of_steps, step)


def _load(
    recipe: Recipe, kept: Begun | None, observer: Observer, ranks: Ranks
) -> tuple[Loaded, Rows]:
    """Everything that is wrong before training shows here, or while the model is measured."""
    loaded = load(recipe, observer, kept, ranks)
    if kept is not None:
        folder = Path(recipe.output_dir)
        require_same_run(folder, loaded.recipe, loaded.records.files_sha256)
    return loaded, choose_rows(loaded)


def _create(loaded: Loaded, lock: RunLock, *, goes_on: bool, resume: bool) -> None:
    """Make the run folder, and write what the run begins with."""
    folder, recipe, ranks = lock.path.parent, loaded.recipe, loaded.ranks
    lock.take()
    if not goes_on:
        free_folder(recipe.output_dir, resumed=resume)  # nobody made it meanwhile
    device, files = loaded.accelerator.device, loaded.records.files_sha256
    told = environment(recipe, device, loaded.choices, files)
    told |= {"ranks": loaded.begun_with, "ranks_now": ranks.number}
    create(folder, recipe, {**told, "sharded": bool(ranks.sharing)})
    if recipe.model.tokenizer == "train" and not goes_on:
        loaded.tokenizer.save_pretrained(str(folder / MADE_TOKENIZER))


def _go_on_from(checkpoint: tuple[Path, int], steps: Steps, watch: Watch) -> None:
    """Put the state of a checkpoint and its step back."""
    folder, training, loaded = checkpoint[0], steps.training, steps.loaded
    read = partial(read_checkpoint, folder, training.bare)
    state = loaded.ranks.by_main(read) if loaded.ranks.sharing else read()
    put_back(state, training.bare, training.optimizer, loaded.accelerator.scaler)
    steps.go_on_from(*checkpoint, watch.folder)
    if loaded.ranks.is_main or loaded.ranks.sharing:
        watch.go_on_from(folder)

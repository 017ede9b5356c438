"""``tagmill train``: a new version of a model, on this machine or by a cluster."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from tagmill.cli.labelling import embedded_settings, held, program
from tagmill.cli.opening import settings_of
from tagmill.cli.options import Models, StateDir
from tagmill.cli.progress import LiveProgress, console
from tagmill.cli.run import Roots
from tagmill.cli.trainings import say_training, shown
from tagmill.client import Client
from tagmill.embedded import Servers, train_words
from tagmill.errors import UsageError
from tagmill.registry import open_registry
from tagmill.run import STALL_S
from tagmill.settings import Settings
from tagmill.store import Store, Training
from tagmill.train import ask_for_training, dataset_name, watch_training, with_training_roots
from tagmill.training import MOST_BLOCKS, TrainingRequest, TrainingState, TrainMessage

Dataset = Annotated[
    str,
    typer.Argument(
        metavar="DATASET", help="A folder per class, a manifest of uri,label, or 'corrections:'."
    ),
]
WithCorrections = Annotated[
    bool,
    typer.Option(
        "--with-corrections",
        envvar="TAGMILL_WITH_CORRECTIONS",
        help="What 'tagmill corrections add' was told stands over the dataset.",
    ),
]
ModelName = Annotated[
    str, typer.Option("--name", envvar="TAGMILL_NAME", help="Of the model it makes a version of.")
]
Blocks = Annotated[
    int,
    typer.Option(
        "--fine-tune-blocks",
        envvar="TAGMILL_FINE_TUNE_BLOCKS",
        min=0,
        max=MOST_BLOCKS,
        help="Top blocks of the base that are trained too.",
    ),
]
MinGain = Annotated[
    float,
    typer.Option(
        "--min-gain",
        envvar="TAGMILL_MIN_GAIN",
        min=0.0,
        max=1.0,
        help="Accuracy that it must have more than the champion.",
    ),
]
StrictDataset = Annotated[
    bool,
    typer.Option("--strict", envvar="TAGMILL_STRICT", help="Stop at any fault of the dataset."),
]
Seed = Annotated[
    int, typer.Option("--seed", envvar="TAGMILL_SEED", min=0, help="Of all that is drawn.")
]


def train(
    context: typer.Context,
    dataset: Dataset,
    name: ModelName,
    enqueued: Annotated[
        bool,
        typer.Option(
            "--enqueue", envvar="TAGMILL_ENQUEUE", help="By a cluster's queue 'train', not here."
        ),
    ] = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", envvar="TAGMILL_FOLLOW", help="With --enqueue: watch it to its end."
        ),
    ] = False,
    with_corrections: WithCorrections = False,
    fine_tune_blocks: Blocks = 0,
    min_gain: MinGain = 0.0,
    strict: StrictDataset = False,
    seed: Seed = 0,
    roots: Roots = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Train a model on your own classes; a better one is promoted.

    Interrupted, the same command goes on.
    """
    request = TrainingRequest(
        name=name,
        dataset=dataset_name(dataset),
        with_corrections=with_corrections,
        fine_tune_blocks=fine_tune_blocks,
        min_gain=min_gain,
        strict=strict,
        seed=seed,
    )
    if enqueued:
        with Client(settings_of(context, state_dir, models=models)) as client:
            _enqueue(client, request, follow=follow)
        return
    if settings_of(context, state_dir).store_url is not None:
        raise UsageError(
            "TAGMILL_STORE_URL names a store that has champions and corrections of its own: train "
            "there with --enqueue, or on this machine alone with --state-dir FOLDER"
        )
    settings = embedded_settings(
        state_dir=state_dir, models=models, roots=tuple(roots) if roots else None
    )
    open_registry(settings)  # a worker could only end of one that is none
    training = train_here(settings, request)
    say_training(training)


def _enqueue(client: Client, request: TrainingRequest, *, follow: bool) -> None:
    client.broker.check()
    training = ask_for_training(client.store, client.broker.send, request)
    print(training.id, flush=True)
    if not follow:
        console.print(f"watch it: {program()} watch {training.id}", markup=False)
        return
    with LiveProgress() as view:
        training = watch_training(client.store, training.id, shown(view))
    say_training(training)


def train_here(settings: Settings, request: TrainingRequest) -> Training:
    """Train on this machine, with servers of its own, to the end."""
    with held(settings) as (folder, store, view):
        store.training_claims.release_expired()
        earlier = store.trainings.unfinished(request)
        if earlier is not None:  # whoever had it is gone, for we hold the folder
            store.training_claims.release_expired(earlier.id)
            view.say(f"going on with training {earlier.id}")
        settings = with_training_roots(settings, request, store)
        try:
            with Servers(settings, folder, words=train_words()) as servers:
                training = ask_for_training(store, servers.send, request)
                return watch_training(
                    store, training.id, shown(view), check=_Reminds(store, servers)
                )
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on", markup=False)
            raise


class _Reminds:
    """Looks after the servers, and wakes the lane up again after a loss: here is no tick."""

    def __init__(self, store: Store, servers: Servers) -> None:
        self._store = store
        self._servers = servers
        self._reminded_at = time.monotonic()

    def __call__(self, training: Training) -> None:
        self._servers.check()
        if time.monotonic() - self._reminded_at < STALL_S:
            return
        self._reminded_at = time.monotonic()
        self._store.training_claims.release_expired()
        if training.state is TrainingState.QUEUED:  # it was lost, or waits for one of its model
            self._servers.send([TrainMessage(training=training.id)])

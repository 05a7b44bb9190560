"""The training page while a job is under way, and after one that has no result."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from core import specs
from core.jobs import queue, turns
from core.storage import store
from ui.app import jobs

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

from tests.pages.test_train import DEFAULT, button, opened, texts


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("starting", "Starting"),
        ("waiting", "Waiting for the device"),
        ("loading", "Loading PyTorch"),
        ("running", "300 of 900"),
    ],
)
def test_live_job_is_shown_with_its_state_and_a_way_to_cancel(lab: Lab, state: str, said: str) -> None:
    """A job of the page's own settings is found again without any memory of having started it."""
    job = lab.job(DEFAULT, state)
    app = opened(lab)
    assert any(said in str(bar.text) for bar in app.main.get("progress"))
    assert app.button(key=f"train_cancel_{job}")


def test_live_curves_show_robust_accuracy_and_warn_of_overfitting(lab: Lab) -> None:
    """While it trains: accuracy under PGD and FGSM by epoch, the epoch that collapsed crossed, and said in words."""
    task = specs.TrainSpec(**specs.preset("fast", "digits"), recipe={"name": "fgsm", "eps": 0.2})
    job = queue.read(lab.job(task, "running"), lab.root)
    row = {"loss": 0.5, "train_accuracy": 0.7, "validation_loss": 0.5, "validation_accuracy": 0.8, "eps": 0.2}
    with (job.folder / "events.jsonl").open("a") as file:
        for epoch, robust in ((1, 0.5), (2, 0.1)):
            fell = {"epoch": epoch, "robust_accuracy": robust, "fgsm_accuracy": 0.6, "overfitted": float(robust < 0.3)}
            event = {"time": job.created + 1 + epoch, "done": 300 * epoch, "total": 900, "metrics": {**row, **fell}}
            file.write(json.dumps(event) + "\n")
    app = opened(lab, train_recipe="fgsm", train_fgsm_eps="0.2")
    assert app.button(key=f"train_cancel_{job.id}")
    (chart,) = app.get("plotly_chart")
    drawn = {trace["name"]: trace for trace in json.loads(chart.proto.spec)["data"]}
    assert {"under PGD", "under FGSM", "overfitted to one step"} <= set(drawn)
    assert "Overfitting to a single step in epoch 2" in texts(app)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("failed", "The job failed. No space left."),
        ("cancelled", "Cancelled after"),
        ("dead", "The job crashed after"),
    ],
)
def test_ended_job_says_how_and_offers_to_retry(lab: Lab, state: str, said: str) -> None:
    """One plain sentence, the end of the log, a button that runs it again and one that dismisses it."""
    job = lab.job(DEFAULT, state, message="No space left." if state == "failed" else "", log="last line of the log")
    app = opened(lab)
    assert said in texts(app)
    assert "last line of the log" in texts(app)
    assert app.button(key=f"train_retry_{job}")
    app.button(key=f"train_dismiss_{job}").click().run()
    assert said not in texts(app)
    assert not queue.jobs(lab.root)


def test_long_message_is_one_sentence_with_the_rest_folded(lab: Lab) -> None:
    """What went wrong first; how to mend it inside."""
    lab.job(DEFAULT, "failed", message=f"DataMissing: MNIST is not here. Ways to mend it: {'many ' * 40}")
    app = opened(lab)
    assert app.error[0].value == "The job failed. MNIST is not here."
    folded = next(expander for expander in app.expander if expander.label.startswith("Details"))
    assert "Ways to mend it" in folded.markdown[0].value


def test_live_job_names_its_recipe_and_leaves_out_what_says_nothing(lab: Lab) -> None:
    """Two trainings of one network differ by their recipe; that nothing is overfitted needs no words."""
    task = specs.TrainSpec(network="lenet", recipe={"name": "pgd", "eps": 0.2})
    assert jobs.describe(task)[0] == "Train lenet, PGD 0.2"
    job = queue.read(lab.job(task, "running"), lab.root)
    job = dataclasses.replace(job, metrics={"loss": 0.5, "overfitted": 0.0, "rolled_back": 0.0, "lr": 0.1})
    assert jobs.metrics_text(job) == "loss 0.5"


def test_torn_last_line_of_events_is_no_error(lab: Lab) -> None:
    """A page that reads while a worker writes shows what is whole."""
    lab.job(DEFAULT, "running", torn=True)
    assert any("300 of 900" in str(bar.text) for bar in opened(lab).main.get("progress"))


def test_page_says_that_too_many_jobs_wait(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence that names the setting; nothing is started."""
    lab.job(specs.TrainSpec(seed=99), "running")
    monkeypatch.setenv(turns.SETTING, "0")
    app = opened(lab)
    button(app).click().run()
    assert not app.exception
    assert "The job could not be started: jobs: expected at most 0 waiting jobs, and 0 are waiting" in texts(app)
    assert len(queue.jobs(lab.root)) == 1


def test_stopped_training_offers_to_go_on(lab: Lab) -> None:
    """Where its state is kept, the page says so; dismissing the job removes the state."""
    job = lab.job(DEFAULT, "cancelled")
    kept = store.unfinished(DEFAULT, lab.root)
    kept.parent.mkdir()
    kept.write_bytes(b"state")
    app = opened(lab)
    assert "its progress is kept" in texts(app)
    assert app.button(key=f"train_retry_{job}").label == "Resume"
    app.button(key=f"train_dismiss_{job}").click().run()
    assert not kept.exists()

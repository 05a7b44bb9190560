"""The command line: made from the specs, JSON on request, plain words when refused."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.__main__ import main

Capture = pytest.CaptureFixture[str]


def call(capsys: Capture, *arguments: str) -> Any:
    """Run a command with --json and return what it printed."""
    status = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out)


def test_train_sweep_attack_compare_and_list(capsys: Capture, store_root: Path) -> None:
    """The whole way from nothing to a table; asking twice finds what is there."""
    made = call(capsys, "train", "--network", "linear", "--epochs", "5")
    assert made["cached"] is False
    assert made["test_accuracy"] > 0.8
    again = call(capsys, "train", "--network", "linear", "--epochs", "5")
    assert again == {**made, "cached": True}
    model = made["model"]
    assert (store_root / model / "card.json").is_file()

    rows = call(capsys, "sweep", "--model", model, "--attack", "fgsm", "--eps", "0", "0.05", "0.1", "--n", "50")
    assert [row["eps"] for row in rows] == [0, 0.05, 0.1]
    five = ("accuracy", "error", "confidence", "confidence_correct", "confidence_wrong", "n")
    assert all(name in row for row in rows for name in five)

    attacked = call(capsys, "attack", "--model", model, "--attack", "pgd", "--steps", "5", "--eps", "0.2", "--n", "10")
    assert attacked["n"] == 10
    assert attacked["success_rate"] > 0.5

    shared = call(
        capsys,
        *("universal", "--model", model, "--method", "gradient"),
        *("--eps", "0.3", "--n", "60", "--held-out", "40", "--budget", "25"),
    )
    assert (shared["n"], shared["budget"]) == (40, 25)
    assert shared["mean_forwards"] + shared["mean_backwards"] <= 25
    assert shared["low"] <= shared["fooling_rate"] <= shared["high"]

    table = call(
        capsys, "compare", "--models", model, "--attacks", "fgsm", "pgd:steps=3", "--eps", "0", "0.1", "--n", "30"
    )
    assert {row["attack"] for row in table} == {"fgsm", "pgd(steps=3)"}
    assert [row["model"] for row in call(capsys, "models")] == [model]


def test_minimum_is_the_attack_of_that_name(capsys: Capture, store_root: Path) -> None:
    """Its norm and budget are flags beside the task's; the result is the one that `attack` finds again."""
    model = call(capsys, "train", "--network", "linear", "--epochs", "5")["model"]
    made = call(capsys, "minimum", "--model", model[:12], "--norm", "linf", "--budget", "80", "--n", "15")
    assert (made["attack"], made["norm"], made["budget"], made["n"]) == ("minimum", "linf", 80, 15)
    assert made["success_rate"] == 1
    assert 0 < made["median_linf"] < 0.3
    assert made["mean_forwards"] + made["mean_backwards"] <= 80
    flags = ("--attack", "minimum", "--norm", "linf", "--budget", "80", "--n", "15")
    assert call(capsys, "attack", "--model", model, *flags)["result"] == made["result"]
    targeted = call(capsys, "minimum", "--model", model, "--target", "3", "--budget", "80", "--n", "5")
    assert (targeted["norm"], targeted["target"]) == ("l2", 3)
    with pytest.raises(SystemExit):
        main(["minimum", "--help"])
    text = capsys.readouterr().out
    assert "--eps" not in text
    assert text.count("--budget") == 2  # usage and description
    with pytest.raises(SystemExit):
        main(["minimum", "--model", model, "--eps", "0.1"])


def test_tables_for_people(capsys: Capture) -> None:
    """Without --json: the model's id and a Markdown table; with no models, what to do."""
    assert main(["models"]) == 0
    assert "train one" in capsys.readouterr().out
    assert main(["train", "--network", "linear", "--epochs", "2"]) == 0
    model = capsys.readouterr().out.split()[1]
    assert main(["compare", "--models", model, "--n", "20", "--eps", "0"]) == 0
    assert f"| {model} |" in capsys.readouterr().out


def test_evaluate_for_people_is_legible_and_says_how_many(capsys: Capture) -> None:
    """Four digits after the point, never sixteen; fewer images than asked for are told, a default is not."""
    assert main(["train", "--network", "linear", "--epochs", "2"]) == 0
    model = capsys.readouterr().out.split()[1]
    for asked, said in (([], False), (["--n", "5000"], True)):
        assert main(["evaluate", "--model", model, "--eps", "0.3", "--effort", "quick", *asked]) == 0
        out, err = capsys.readouterr()
        assert ("the test set has 360 images, 5,000 were requested" in err) is said
        assert not re.search(r"\.\d{5}", out), out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--dataset", "imagenet"], "data.dataset: expected 'digits28', 'mnist'"),
        (
            ["train", "--network", "vgg"],
            "network: expected 'linear', 'mlp', 'cnn', ",
        ),
        (["sweep", "--model", "x", "--attack", "bogus"], "attack: expected one of fgsm, pgd"),
        (["sweep", "--model", "x", "--eps", "1.5"], "eps: expected at most 1 for fgsm in linf, got 1.5"),
        (["sweep", "--model", "x", "--eps", "nan"], "eps.0: expected a finite number"),
        (["sweep", "--model", "none"], "model: expected the id of a saved model"),
        (["attack", "--model", "x", "--attack", "fgsm"], "needs a budget"),
        (["attack", "--model", "../x", "--attack", "jacobian_sparse"], "model: expected an id of letters"),
        (
            ["attack", "--model", "x", "--attack", "fgsm", "--eps", "0.1", "--budget", "9"],
            "budget: fgsm has a fixed cost and takes none, got 9",
        ),
        (["attack", "--model", "x", "--attack", "pgd", "--eps", "0.1", "--budget", "0"], "budget: expected"),
        (["universal", "--model", "x", "--method", "magic"], "method: expected one of gradient, uap, lp"),
        (["universal", "--model", "x"], "eps: gradient needs a budget"),
        (["minimum", "--model", "x", "--budget", "10"], "attack.minimum.budget: expected"),
        (["minimum", "--model", "x", "--norm", "l3"], "attack.minimum.norm: expected"),
        (["attack", "--model", "x", "--attack", "transfer", "--eps", "0.1"], "attack.surrogate: expected the id"),
        (["compare", "--models", "x", "--attacks", "magic"], "attacks: expected one of fgsm"),
        (["compare", "--models", "x", "--attacks", "pgd:legs=4"], "legs"),
        (["train", "--dataset", "folder", "--folder", "/nowhere/at/all"], "existing folder of images"),
    ],
)
def test_bad_requests_are_refused_in_plain_words(capsys: Capture, arguments: list[str], expected: str) -> None:
    """Exit status 1 or 2, one plain line on standard error, nothing on standard output, no traceback."""
    assert main(arguments) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert "Traceback" not in err


def test_flags_are_the_specs_fields(capsys: Capture) -> None:
    """--help of a command lists its fields; a method's settings become flags with it."""
    with pytest.raises(SystemExit):
        main(["attack", "--attack", "pgd", "--help"])
    text = capsys.readouterr().out
    for flag in ("--model", "--eps", "--indices", "--restarts", "--relative-step", "--no-random-start"):
        assert flag in text


def test_help_of_evaluate_says_what_an_effort_costs(capsys: Capture) -> None:
    """Each level, in passes, before anything is run."""
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "in passes: quick up to about 150 in linf, 400 in l2" in text


def test_attack_command_takes_a_budget_and_8_bits(capsys: Capture, store_root: Path) -> None:
    """Both reach the attack and come back with the result; `minimum` has a budget of its own under the same flag."""
    model = call(capsys, "train", "--network", "linear", "--epochs", "5")["model"]
    options = ("--model", model, "--n", "10", "--eight-bit")
    made = call(capsys, "attack", "--attack", "pgd", "--eps", "0.05", "--budget", "30", *options)
    assert (made["budget"], made["eight_bit"]) == (30, True)
    assert made["mean_forwards"] + made["mean_backwards"] <= 30
    few = ("--attack", "pgd", "--norm", "l0", "--model", model, "--eps", "0", "1", "2")
    rows = call(capsys, "sweep", *few, "--n", "50")
    assert rows[0]["accuracy"] > rows[1]["accuracy"] > rows[2]["accuracy"]
    least = call(capsys, "attack", "--attack", "minimum", "--norm", "linf", "--budget", "70", *options)
    assert least["mean_forwards"] + least["mean_backwards"] <= 73
    assert least["success_rate"] == 1


def test_undefined_metrics_are_null(capsys: Capture) -> None:
    """JSON has no NaN: a confidence over no images is null."""
    model = call(capsys, "train", "--network", "linear", "--epochs", "30")["model"]
    rows = call(capsys, "sweep", "--model", model, "--attack", "pgd", "--eps", "1", "--n", "20")
    assert rows[0]["accuracy"] == 0
    assert rows[0]["confidence_correct"] is None
    assert not any(isinstance(value, float) and math.isnan(value) for value in rows[0].values())


def test_curve_is_a_lookup_with_its_tests(
    trained_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two models' intervals and the paired test at every ε; a model without a result, or of other data, is refused."""
    root = Path(shutil.copytree(trained_store, tmp_path / "copy"))
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    asked = ["curve", "--models", "digits-linear", "digits-mlp", "--eps", "0", "0.05", "--json"]
    assert main(asked) == 2
    assert "expected models with radii or another result in linf, got 'digits-linear'" in capsys.readouterr().err
    for name in ("digits-linear", "digits-mlp"):
        assert main(["radii", "--model", name, "--n", "30", "--budget", "60"]) == 0
    capsys.readouterr()
    assert main(asked) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["eps"] for row in printed["curves"]] == [0, 0, 0.05, 0.05]
    assert all(0 <= row["proven"] <= row["attacked"] <= 1 and row["n"] == 30 for row in printed["curves"])
    assert all(type(row["n"]) is int for row in printed["curves"])  # a count
    assert [row["n"] for row in printed["tests"]] == [30, 30]
    assert main(["curve", "--models", "digits-linear", "digits-4v9"]) == 2
    assert "expected models of one data set" in capsys.readouterr().err


def test_nothing_is_told_of_an_eps_that_was_not_searched(
    trained_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An evaluation at .3 and no other: at .1 `curve` has null and says why, `trust` refuses."""
    root = Path(shutil.copytree(trained_store, tmp_path / "copy"))
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    model = "digits-linear"
    asked = ("--model", model, "--norm", "linf", "--eps", "0.3", "--effort", "quick", "--n", "20")
    made = call(capsys, "evaluate", *asked)
    assert made["robust_accuracy"] == 0
    low, high = call(capsys, "curve", "--models", model, "--eps", "0.1", "0.30000000000000004")["curves"]
    assert [low[name] for name in ("proven", "attacked", "attacked_high", "passes")] == [None] * 4
    assert "not searched at this ε (searched at ε = 0.3)" in low["note"]
    assert (high["attacked"], high["proven"], high["note"]) == (0, 0, "")
    assert high["passes"] == pytest.approx(made["forwards"] + made["backwards"])
    assert main(["curve", "--models", model, "--eps", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "nan" not in printed
    assert "–" in printed
    assert "not searched at this ε" in printed
    assert main(["trust", "--model", model, "--eps", "0.1"]) == 2
    assert "(0.3), got 0.1: the checks say nothing about another ε" in capsys.readouterr().err
    assert call(capsys, "trust", "--model", model, "--eps", "0.30000000000000004")["eps"] == 0.3


def test_no_proof_tried_is_null(
    trained_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In l0 there are no bounds: `evaluate` and `curve` say nothing of proofs there."""
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(Path(shutil.copytree(trained_store, tmp_path / "copy"))))
    asked = ("--model", "digits-linear", "--norm", "l0", "--eps", "2", "--effort", "quick", "--n", "10")
    assert call(capsys, "evaluate", *asked)["proven_accuracy"] is None
    (row,) = call(capsys, "curve", "--models", "digits-linear", "--norm", "l0", "--eps", "2")["curves"]
    assert row["proven"] is None
    assert row["attacked"] is not None


def test_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    """`python -m core … | head -1`: no message, no traceback, exit status 0."""
    table = tmp_path / "table.csv"
    table.write_text("model,correct,error,confidence,right,wrong\n" + "a,0.5,0.5,0.5,0.5,0.5\n" * 5000)
    pipe = subprocess.Popen(
        [sys.executable, "-m", "core", "audit", str(table)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert pipe.stdout is not None
    assert pipe.stderr is not None
    pipe.stdout.readline()
    pipe.stdout.close()
    assert (pipe.stderr.read(), pipe.wait()) == (b"", 0)
    pipe.stderr.close()


def test_audit_reads_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The misprint of the published table, from a file; what is no table is refused."""
    file = tmp_path / "table.txt"
    file.write_text("trained .9840 .0160 .9721 .9761 .6734\n")
    assert main(["audit", str(file), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["verdict"], row["could_be"].split(";")[0]) == ("fails", "confidence .9712 instead of .9721")
    file.write_text("nothing here")
    assert main(["audit", str(file)]) == 2


@pytest.mark.usefixtures("other_images")
def test_every_command_on_a_model_takes_the_images_of_another_data_set(
    trained_store: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of a data set; what is printed says so, and nothing of it is found without the name."""
    root = shutil.copytree(trained_store, tmp_path / "copy")
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    linear, mlp = (next(path.name for path in root.iterdir() if f"-{name}-" in path.name) for name in ("linear", "mlp"))
    other = ("--data", "toy_faint")
    for command, *settings in (
        ("attack", "--eps", "0.1", "--n", "8"),
        ("minimum", "--budget", "50", "--n", "8"),
        ("sweep", "--eps", "0.1", "--n", "8"),
        ("universal", "--eps", "0.2", "--n", "20", "--held-out", "8"),
        ("pattern", "--n", "8", "--held-out", "4", "--epochs", "1", "--fresh", "2"),
        ("radii", "--n", "8", "--budget", "50"),
        ("evaluate", "--eps", "0.05", "--effort", "quick", "--n", "4"),
        ("certify", "--method", "ibp", "--eps", "0.02", "--n", "8"),
        ("trust",),
    ):
        made = call(capsys, command, "--model", linear, *settings, *other)
        rows = made if isinstance(made, list) else [made]
        assert rows, command
        assert {row["data"] for row in rows} == {"toy_faint"}, command
    for command, *settings in (
        ("transfer", "--attack", "fgsm", "--eps", "0.1", "--n", "8"),
        ("compare", "--eps", "0.1", "--n", "8"),
    ):
        rows = call(capsys, command, "--models", linear, mlp, *settings, *other)
        assert {row["data"] for row in rows} == {"toy_faint"}, command
    at = call(capsys, "curve", "--models", linear, "--eps", "0.05", *other)["curves"][0]
    assert at["data"] == "toy_faint"
    assert at["attacked"] is not None
    assert main(["curve", "--models", linear, "--eps", "0.05"]) == 2
    assert "got" in capsys.readouterr().err
    assert main(["trust", "--model", linear]) == 2
    assert "run `evaluate` first" in capsys.readouterr().err
    assert main(["attack", "--model", linear, "--eps", "0.1", "--data", "toy_letters"]) == 2
    assert "expected the classes of" in capsys.readouterr().err


def test_images_of_a_folder_are_shown_as_the_models_are(
    trained_store: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grey and eight pixels wide without a word; a folder that has changed since is another request."""
    from PIL import Image

    from core.data.sets import load
    from core.specs import DataSpec

    root = shutil.copytree(trained_store, tmp_path / "copy")
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(root))
    linear = next(path.name for path in root.iterdir() if "-linear-" in path.name)
    digits, mine = load(DataSpec(dataset="digits")), tmp_path / "mine"
    for part, split in (("train", digits.train), ("test", digits.test)):
        for row in range(60):
            into = mine / part / str(int(split.y[row]))
            into.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.x[row, 0].numpy()).save(into / f"{row}.png")
    request = ("attack", "--model", linear, "--eps", "0.1", "--n", "8", "--data", f"folder:{mine}")
    made = call(capsys, *request)
    assert made["data"] == "folder-mine"
    card = json.loads((Path(made["result"]) / "card.json").read_text())
    assert (card["spec"]["data"]["image_size"], card["spec"]["data"]["grey"]) == (8, True)
    assert card["data"]["title"] == "mine"
    again = call(capsys, *request)
    assert again["result"] == made["result"]
    next((mine / "test").glob("*/*.png")).unlink()
    assert call(capsys, *request)["result"] != made["result"]
    assert main(["attack", "--model", linear, "--eps", "0.1", "--data", f"folder:{tmp_path / 'nowhere'}"]) == 1
    assert "nowhere" in capsys.readouterr().err

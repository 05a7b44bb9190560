"""What is chosen on the epsilon sweep's page: the ladder of ε, attacks and their norm, a target, a surrogate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core import specs
from core.epsilon import several
from core.models import bundled_results
from tests.pages.sweeps import LADDER, asked, at, plant, texts
from ui.measure import sweep_choice

if TYPE_CHECKING:
    from tests.pages.conftest import Lab


def test_a_ladder_that_changes_takes_the_slider_along(lab: Lab) -> None:
    """The chosen ε moves to the nearest one that there is."""
    model = lab.model()
    plant(lab, model)
    plant(lab, model, eps=(0.0, 0.25), right=(95, 20))
    app = lab.open("epsilon_sweep")
    app.text_input(key="epsilon_sweep_eps").set_value("0 0.1 0.3").run()
    app.select_slider(key="epsilon_sweep_at").set_value(0.3).run()
    app.text_input(key="epsilon_sweep_eps").set_value("0, 0.25").run()
    assert not app.exception
    assert app.select_slider(key="epsilon_sweep_at").value == 0.25
    assert at(app)["FGSM"].tolist() == [20]


def test_a_moved_target_shows_what_there_is_and_what_is_missing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A targeted sweep is another sweep, shown by its success rate; another target leaves the rest on the page."""
    model = lab.model()
    plant(lab, model, target=3)
    app = lab.open("epsilon_sweep")
    assert app.select_slider(key="epsilon_sweep_target").value == 3
    assert "makes “3” of 50 % of the images that **Linear · standard** gets right (FGSM)" in texts(app)
    submitted = asked(monkeypatch)
    app.select_slider(key="epsilon_sweep_target").set_value(4).run()
    assert not app.exception
    said = texts(app)
    assert "Not run yet with these settings towards class “4”" in said
    assert "there are results towards: 3." in said
    assert "nothing is known towards class “4”" in said
    assert at(app)["FGSM"].isna().all()
    assert at(app)["clean"].notna().all()
    app.button(key="epsilon_sweep_run").click().run()
    assert submitted == [specs.CompareSpec(models=(model.id,), eps=LADDER, n=100, target=4)]


@pytest.mark.parametrize(
    ("eps", "said"),
    [
        ("0 2", "expected"),
        ("0 nan", "expected numbers such as 0.1"),
        ("", "at least one ε"),
        ("0.1 zero", "expected numbers such as 0.1"),
    ],
)
def test_refused_ladders_are_one_plain_sentence(lab: Lab, eps: str, said: str) -> None:
    """ε above 1, no number, none at all, a word."""
    lab.model()
    app = lab.open("epsilon_sweep")
    app.text_input(key="epsilon_sweep_eps").set_value(eps).run()
    assert not app.exception
    assert len(app.error) == 1
    assert said in app.error[0].value


def test_no_attack_chosen_is_said(lab: Lab) -> None:
    """An empty selection is no error."""
    lab.model()
    app = lab.open("epsilon_sweep", epsilon_sweep_attacks="fgsm")
    app.multiselect(key="epsilon_sweep_attacks").set_value([]).run()
    assert not app.exception
    assert "Choose at least one attack" in texts(app)


def test_transfer_asks_for_a_surrogate(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among the attack's settings one of the saved models is chosen, and what is run names it."""
    first, victim = lab.model(seed=1), lab.model()
    submitted = asked(monkeypatch)
    app = lab.open(
        "epsilon_sweep",
        epsilon_sweep_models=victim.id,
        epsilon_sweep_attacks="transfer_linf",
        epsilon_sweep_transfer_surrogate=first.id,
    )
    assert not app.exception
    assert app.selectbox(key="epsilon_sweep_transfer_surrogate").value == first.id
    next(button for button in app.button if button.label.startswith("Run")).click().run()
    (task,) = submitted
    assert isinstance(task, specs.CompareSpec)
    assert task.attacks[0].surrogate == first.id


def test_another_norm_has_its_own_attacks_and_ladder(lab: Lab) -> None:
    """In l0 a ladder of small numbers changes nothing: a change of the norm puts in counts, without grey levels."""
    lab.model(network="mlp")
    app = lab.open("epsilon_sweep")
    assert "/255" in next(c.value for c in app.caption if c.value.startswith("= "))
    app.get_by_key("epsilon_sweep_norm").set_value("l0").run()
    assert not app.exception
    assert app.text_input(key="epsilon_sweep_eps").value == "0 1 2 5 10 15 20"
    assert app.multiselect(key="epsilon_sweep_attacks").value == [sweep_choice.usual_attack("l0")]
    assert app.select_slider(key="epsilon_sweep_at").value == 5
    assert not any("/255" in c.value for c in app.caption)
    app.get_by_key("epsilon_sweep_norm").set_value("linf").run()
    assert app.multiselect(key="epsilon_sweep_attacks").value == ["pgd_linf"]


@pytest.mark.parametrize("kind", ["pgd_l2", "PGD ℓ2"])
def test_attack_in_an_address_says_its_norm(lab: Lab, kind: str) -> None:
    """A link need not name both."""
    model = lab.model()
    app = lab.open("epsilon_sweep", epsilon_sweep_models=model.id, epsilon_sweep_attacks=kind)
    assert app.session_state["epsilon_sweep_norm"] == "l2"
    assert app.multiselect(key="epsilon_sweep_attacks").value == ["pgd_l2"]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_colour_images_have_budgets_of_their_own(lab: Lab, norm: str) -> None:
    """In the units of the literature, 8/255 among them exactly; the slider starts at one of them above 0."""
    model = lab.model(network="linear", data={"dataset": "cifar10"})
    app = lab.open("epsilon_sweep", epsilon_sweep_models=[model.id], epsilon_sweep_norm=norm)
    text = app.text_input(key="epsilon_sweep_eps").value
    assert text == sweep_choice.ladder(norm, [model])
    assert (text == sweep_choice.LADDERS[norm]) == (norm == "l0")
    assert norm != "linf" or 8 / 255 in several(text)
    assert app.select_slider(key="epsilon_sweep_at").value > 0


def test_what_is_bundled_of_colour_images_is_what_the_page_asks_for() -> None:
    """The same budgets, to the last bit."""
    assert tuple(several(sweep_choice.COLOUR["linf"])) == bundled_results.COLOUR_EPS

"""The peers' attacks behind one signature, `attack(model, x, y) -> x_adv`; imported lazily: any may be missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
CHUNK = 128
"""Images that a peer without a batch size of its own gets at once: faster on a CPU than all of them together."""


def in_chunks(attack: Attack, size: int = CHUNK) -> Attack:
    """The attack, `size` images at a time."""

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        parts = zip(x.split(size), y.split(size), strict=True)
        return torch.cat([attack(model, a, b).detach() for a, b in parts])

    return run


# ---------------------------------------------------------------- PGD


def pgd_peers(eps: float, steps: int) -> dict[str, Attack]:
    """PGD of every peer; where it has no default for the step, 2.5 * eps / steps, as in Madry's challenge."""
    step = 2.5 * eps / steps

    def torchattacks_pgd(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        import torchattacks

        return torchattacks.PGD(model, eps=eps, alpha=step, steps=steps)(x, y)

    def foolbox_pgd(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        import foolbox

        attack = foolbox.attacks.LinfPGD(rel_stepsize=2.5 / steps, steps=steps)
        return attack(foolbox.PyTorchModel(model, (0, 1)), x, y, epsilons=eps)[1]

    def art_pgd(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        from art.attacks.evasion import ProjectedGradientDescentPyTorch

        attack = ProjectedGradientDescentPyTorch(
            art_classifier(model, x),
            eps=eps,
            eps_step=step,
            max_iter=steps,
            num_random_init=1,
            batch_size=CHUNK,
            verbose=False,
        )
        return torch.from_numpy(attack.generate(x.numpy(), one_hot(y)))

    def adv_lib_pgd(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        from adv_lib.attacks import pgd_linf

        return pgd_linf(model, x, y, ε=eps, steps=steps, absolute_step_size=step)

    return {
        "torchattacks": in_chunks(torchattacks_pgd),
        "foolbox": in_chunks(foolbox_pgd),
        "ART": art_pgd,
        "adv-lib": in_chunks(adv_lib_pgd),
    }


# ---------------------------------------------------------------- smallest norm


def smallest_peers(norm: str, passes: int) -> dict[str, Attack]:
    """Attacks on the smallest norm with so many forward and backward passes an image, as near as their knobs allow."""
    steps = passes // 2
    p: Any = {"l0": 0, "l1": 1, "l2": 2, "linf": float("inf")}[norm]

    def adv_lib(name: str, **settings: Any) -> Attack:
        def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            from adv_lib import attacks

            return getattr(attacks, name)(model, x, y, **settings)

        return in_chunks(attack)

    def foolbox(name: str, **settings: Any) -> Attack:
        def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            import foolbox

            run = getattr(foolbox.attacks, name)(**settings)
            return run(foolbox.PyTorchModel(model, (0, 1)), x, y, epsilons=None)[0]

        return in_chunks(attack)

    def minimal_apgd(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        from adv_lib.attacks.auto_pgd import minimal_apgd as attack

        farthest = {"linf": 1.0, "l2": 5.0, "l1": 40.0}[norm]
        rounds = 5 if passes <= 200 else 10
        return attack(model, x, y, norm=p, max_eps=farthest, n_iter=max(2, steps // rounds), binary_search_steps=rounds)

    peers = {"adv-lib FMN": adv_lib("fmn", norm=p, steps=steps)}
    if norm == "l0":
        peers["adv-lib σ-zero"] = adv_lib("sigma_zero", num_steps=steps)
        peers["adv-lib VFGA"] = adv_lib("vfga", targeted=False, n_samples=10, max_iter=max(1, passes // 12))
        peers["foolbox FMN"] = foolbox("L0FMNAttack", steps=steps)
        return peers
    peers["adv-lib minimal APGD"] = in_chunks(minimal_apgd)
    peers["adv-lib FAB"] = adv_lib("fab", norm=p, n_iter=max(1, passes // 12))
    if norm == "l2":
        peers["adv-lib DDN"] = adv_lib("ddn", steps=steps, levels=None)
        peers["adv-lib ALMA"] = adv_lib("alma", num_steps=steps, distance="l2")
        peers["foolbox DDN"] = foolbox("DDNAttack", steps=steps)
        peers["foolbox C&W"] = foolbox("L2CarliniWagnerAttack", binary_search_steps=5, steps=max(1, steps // 5))
    if norm == "l1":
        peers["adv-lib PDPGD"] = adv_lib("pdpgd", norm=1, num_steps=steps)
        peers["adv-lib ALMA"] = adv_lib("alma", num_steps=steps, distance="l1", init_lr_distance=0.5)
        peers["foolbox EAD"] = foolbox("EADAttack", binary_search_steps=5, steps=max(1, steps // 5), decision_rule="L1")
    if norm == "linf":
        peers["adv-lib PDPGD"] = adv_lib("pdpgd", norm=p, num_steps=steps)
        peers["foolbox FMN"] = foolbox("LInfFMNAttack", steps=steps)
    return peers


# ---------------------------------------------------------------- JSMA, universal


def jsma_peers(y_target: Tensor) -> dict[str, Attack]:
    """JSMA with theta 1 and gamma .1 towards these classes; torchattacks takes them by its targeted mode.

    ART as it comes, image by image, and with the batch that suits it best.
    """

    def torchattacks_jsma(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        import torchattacks

        attack = torchattacks.JSMA(model, theta=1.0, gamma=0.1)
        attack.set_mode_targeted_by_label(quiet=True)
        return attack(x, y_target)

    def art_jsma(size: int) -> Attack:
        def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            from art.attacks.evasion import SaliencyMapMethod

            run = SaliencyMapMethod(art_classifier(model, x), theta=1.0, gamma=0.1, batch_size=size, verbose=False)
            return torch.from_numpy(run.generate(x.numpy(), one_hot(y_target)))

        return attack

    return {"torchattacks": torchattacks_jsma, "ART": art_jsma(1), f"ART, batch {CHUNK}": art_jsma(CHUNK)}


def art_universal(model: nn.Module, x: Tensor, y: Tensor, eps: float, attacker: str, epochs: int) -> Tensor:
    """ART's UAP with one of its attackers inside: its one perturbation (C, H, W)."""
    from art.attacks.evasion import UniversalPerturbation

    inner = {"deepfool": {"max_iter": 20, "verbose": False}, "fgsm": {"eps": eps, "eps_step": eps / 4}}[attacker]
    attack = UniversalPerturbation(
        art_classifier(model, x),
        attacker=attacker,
        attacker_params=inner,
        delta=0.01,
        max_iter=epochs,
        eps=eps,
        norm=np.inf,
        verbose=False,
    )
    attack.generate(x.numpy(), one_hot(y))
    return torch.from_numpy(np.asarray(attack.noise, dtype=np.float32)).reshape(x[0].shape)


def one_hot(y: Tensor, classes: int = 10) -> np.ndarray:
    """What ART takes for labels."""
    return np.eye(classes, dtype=np.float32)[y.numpy()]


def art_classifier(model: nn.Module, x: Tensor) -> Any:
    """ART's wrapper, on the CPU, in eval mode."""
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model.eval(),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )

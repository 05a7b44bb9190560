"""What every attack method says of itself."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from core.specs.base import Spec

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)


class Method(Spec):
    """Base of the attack methods. The class variables describe the method to pages, command line and docs."""

    title: ClassVar[str]
    help: ClassVar[str]
    paper: ClassVar[str]
    norms: ClassVar[tuple[Norm, ...]]
    needs_eps: ClassVar[bool] = False
    """Whether the attack works inside a given budget; if not, it looks for its own smallest perturbation."""
    needs_target: ClassVar[bool] = False
    """Whether the attack only makes sense towards a given class."""

    fixed_cost: ClassVar[bool] = False
    """Whether the attack always costs the same few passes, so that no budget of passes can be set."""

    strict: ClassVar[bool] = False
    """Whether a success asks for more than that the stored image fools."""

    needs_surrogate: ClassVar[bool] = False
    """Whether the attack is made on another model, which its field `surrogate` names."""

    takes_start: ClassVar[bool] = False
    """Whether the attack can begin at an image of the target class."""

    def slug(self) -> str:
        """The method's registry name."""
        return str(self.name)  # type: ignore[attr-defined]  # every concrete method has a Literal field `name`

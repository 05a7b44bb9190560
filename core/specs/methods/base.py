"""What every attack method says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from core.specs.base import Spec, register_in

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)


class Method(Spec):
    """Base of the attack methods: all that is known of a method without running it.

    A method is a subclass with a field `name`, whose default is its name, and a field for each setting of its function,
    decorated with `register`. Pages, the command line, `run_method` and the docs take the rest from the class
    variables.
    """

    if TYPE_CHECKING:  # every method has a field of this name

        @property
        def name(self) -> str:
            """The name that the class is registered under."""

    title: ClassVar[str]
    help: ClassVar[str]
    paper: ClassVar[str]
    norms: ClassVar[tuple[Norm, ...]]
    function: ClassVar[str]
    """Where its function is, such as "core.attacks.fixed_budget.pgd:pgd"; imported when the attack is run."""
    needs_eps: ClassVar[bool] = False
    """Whether the attack works inside a given budget; if not, it looks for its own smallest perturbation."""
    finds_eps: ClassVar[bool] = False
    """Whether the attack computes the ε in linf that fools, so that it gives a curve over ε without being given one."""
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
    random: ClassVar[bool] = False
    """Whether the attack draws random numbers, from the argument `streams` of its function."""
    stops_early: ClassVar[bool] = False
    """Whether the attack stops at the first image that fools, and goes on with `early_stop=False`."""
    trace_axis: ClassVar[int] = 0
    """The axis of what the attack records (`AttackResult.trace`) that runs over the images."""

    def slug(self) -> str:
        """The method's name in `METHODS`."""
        return self.name


METHODS: dict[str, type[Method]] = {}
"""Every attack method by its name, in the order in which people see them."""
register = register_in(METHODS)
"""Class decorator: puts a method into `METHODS`. Raises ValueError if the name is taken."""

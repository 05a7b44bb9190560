"""A pretended accelerator: its tensors lie on the CPU but say that they are on `cuda:0`, and mixing raises as on CUDA.

    with Pretended():
        x = torch.rand(4, 3, device="cuda")   # x.device is cuda:0
        x + torch.rand(4, 3)                  # RuntimeError: Expected all tensors to be on the same device ...

Under it `torch.cuda` says that there is one device. What a real one does not forgive raises here too: tensors of both
sides in one operation, `numpy()` on its tensors, an index or a random generator of the wrong side, and with
`float64=False` any tensor of double precision (Apple's devices have none). What it cannot show is precision and speed.

Each such tensor wraps one of the CPU. To PyTorch's C++ it is on the device `meta`, whose backward passes need no device
of its own; the Python attributes say `cuda:0`.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

KIND = "cuda"
HERE = torch.device(KIND, 0)
CPU = torch.device("cpu")
META = torch.device("meta")
aten = torch.ops.aten
ACROSS = {aten.copy_.default, aten._to_copy.default, aten._local_scalar_dense.default}
"""Operations that go from one side to the other."""
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default, aten._unsafe_index.Tensor}
"""Operations that take indices of the CPU for a tensor of the device, though not the other way."""
JOINING = {aten.cat.default, aten.stack.default}
"""Operations that take no number of the CPU among tensors of the device."""


class OnDevice(Tensor):
    """A tensor of the pretended device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        """Wrap a tensor of the CPU, without a copy."""
        return Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=META,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Outside of `Pretended`, too, a tensor stays on its side."""
        return computed(func, args, kwargs or {})

    device = property(lambda self: HERE)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        """The number of the device."""
        return 0

    def tolist(self) -> Any:
        """As lists, which takes the numbers to the CPU."""
        return self.inner.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Not without `cpu()`."""
        if force:
            return self.inner.numpy(force=True)
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def __repr__(self, **kwargs: Any) -> str:
        return f"{self.inner!r} on {HERE}"

    def __format__(self, spec: str) -> str:
        return format(self.inner, spec)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return OnDevice, (self.inner,)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnDevice:
        if id(self) not in memo:
            if not self.is_leaf:
                raise RuntimeError("Only Tensors created explicitly by the user support the deepcopy protocol")
            made = OnDevice(self.inner.detach().clone())
            made.requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                made._is_param = True
            if self.grad is not None:
                made.grad = self.grad.clone()
            memo[id(self)] = made
        return memo[id(self)]


def _is_device(value: Any) -> bool:
    """Whether an argument names the pretended device."""
    if isinstance(value, torch.device):
        return value.type == KIND
    return isinstance(value, str) and value.split(":")[0] == KIND


def _tensors(values: Any, found: list[Tensor] | None = None) -> list[Tensor]:
    """The tensors among the arguments; by hand, since PyTorch's own walk is most of what an operation costs here."""
    found = [] if found is None else found
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            _tensors(value, found)
    return found


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    """The value, or each of a tuple or a list, through the function."""
    if isinstance(value, tuple | list):
        parts = [_each(function, part) for part in value]
        return parts if type(value) is list else tuple(parts)
    return function(value)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


def _refuse(func: Any, what: str) -> None:
    raise RuntimeError(f"Expected all tensors to be on the same device ({func}): {what}")


def check_sides(func: Any, args: Any, every: list[Tensor]) -> None:
    """Raise where a real device would: `func` is given tensors of both sides that do not go together."""
    if func in ACROSS:
        return
    mine = [value for value in every if isinstance(value, OnDevice)]
    others = [value for value in every if not isinstance(value, OnDevice)]
    if not mine or not others:
        return
    if func in INDEXED:
        if not isinstance(args[0], OnDevice):
            _refuse(func, "a tensor of the CPU, with an index or values of the device")
        if any(not isinstance(value, OnDevice) and value.ndim for value in _tensors(args[2:3])):
            _refuse(func, "values of the CPU for a tensor of the device")
        return
    wide = [value for value in others if value.ndim > 0]
    if wide or func in JOINING or func.namespace != "aten":
        shape = tuple((wide or others)[0].shape)
        _refuse(func, f"one of shape {shape} is on the CPU, one of {tuple(mine[0].shape)} on the device")
    changes = func._schema.is_mutable and not func.__name__.startswith("_foreach")
    if changes and isinstance(args[0], Tensor) and not isinstance(args[0], OnDevice):
        _refuse(func, "a result of the device in a tensor of the CPU")


def computed(func: Any, args: Any, kwargs: dict[str, Any], *, float64: bool = True) -> Any:
    """What `func` gives, on the side where a real device would have it."""
    every = _tensors((*args, *kwargs.values()))
    check_sides(func, args, every)
    there = any(isinstance(value, OnDevice) for value in every)
    named = kwargs.get("device")
    if named is not None:
        there = torch.device(named).type in (KIND, "meta")
        kwargs = {**kwargs, "device": CPU}
    if func is aten._local_scalar_dense.default:
        there = False
    if func is aten.copy_.default:
        there = isinstance(args[0], OnDevice)
    generator = kwargs.get("generator")
    if generator is not None and (generator._cdata in _GENERATORS) != there:
        raise RuntimeError(f"Expected a '{KIND if there else 'cpu'}' device type for generator but found another")
    given = {id(value.inner): value for value in every if isinstance(value, OnDevice)}
    out = func(*_each(_inner, args), **{name: _each(_inner, value) for name, value in kwargs.items()})
    if func is aten._to_copy.default and not there:  # to the CPU: a copy, also where the device is pretended
        return out

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if not float64 and value.dtype in (torch.float64, torch.complex128):
            raise TypeError(f"Cannot convert a {KIND} Tensor to float64: the device has none")
        return given[id(value)] if id(value) in given else OnDevice(value)

    return _each(wrapped, out) if there else out


class _Ops(TorchDispatchMode):
    """Every operation, also those that C++ starts: on tensors of the pretended device, on the CPU."""

    def __init__(self, owner: Pretended) -> None:
        super().__init__()
        self.owner = owner

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See `computed`; a tensor that Python asks for on `meta` is one."""
        kwargs = kwargs or {}
        named = kwargs.get("device")
        factory = named is not None and torch.device(named).type == "meta" and not self.owner.meta
        seeded = getattr(kwargs.get("generator"), "_cdata", None) in _GENERATORS
        if factory or seeded or any(isinstance(value, OnDevice) for value in _tensors((*args, *kwargs.values()))):
            return computed(func, args, kwargs, float64=self.owner.float64)
        return func(*args, **kwargs)


class Generator(torch.Generator):
    """A random generator of either side."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        """Numbers are drawn on the CPU."""
        return super().__new__(cls, "cpu")

    def __init__(self, device: Any = "cpu") -> None:
        self.side = HERE if _is_device(device) else torch.device(device)
        if self.side == HERE:
            _GENERATORS[self._cdata] = self

    device = property(lambda self: self.side)  # type: ignore[assignment]


_GENERATORS: weakref.WeakValueDictionary[int, Generator] = weakref.WeakValueDictionary()
"""Those of the device, by their C++ object: operations are given another Python object for it."""


class Pretended(TorchFunctionMode):
    """While it is on, there is a pretended CUDA device.

    Attributes:
        float64: whether it has double precision.
        meta: whether Python has asked for tensors without values just now.
    """

    def __init__(self, *, float64: bool = True) -> None:
        super().__init__()
        self.float64, self.meta = float64, False
        self._ops = _Ops(self)
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Pretended:
        for name, value in _CUDA.items():
            self._patch.setattr(torch.cuda, name, value)
        self._patch.setattr(torch, "Generator", Generator)
        self._patch.setattr(nn.Module, "compile", lambda module, *args, **kwargs: None)  # nothing to compile for
        self._patch.setattr(torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda optimizer: None)
        self._patch.setattr(torch._C, "_group_tensors_by_device_and_dtype", _grouped)
        # a parameter moved in place would become one of `meta`, without values
        self._overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        self._ops.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._ops.__exit__(*error)
        torch.__future__.set_overwrite_module_params_on_conversion(self._overwrites)
        self._patch.undo()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Devices in words, before PyTorch looks for a driver."""
        kwargs = dict(kwargs or {})
        if func is torch.device or getattr(func, "__name__", "") in (
            "_parse_to",
            "get_device_module",
        ):  # the name itself
            return func(*args, **kwargs)
        if func is Tensor.cuda:
            func, args = Tensor.to, (args[0], HERE)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            args = (args[0], _indices(args[1]), *args[2:])
        named = kwargs.get("device")
        devices = [value for value in (*args, named) if isinstance(value, torch.device | str)]
        if func in (torch.tensor, torch.as_tensor, torch.asarray):
            there = any(map(_is_device, devices)) if devices else isinstance(args[0], OnDevice)
            return self._made(func, args, kwargs, there)
        if getattr(func, "__name__", "") == "new_tensor":
            there = any(map(_is_device, devices)) if devices else isinstance(args[0], OnDevice)
            return self._made(torch.tensor, args[1:], {"dtype": args[0].dtype, **kwargs}, there)
        if not devices:
            return func(*args, **kwargs)
        before, self.meta = self.meta, any(torch.device(value).type == "meta" for value in devices if _names(value))
        args = tuple(META if _is_device(value) else value for value in args)
        if _is_device(named):
            kwargs["device"] = META
        try:
            return func(*args, **kwargs)
        finally:
            self.meta = before

    def _made(self, func: Any, args: Any, kwargs: dict[str, Any], there: bool) -> Tensor:
        kwargs.pop("device", None)
        made: Tensor = func(*_each(_inner, args), **kwargs)
        if there and not self.float64 and made.dtype == torch.float64:
            raise TypeError(f"Cannot convert a {KIND} Tensor to float64: the device has none")
        flag = made.requires_grad
        return OnDevice(made.detach()).requires_grad_(flag) if there else made


def _names(value: Any) -> bool:
    """Whether a word among the arguments is a device's name at all."""
    return isinstance(value, torch.device) or value.split(":")[0] in ("cpu", "cuda", "meta", "mps")


def _indices(index: Any) -> Any:
    """Lists among the indices as tensors; PyTorch would make them on `meta`."""
    if isinstance(index, tuple):
        return tuple(map(_indices, index))
    return torch.tensor(index) if isinstance(index, list) and index else index


_GROUPED = torch._C._group_tensors_by_device_and_dtype


def _grouped(*args: Any) -> Any:
    """The groups, each under the device that Python is told."""
    return {(HERE if device == META else device, dtype): one for (device, dtype), one in _GROUPED(*args).items()}


def _state(device: Any = None) -> Tensor:
    return torch.zeros(16, dtype=torch.uint8)


_CUDA: dict[str, Any] = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "get_device_name": lambda device=None: "a pretended device",
    "get_rng_state": _state,
    "get_rng_state_all": lambda: [_state()],
    "set_rng_state": lambda state, device=None: None,
    "is_bf16_supported": lambda including_emulation=True: False,
    "mem_get_info": lambda device=None: (8 << 30, 8 << 30),
    "manual_seed": lambda seed: None,
    "manual_seed_all": lambda seed: None,
    "synchronize": lambda device=None: None,
    "empty_cache": lambda: None,
    "reset_peak_memory_stats": lambda device=None: None,
    "max_memory_allocated": lambda device=None: 1 << 30,
    "device": lambda device: contextlib.nullcontext(),
}
"""What stands in `torch.cuda` meanwhile."""

"""Descriptors with which a rule declares the numbers in its formula as settings.

In the class of a rule, `alpha = Coefficient(1e-3)` adds the setting `alpha`: a flag with help, an
entry in records and settings files, and `self.alpha` for the formula. Nothing else must be changed.
"""

from typing import ClassVar, Generic, NamedTuple, Optional, Type, TypeVar, overload

from alignment.gradients import Scalar

T = TypeVar('T')
D = TypeVar('D', bound='Declared')


class Declaration(NamedTuple):
    """A setting of a rule, as plain data.

    Attributes:
        part: 'coefficient', 'switch' or 'size'.
        default: The rule's own default.
        help: Text for --help.
    """

    part: str
    default: object
    help: str


class Declared(Generic[T]):
    """A setting that a class declares. An instance has its value, or else the default.

    Args:
        default: The rule's own default.
        help: What the setting does, for --help, which adds the name of the rule.
    """

    part: ClassVar[str]

    def __init__(self, default: T, help: str = '') -> None:
        self.default = default
        self.help = help

    @overload
    def __get__(self: D, instance: None, owner: Optional[Type[object]] = None) -> D: ...

    @overload
    def __get__(self, instance: object, owner: Optional[Type[object]] = None) -> T: ...

    def __get__(self, instance: object, owner: Optional[Type[object]] = None) -> object:
        return self if instance is None else self.default

    @property
    def declaration(self) -> Declaration:
        """The declaration as plain data."""
        return Declaration(self.part, self.default, self.help)


class Coefficient(Declared[Scalar]):
    """The weight of a term: a number, or a float32 scalar tensor if it has a schedule."""

    part = 'coefficient'


class Switch(Declared[bool]):
    """A variant of the formula: true or false."""

    part = 'switch'


class Size(Declared[int]):
    """A whole number of at least 1 that determines shapes."""

    part = 'size'

"""Declarations of the settings that a rule's formula uses.

A line `alpha = Coefficient(1e-3)` in the class of a rule declares the setting `alpha`. The rule
then has a flag with a help text, an entry in records and settings files, and `self.alpha` in its
formula. No other file has to be changed.
"""

from typing import ClassVar, Generic, NamedTuple, Optional, Type, TypeVar, overload

from alignment.gradients import Scalar

T = TypeVar('T')
D = TypeVar('D', bound='Declared')


class Declaration(NamedTuple):
    """A setting of a rule, as plain data.

    Attributes:
        part: 'coefficient', 'switch' or 'size'.
        default: The default value for this rule.
        help: The help text of the flag.
    """

    part: str
    default: object
    help: str


class Declared(Generic[T]):
    """A setting that a class declares. On an instance, it is the value or else the default.

    Args:
        default: The default value for this rule.
        help: A description for --help. The name of the rule is put in front of it.
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
        """This declaration as plain data."""
        return Declaration(self.part, self.default, self.help)


class Coefficient(Declared[Scalar]):
    """The weight of a term: a number, or a float32 scalar tensor if it follows a schedule."""

    part = 'coefficient'


class Switch(Declared[bool]):
    """A setting that turns a variant of the formula on or off."""

    part = 'switch'


class Size(Declared[int]):
    """A whole number of at least 1 that determines shapes."""

    part = 'size'

"""What a rule declares of the numbers that its formula is made with: each is a setting.

In the class of a rule, `alpha = Coefficient(1e-3)` gives it the setting `alpha`: a flag with help,
a place in records and settings files, and `self.alpha` in the formula. Nothing else needs to know.
"""

from typing import ClassVar, Generic, NamedTuple, Optional, Type, TypeVar, overload

from alignment.gradients import Scalar

T = TypeVar('T')
D = TypeVar('D', bound='Declared')


class Declaration(NamedTuple):
    """A setting of a rule, as plain data. part: 'coefficient', 'switch' or 'size'."""

    part: str
    default: object
    help: str


class Declared(Generic[T]):
    """A setting that a class declares; an instance has its value, or else the default.

    default: the rule's own. help: for --help, what it is; the name of the rule is put before it.
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
        """The same as plain data."""
        return Declaration(self.part, self.default, self.help)


class Coefficient(Declared[Scalar]):
    """The weight of a term: a number, or, where it has a schedule, a float32 scalar tensor."""

    part = 'coefficient'


class Switch(Declared[bool]):
    """A variant of the formula."""

    part = 'switch'


class Size(Declared[int]):
    """A whole number, at least 1, that shapes are made with."""

    part = 'size'

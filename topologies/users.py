"""The users service: owns who a customer is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline import Aggregate, Rejected, Service

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegisterUser:
    name: str
    country: str


@dataclass(frozen=True, slots=True)
class ChangeName:
    name: str


@dataclass(frozen=True, slots=True)
class ChangeCountry:
    country: str


Command = RegisterUser | ChangeName | ChangeCountry

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UserRegistered:
    name: str
    country: str


@dataclass(frozen=True, slots=True)
class NameChanged:
    name: str


@dataclass(frozen=True, slots=True)
class CountryChanged:
    country: str


Event = UserRegistered | NameChanged | CountryChanged

# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class User:
    name: str
    country: str


NOBODY = User("", "")

# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, user: User) -> list[Event] | Rejected:
    match command:
        case RegisterUser() if user != NOBODY:
            return Rejected("already_registered")
        case RegisterUser(name="") | RegisterUser(country="") | ChangeName(name="") | ChangeCountry(country=""):
            return Rejected("empty_value")
        case RegisterUser(name, country):
            return [UserRegistered(name, country)]
        case _ if user == NOBODY:
            return Rejected("unknown_user")
        case ChangeName(name):
            return [] if name == user.name else [NameChanged(name)]
        case ChangeCountry(country):
            return [] if country == user.country else [CountryChanged(country)]


def evolve(user: User, event: Event) -> User:
    match event:
        case UserRegistered(name, country):
            return User(name, country)
        case NameChanged(name):
            return replace(user, name=name)
        case CountryChanged(country):
            return replace(user, country=country)


users = Aggregate("users", command=Command, event=Event, initial=NOBODY, decide=decide, evolve=evolve)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("users", aggregates=[users])

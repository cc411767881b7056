"""The users service: owns who a customer is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline import Aggregate, Rejected, Service, Unique

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegisterUser:
    name: str
    country: str
    email: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeName:
    name: str


@dataclass(frozen=True, slots=True)
class ChangeCountry:
    country: str


@dataclass(frozen=True, slots=True)
class ChangeEmail:
    email: str | None  # None gives it up


Command = RegisterUser | ChangeName | ChangeCountry | ChangeEmail

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UserRegistered:
    name: str
    country: str
    email: str | None = None


@dataclass(frozen=True, slots=True)
class NameChanged:
    name: str


@dataclass(frozen=True, slots=True)
class CountryChanged:
    country: str


@dataclass(frozen=True, slots=True)
class EmailChanged:
    email: str | None


Event = UserRegistered | NameChanged | CountryChanged | EmailChanged

# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class User:
    name: str
    country: str
    email: str | None = None


NOBODY = User("", "")

# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, user: User) -> list[Event] | Rejected:
    match command:
        case RegisterUser() if user != NOBODY:
            return Rejected("already_registered")
        case RegisterUser(name="") | RegisterUser(country="") | ChangeName(name="") | ChangeCountry(country=""):
            return Rejected("empty_value")
        case RegisterUser(email=str(email)) | ChangeEmail(str(email)) if not is_address(email):
            return Rejected("no_email_address")
        case RegisterUser(name, country, email):
            return [UserRegistered(name, country, email)]
        case _ if user == NOBODY:
            return Rejected("unknown_user")
        case ChangeName(name):
            return [] if name == user.name else [NameChanged(name)]
        case ChangeCountry(country):
            return [] if country == user.country else [CountryChanged(country)]
        case ChangeEmail(email):
            return [] if email == user.email else [EmailChanged(email)]


def evolve(user: User, event: Event) -> User:
    match event:
        case UserRegistered(name, country, email):
            return User(name, country, email)
        case NameChanged(name):
            return replace(user, name=name)
        case CountryChanged(country):
            return replace(user, country=country)
        case EmailChanged(email):
            return replace(user, email=email)


def is_address(email: str) -> bool:
    """Whether a letter could be on its way there; whether it arrives, only sending one tells."""
    name, at, host = email.partition("@")
    return bool(name.strip() and at and host.strip()) and "@" not in host and len(email) <= 254


def same_email(user: User) -> str | None:
    """Addresses that differ in upper and lower case only are the same."""
    return None if user.email is None else user.email.strip().casefold()


users = Aggregate(
    "users",
    command=Command,
    event=Event,
    initial=NOBODY,
    decide=decide,
    evolve=evolve,
    unique=[Unique("user_emails", value=same_email)],
)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("users", aggregates=[users])

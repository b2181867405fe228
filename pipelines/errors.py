"""What can go wrong, and what to do about it.

    FlywheelError
    ├── RetryLater     the world may mend itself: a network, a lock, a full queue. Airflow retries.
    └── StopTheLine    a person must change data, code or a contract first. Airflow does not retry.
        ├── SourceUnreadable    a log or feed that cannot be read at all
        ├── PromiseBroken       a `stop` promise of a contract does not hold; nothing was committed
        └── NotConfigured       a setting, format, table or command that does not exist

Every message names what broke, where the evidence lies and which file to edit. No message carries prompt text or secrets.
"""

from __future__ import annotations


class FlywheelError(Exception):
    """Anything this project raises on purpose."""


class RetryLater(FlywheelError):
    """The same call may succeed later with nothing changed."""


class StopTheLine(FlywheelError):
    """The same call will fail again until a person changes data, code or a contract."""


class SourceUnreadable(StopTheLine):
    """A log or price feed that cannot be read at all."""


class PromiseBroken(StopTheLine):
    """A `stop` promise does not hold for a batch; nothing of the batch was committed."""


class NotConfigured(StopTheLine):
    """A setting, format, table or file that was asked for does not exist."""

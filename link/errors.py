"""
The errors of `link`, in one tree.

    LinkError
    ├── LinkDescriptionError   a description that no link can have
    ├── LinkUnavailableError   this machine or this user cannot make the link
    ├── LinkBrokenError        the link's own process ended while it was needed
    └── LinkRefusedError       the link is not what its description says, or has not been tested
"""

from __future__ import annotations


class LinkError(Exception):
    """Base of every deliberate error; the message names the value received and the value expected."""


class LinkDescriptionError(LinkError, ValueError):
    """A description that no link can have."""


class LinkUnavailableError(LinkError):
    """This machine or this user cannot make the link."""


class LinkBrokenError(LinkError):
    """The link's own process ended while it was needed."""


class LinkRefusedError(LinkError):
    """The link is not what its description says, or nobody has tested whether it is."""

# SPDX-License-Identifier: BSD-3-Clause
"""The two ways in which a measurement does not happen."""


class Failure(Exception):
    """Something that ought to work does not; its text says what, and ends the suite."""


class Missing(Exception):
    """A program or a setting is not there, so a setup can't be run; its text says which."""

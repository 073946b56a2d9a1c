"""What is said of a replica, by when that was written and when it last had all."""

import pytest

from policyd.replica.status import ReplicaStatus

NOW = 1_000_000_000


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        pytest.param(ReplicaStatus(current_at=NOW, told_at=NOW), "", id="followed"),
        pytest.param(ReplicaStatus(current_at=NOW - 9, told_at=NOW - 9), "", id="followed, and to be written soon"),
        pytest.param(ReplicaStatus(current_at=NOW, told_at=NOW, problem="away"), "away", id="away since a moment"),
        pytest.param(ReplicaStatus(told_at=NOW, problem="away"), "away", id="never followed"),
        pytest.param(
            ReplicaStatus(current_at=NOW - 99, told_at=NOW, behind=7),
            "it is catching up; 7 changes missing when it looked last",
            id="behind",
        ),
        pytest.param(
            ReplicaStatus(current_at=NOW - 99, told_at=NOW - 98, problem="away"),
            "nobody follows the database; start policyd serve, or see its log",
            id="away, and then the daemon was stopped",
        ),
        pytest.param(
            ReplicaStatus(current_at=NOW + 99, told_at=NOW + 99),
            "the clock was set back since it was followed last",
            id="a time that is to come",
        ),
    ],
)
def test_problem_is_the_one_of_now(status: ReplicaStatus, problem: str) -> None:
    """What a stopped daemon wrote last is no news of the server."""
    assert status.problem_at(NOW) == problem


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7199, "119 minutes"),
        (172800, "2 days"),
    ],
)
def test_age_is_in_words(seconds: int, words: str) -> None:
    """For a person, who need not divide."""
    assert ReplicaStatus(current_at=NOW - seconds).age_in_words(NOW) == words

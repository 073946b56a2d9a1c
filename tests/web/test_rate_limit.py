"""How often is often enough, in bounded memory."""

from policyd.web.rate_limit import RateLimit


def test_each_has_its_own_count():
    """One who guesses all day does not keep others out."""
    limit = RateLimit(2, 100, 60)
    assert [limit.take("a", 1000.0) for _ in range(3)] == [True, True, False]
    assert limit.take("b", 1000.0)


def test_all_together_have_one_too():
    """Whoever has many addresses has not many times as many guesses."""
    limit = RateLimit(2, 3, 60)
    assert [limit.take(f"host {number}", 1000.0) for number in range(5)] == [True, True, True, False, False]


def test_it_begins_anew_after_the_time():
    """A wrong key in Prometheus's settings is no reason to be kept out for ever."""
    limit = RateLimit(1, 100, 60)
    assert limit.take("a", 1000.0)
    assert not limit.take("a", 1059.0)
    assert limit.take("a", 1060.0)


def test_clock_that_is_set_back_locks_nobody_out():
    """Else it would be for as long as the clock was wrong."""
    limit = RateLimit(1, 1, 60)
    assert limit.take("a", 1e9)
    assert limit.take("a", 1000.0)


def test_a_flood_of_addresses_takes_no_memory():
    """An IPv6 network has more addresses than this machine has bytes."""
    limit = RateLimit(10, 100, 60)
    for number in range(10_000):
        limit.take(f"host {number}", 1000.0)
    assert len(limit._counts) <= 100

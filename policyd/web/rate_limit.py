"""How often something may happen, for each one who does it and in all, in bounded memory."""


class RateLimit:
    """*for_each* times for one key, and *in_total* times for all keys together, in each *seconds* seconds.

    No more than *in_total* keys are kept at a time, since each of them has used up one of these times.
    """

    def __init__(self, for_each: int, in_total: int, seconds: int) -> None:
        self._for_each = for_each
        self._in_total = in_total
        self._seconds = seconds
        self._began = 0.0
        self._counts: dict[str, int] = {}
        self._total = 0

    def is_reached(self, key: str, now: float) -> bool:
        """Whether it may not happen once more for *key* at *now*, in seconds."""
        if not 0 <= now - self._began < self._seconds:  # the time is over, or the clock was set
            self._began = now
            self._counts.clear()
            self._total = 0
        return self._total >= self._in_total or self._counts.get(key, 0) >= self._for_each

    def count(self, key: str) -> None:
        """It happened for *key*, as `is_reached` allowed."""
        self._counts[key] = self._counts.get(key, 0) + 1
        self._total += 1

    def take(self, key: str, now: float) -> bool:
        """Whether it may happen for *key* at *now*; if so, it is counted."""
        if self.is_reached(key, now):
            return False
        self.count(key)
        return True

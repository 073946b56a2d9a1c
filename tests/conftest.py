"""What every test shares: one profile for the randomised ones, the same on every machine."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "policyd",
    derandomize=True,  # the same examples in each run: what fails here fails everywhere
    print_blob=True,  # and a line to play a failure again
    deadline=None,  # a busy machine is no defect
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=100,
)
settings.load_profile("policyd")

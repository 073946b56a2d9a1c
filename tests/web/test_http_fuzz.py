"""The fuzz target over HTTP without a fuzzer: its seeds, and inputs made by rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.http_seeds import FOUND, STREAMS, seeds, words
from tests.fuzz.http_target import check, run
from tests.support.randomised import examples

SEEDS = seeds()
FOUND_NAMES = [path.name for path in FOUND.glob("*")]
heads = st.builds(lambda first, sizes: bytes([first, len(sizes)]) + sizes, st.integers(0, 15), st.binary(max_size=5))
parts = st.one_of(st.sampled_from([*STREAMS.values()]), st.sampled_from(words()), st.binary(max_size=20))
inputs = st.builds(lambda head, said: head + b"".join(said), heads, st.lists(parts, max_size=8))


@pytest.mark.parametrize("name", [*STREAMS, *FOUND_NAMES])
def test_seed_harms_nothing(name):
    """What is usual, and what is known to be hostile, ends in an answer or the end of the connection."""
    for each in (seed for seed in SEEDS if seed == name or seed.startswith(f"{name}, ")):
        run(SEEDS[each])


@examples(40, 3000)
@given(inputs)
def test_no_conversation_harms_anything(raw):
    """Nobody gets in who doesn't belong, no error of ours is met, and nothing is kept, however it arrives."""
    run(raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", id="no safe head"),
        pytest.param(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", id="a defect"),
        pytest.param(b"ok", id="no answer"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", id="more after the end"),
    ],
)
def test_wrong_answer_does_not_pass(raw):
    """A target that accepts everything finds nothing."""
    with pytest.raises(AssertionError):
        check(raw)

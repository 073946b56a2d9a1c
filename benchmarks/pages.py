"""What people on the pages cost those who wait for answers: the latency before, and while ten of them click.

Run it as `PYTHONPATH=. .venv/bin/python benchmarks/pages.py [--rounds N] [--seconds S]`, on a machine that does nothing
else. At half of what one worker answers at most; the 99th percentile while they click is wanted within 1.2 times of
that before. Two controls show what of it is the machine's: the same people at a server whose pages cost nothing; and a
program that only counts, in the time that nobody else wants, as the process of the pages has. Where the browser of the
tests is installed, it prints how soon the first page is seen, too.
"""

import argparse
import http.client
import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from report import print_machine
from servers import LIMIT_SECONDS, Bench, Load, free_port

PEOPLE = 10
# How long each of them reads a page, on average. Without a pause they are ten programs, which no help desk has.
READING_SECONDS = {"people": 1.0, "programs without a pause": 0.0}
PAGE = b"x" * 10_000  # a page that costs nothing
ROWS = 1000
REFUSALS = 10_000  # that are kept
VIEWS = 15  # of each first page
SETTLE_MS = 400  # for a browser to be done with what comes before a view
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def click(port: int) -> float:
    """Have one page made, each as often as help desks look at it; the seconds that it took."""
    number = random.randrange(ROWS)
    path, fields = random.choice(
        [
            ("/", {"about": f"u{number}@example.com", "other": "joe@example.net", "direction": "to"}),
            ("/", {"about": f"x{number}@example.com", "direction": "to"}),
            ("/refusals", {"sender": f"s{number}"}),
            ("/refusals", {}),
            ("/mailbox", {"name": f"u{number}"}),
            ("/journal", {}),
            ("/health", {}),
        ]
    )
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_SECONDS)
    connection.request("POST" if fields else "GET", path, urlencode(fields) or None, FORM if fields else {})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status >= 500:
        raise SystemExit(f"{path}: {answer.status}")
    return time.perf_counter() - began


@contextmanager
def clicking(port: int, reading_seconds: float) -> Iterator[list[float]]:
    """People who click during the block; after it, the seconds that each page took are in the list.

    They are on other machines, in fact; so here they take only the time that nobody else wants.
    """
    took: list[float] = []
    is_over = multiprocessing.Event()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    people = multiprocessing.Process(target=sit, args=(port, reading_seconds, is_over, sender))
    people.start()
    yield took
    is_over.set()
    took += receiver.recv()
    people.join()


def sit(port: int, reading_seconds: float, is_over: Any, sender: Any) -> None:
    """Click, each person in a thread, until it *is_over*, and send what it took."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    took: list[float] = []

    def click_and_read() -> None:
        while not is_over.wait(random.expovariate(1 / reading_seconds) if reading_seconds else 0):
            took.append(click(port))

    people = [threading.Thread(target=click_and_read, daemon=True) for _ in range(PEOPLE)]
    for each in people:
        each.start()
    for each in people:
        each.join()
    sender.send(took)


class PlainPage(BaseHTTPRequestHandler):
    """Answers each request with the same page."""

    def do_GET(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def do_POST(self) -> None:
        """Answer."""
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def plain_pages() -> Iterator[int]:
    """The port of a server that has nothing to do for a page, and takes only the time that nobody else wants."""

    def serve() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        server.serve_forever()

    with HTTPServer(("127.0.0.1", 0), PlainPage) as server:
        process = multiprocessing.get_context("fork").Process(target=serve)
        process.start()
        yield server.server_address[1]
        process.terminate()
        process.join()


@contextmanager
def counting() -> Iterator[None]:
    """A program that counts during the block, and takes only the time that nobody else wants."""

    def count() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        number = 0
        while True:
            number += 1

    process = multiprocessing.get_context("fork").Process(target=count)
    process.start()
    yield
    process.terminate()
    process.join()


def wait_for_pages(port: int) -> None:
    """Return when the pages are there."""
    until = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < until:
        try:
            click(port)
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the pages do not answer")


def print_first_view(port: int) -> None:
    """How soon Chromium shows the first page, when it has never been there; and a word of plain text, the least."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("no playwright: the first view is not measured")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        views: dict[str, list[tuple[float, float, float]]] = {"healthz": [], "": []}
        for path in [*views] * (VIEWS + 1):  # in turn
            views[path].append(first_view(browser, f"http://127.0.0.1:{port}/{path}"))
        for what, of_path in zip(("a word", "the first page"), views.values(), strict=True):
            begun, fetched, paint = map(statistics.median, zip(*of_path[1:], strict=True))  # its own first is slower
            print(
                f"first view of {what}: begins to come after {begun:.0f} ms, fetched after {fetched:.0f} ms, painted "
                f"after {paint:.0f} ms"
            )
        print("(wanted: 100 ms at most)")
        browser.close()


def first_view(browser: Any, url: str) -> tuple[float, float, float]:
    """After how many milliseconds the first byte of *url* comes to a new visitor, all that it needs, and is seen.

    The browser is left alone before: what it does for a new window is no part of a view.
    """
    page = browser.new_context().new_page()
    page.wait_for_timeout(SETTLE_MS)
    page.goto(url, wait_until="load")
    paint = page.evaluate(
        "new Promise(seen => new PerformanceObserver("
        "list => list.getEntriesByName('first-contentful-paint').forEach(each => seen(each.startTime))"
        ").observe({type: 'paint', buffered: true}))"
    )
    begun, fetched = page.evaluate(
        "[performance.getEntriesByType('navigation')[0].responseStart,"
        " Math.max(...['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))"
        ".filter(each => !each.name.includes('icon')).map(each => each.responseEnd))]"
    )
    page.context.close()
    return begun, fetched, paint


def main() -> None:
    """Print the figures of each round, and the median of their ratios."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    typed = parser.parse_args()
    print_machine(typed.rounds)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            port = free_port()
            server = bench.start_policyd(ROWS, http_port=port)
            wait_for_pages(port)
            bench.load(server, Load(rate=REFUSALS // 2, seconds=3, rejected_percent=100))  # so many are kept, then
            most = bench.load(server, Load(seconds=typed.seconds, rejected_percent=10))["rps"]
            half = Load(rate=int(most / 2), seconds=typed.seconds, rejected_percent=10)
            print(f"at most {most:.0f} answers a second; {half.rate} are asked for, with {PEOPLE} people or none")
            for who, reading_seconds in READING_SECONDS.items():
                rounds, pages = [], []
                for _ in range(typed.rounds):
                    before = bench.load(server, half)["p99"]
                    with counting():
                        beside = bench.load(server, half)["p99"]
                    with plain_pages() as plain, clicking(plain, reading_seconds):
                        elsewhere = bench.load(server, half)["p99"]
                    with clicking(port, reading_seconds) as took:
                        during = bench.load(server, half)["p99"]
                    rounds.append((before, beside, elsewhere, during))
                    pages += took
                    print(
                        f"p99 of answers: {before:.0f} µs before, {beside:.0f} µs beside a program that counts, "
                        f"{elsewhere:.0f} µs with {who} at pages that cost nothing, {during:.0f} µs with {who}"
                    )
                controls = ("before (wanted: 1.2)", "beside a program that counts", "at pages that cost nothing")
                for at, what in enumerate(controls):
                    ratio = statistics.median(during / of[at] for *of, during in rounds)
                    print(f"median with {who}: {ratio:.2f} times that {what}")
                told = f"{statistics.median(pages) * 1000:.0f} ms, {max(pages) * 1000:.0f} ms at most"
                print(f"{len(pages)} pages took {told}")
            print_first_view(port)
        finally:
            bench.close()


if __name__ == "__main__":
    main()

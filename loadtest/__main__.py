"""`python -m loadtest SHAPE --url URL`: locust on this project's locustfile.

Everything behind the shape is locust's own options or the load test's; `--web` shows locust's page.
"""

import sys

from loadtest.command_line import locust_words


def main() -> None:
    """Become locust."""
    sys.argv = ["locust", *locust_words(sys.argv[1:])]
    # Importing it replaces the standard library's sockets by gevent's: before anything uses them.
    from locust.main import main as locust_main

    locust_main()


if __name__ == "__main__":
    main()

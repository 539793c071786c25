"""How good an adapter is: what is asked of it, how answers are judged. Knows no server."""
